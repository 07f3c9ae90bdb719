"""Whether this machine has what torch.compile calls: a C++ compiler and Python's headers. Imports no torch."""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

NAMES = {"darwin": "clang++", "win32": "cl"}  # what torch takes, unless CXX says another


def lacking() -> str | None:
    """One sentence on what loop.compile=true does not find here, and what mends it."""
    named = os.environ.get("CXX")
    compiler = named or NAMES.get(sys.platform, "g++")
    if shutil.which(compiler) is None:
        where = f"CXX={compiler} is no program here" if named else f"there is no {compiler} on this machine"
        return f"loop.compile=true needs a C++ compiler, and {where}: install one (apt-get install g++), or leave it out."
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
        return "loop.compile=true needs Python's headers, and Python.h is not here: apt-get install python3-dev, or leave it out."
    return None
