"""`python -m simulator.bench`."""

import sys

from simulator.bench.command import main

if __name__ == "__main__":
    sys.exit(main())
