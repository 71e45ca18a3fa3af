"""The command `python -m train.figures`."""

import sys

from train.figures.command import main

if __name__ == "__main__":
    sys.exit(main())
