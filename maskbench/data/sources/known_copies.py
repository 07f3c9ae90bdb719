"""What is known of image sets that come as copies: classes, counts, and hashes of their content (content.py). No torch."""

from maskbench.data.sources.content import Facts

CIFAR10 = Facts(
    title="CIFAR-10",
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    counts={"train": (5000,) * 10, "test": (1000,) * 10},
    places=("cifar10", "CIFAR10", "CIFAR-10", "cifar-10"),
    content={
        "train": "d69f6bc734dd3680ae024f0d58169818e7b3fd4b823b2a6401fc56803ac2a42c",
        "test": "9de88ce90c978741e3f71e4913942e7be66c4425c66ae1c60703c3d598f21a7c",
    },
    hashes="cifar10.hashes",
    also={"plane": 0, "car": 1},
)
CIFAR100 = Facts(
    title="CIFAR-100",
    classes=tuple(
        "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle "
        "caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant "
        "flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man "
        "maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree "
        "plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail "
        "snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout "
        "tulip turtle wardrobe whale willow_tree wolf woman worm".split()
    ),
    counts={"train": (500,) * 100, "test": (100,) * 100},
    places=("cifar100", "CIFAR100", "CIFAR-100", "cifar-100"),
    content={  # 49,995 of the 50,000 training images are different ones
        "train": "2b6ae1c79b43a7819454da74a98bc697e24da851cdd84cdbc75bf311f563292e",
        "test": "461487f7f4b1c1c08f63041449b3b8a86197a002f775a58980754eb8275388ff",
    },
    hashes="cifar100.hashes",
)
SVHN = Facts(
    title="SVHN",
    classes=tuple("0123456789"),
    counts={
        "train": (4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659),
        "test": (1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595),
    },
    places=("SVHN", "svhn"),
    also={"10": 0},  # as its own files label the digit 0
)
