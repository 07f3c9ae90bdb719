"""What runs are forked with: whose code it is, then every module, so that no fork imports what was changed since (forks.py)."""

import pkgutil
from importlib import import_module

import maskbench
from maskbench.common import closure, provenance

provenance.imported()
closure.hold()
for module in pkgutil.walk_packages(maskbench.__path__, "maskbench."):
    if not module.name.endswith("__main__"):
        import_module(module.name)
