"""YAML files of the project, read ten times faster where PyYAML was built with libyaml."""

from typing import Any

import yaml

LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse(text: str) -> Any:
    """What a YAML text says; None for an empty one. Raises yaml.YAMLError."""
    return yaml.load(text, LOADER)
