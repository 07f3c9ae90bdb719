"""One command line of maskbench in a process of the `program` fixture, which sets words, folder, log, out and env."""
# ruff: noqa: F821 - the names it is given

import os
import sys
from pathlib import Path

from maskbench.cli.main import main

words: list[str]
folder: Path
log: Path
out: Path
env: dict[str, str]

os.environ.update(env)
os.chdir(folder)
for stream, path in ((1, out), (2, log)):
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
sys.argv = ["maskbench", *words]
sys.exit(main())
