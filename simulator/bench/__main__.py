"""`python -m simulator.bench`."""

import sys

from simulator.bench.command import main
from simulator.bench.timing import keep_freed_memory

if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
