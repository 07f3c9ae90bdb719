"""How many classes each image data set has: known before any of its files is read. Imports nothing."""

CLASSES = {
    "mnist": 10,
    "fashion_mnist": 10,
    "cifar10": 10,
    "cifar100": 100,
    "svhn": 10,
    "faces": 40,
    "animals": 10,
    "emoji": 9,
    "synthetic": 10,
    "synthetic_other": 10,
    "synthetic_cifar10": 10,
    "synthetic_cifar100": 100,
}
