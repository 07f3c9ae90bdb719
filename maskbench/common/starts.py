"""Which values of `backbone.init` stand for weights that are there already; given.py has what follows. Imports nothing."""

FILE, RUN, IMAGENET, PUBLISHED = "file:", "run:", "imagenet", "published"
RECIPES = (IMAGENET, PUBLISHED)  # values that stand for the weights of the backbone's recipe


def gives(init: object) -> bool:
    """Whether a value names weights, and no rule that draws them."""
    return isinstance(init, str) and (init.startswith((FILE, RUN)) or init in RECIPES)


def kind(init: str) -> str:
    """Which of FILE, RUN, IMAGENET and PUBLISHED a value is."""
    return next(kind for kind in (FILE, RUN, *RECIPES) if init.startswith(kind))
