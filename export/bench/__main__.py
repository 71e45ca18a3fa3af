"""`python -m export.bench`."""

import sys

from export.bench.command import main
from export.bench.timing import keep_freed_memory

if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
