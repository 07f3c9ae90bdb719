"""What the classes of each image data set are called: two sets that share a name share a class."""

from maskbench.data.images import letters

DIGITS = tuple(f"digit {i}" for i in range(10))
NAMES: dict[str, tuple[str, ...]] = {
    "mnist": DIGITS,
    "svhn": DIGITS,
    letters.NAME: tuple(f"letter {letter}" for letter in letters.LETTERS),
    "fashion_mnist": ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "cifar100": tuple(
        "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle "
        "caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant "
        "flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man "
        "maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree "
        "plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail "
        "snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout "
        "tulip turtle wardrobe whale willow_tree wolf woman worm".split()
    ),
}


def names(data: str) -> tuple[str, ...]:
    """The classes of a data set; one that is not known here has classes of its own."""
    return NAMES.get(data) or (f"any class of {data}",)
