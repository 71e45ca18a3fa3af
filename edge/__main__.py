"""`python -m edge` is `edge-restore`."""

import sys

from edge.cli import main

sys.exit(main())
