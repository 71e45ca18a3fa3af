"""`python -m train.degradations`."""

import sys

from train.degradations.command import main

if __name__ == "__main__":
    sys.exit(main())
