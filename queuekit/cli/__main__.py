"""`python -m queuekit.cli`: the command line, where the script `queuekit` is not on the path."""

import sys

from queuekit.cli import main

if __name__ == "__main__":
    sys.exit(main())
