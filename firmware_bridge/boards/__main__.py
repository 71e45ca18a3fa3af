"""`python -m firmware_bridge.boards`: the boards, and what is missing to use them."""

from __future__ import annotations

import sys

from firmware_bridge.boards import BOARDS, TCP
from firmware_bridge.boards.remote import Remote


def main() -> int:
    """Always 0: a board that is not ready is no mistake."""
    for name, kind in BOARDS.items():
        missing = kind.missing()
        print(f"{name:16} {kind.about}" + (f"; missing: {missing}" if missing else ""))
    print(f"{TCP + 'HOST:PORT':16} {Remote.about}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
