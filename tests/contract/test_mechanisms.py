"""The mechanisms by which `make test` chooses its methods: every method has one, so that none is forgotten."""

from collections import Counter

from maskbench.common import identity


def test_every_method_belongs_to_one_mechanism(mechanisms: dict[str, list[str]]) -> None:
    methods = {path.stem for path in (identity.conf_dir() / "method").glob("[!_]*.yaml")}
    assert Counter(name for names in mechanisms.values() for name in names) == Counter(methods)
