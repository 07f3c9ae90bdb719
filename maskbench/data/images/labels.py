"""What the classes of each image data set are called: two sets that share a name share a class."""

from maskbench.data.images import letters
from maskbench.data.sources.known_copies import CIFAR10, CIFAR100
from maskbench.data.sources.small_sets import ANIMALS

DIGITS = tuple(f"digit {i}" for i in range(10))
NAMES: dict[str, tuple[str, ...]] = {
    "mnist": DIGITS,
    "svhn": DIGITS,
    letters.NAME: tuple(f"letter {letter}" for letter in letters.LETTERS),
    "fashion_mnist": ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
    "animals": ANIMALS,
    "cifar10": CIFAR10.classes,
    "cifar100": CIFAR100.classes,
}


def names(data: str) -> tuple[str, ...]:
    """The classes of a data set; one that is not known here has classes of its own."""
    return NAMES.get(data) or (f"any class of {data}",)
