"""`python -m maskbench`: the same program as the console script."""

import sys

from maskbench.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
