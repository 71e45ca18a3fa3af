"""`python -m firmware_bridge.boards [NAME]`: the boards, and what is missing to use them; or what one of them says."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Iterator, Sequence

from firmware_bridge.boards import BOARDS, CARDS, BoardError, Card, open_board
from firmware_bridge.boards.linked import BAUD, Linked
from firmware_bridge.boards.remote import SCHEME, Remote
from firmware_bridge.link import LinkError
from simulator import compiled


def main(arguments: Sequence[str] | None = None) -> int:
    """0; 2 if the board that is asked for does not answer. In the list a board that is not ready is no mistake."""
    parser = argparse.ArgumentParser("python -m firmware_bridge.boards", description="Boards that networks can run on.")
    parser.add_argument("name", nargs="?", help="ask this one (a name, or its address)")
    parser.add_argument("--packages", action="store_true", help="print the Debian packages that are missing, no more")
    options = parser.parse_args(arguments)
    if options.packages:
        print(*sorted({package for kind in BOARDS.values() for package in kind.packages()}))
        return 0
    if options.name is None:
        try:
            print("\n".join(listed()), flush=True)
        except BrokenPipeError:  # `| head` has seen enough
            sys.stderr.close()
        return 0
    try:
        with open_board(options.name) as board:
            print(f"{board.name}: {board.about}")
            print(f"clock     {board.clock}")
            if isinstance(board, Linked):
                hello = board.link.hello
                print(f"firmware  {hello.build.rstrip(bytes(1)).decode(errors='replace')}, protocol {hello.version}")
                print(f"room      {hello.room:,} bytes for plan, picture and work")
                print(f"frames    of up to {hello.most_body:,} bytes")
                print(f"ticks     {hello.ticks_per_second:,} a second")
                counted = board.link.statistics()
                print(
                    "link      " + ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in counted.items())
                )
            elif isinstance(board, Card):
                missing = board.missing()
                print(f"card      {f'missing: {missing}' if missing else 'its driver works'}")
                print(f"bodies    {_bodies(board)}")
                print(f"power     {board.recording().source or board.recording().missing}")
    except (BoardError, LinkError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _bodies(card: Card) -> str:
    """What was compiled, where the card looks for it."""
    folders = sorted(body.folder.name for body in compiled.find(None, card.models))
    return f"{len(folders)} in {card.models}" + (f": {', '.join(folders[:8])}" if folders else "")


def listed() -> Iterator[str]:
    """A line for each kind of board, with what is missing for it."""
    for name, kind in BOARDS.items():
        missing = kind.missing()
        yield f"{name:26} {kind.about}" + (f"; missing: {missing}" if missing else "")
    yield f"{SCHEME + 'HOST:PORT':26} {Remote.about}"
    missing = "" if importlib.util.find_spec("serial") else "; missing: pip install pyserial"
    yield f"{f'serial:///DEV?baud={BAUD}':26} a microcontroller with firmware/link at a serial port{missing}"
    for scheme, card in CARDS.items():
        missing = card.missing()
        yield f"{f'{scheme}://N':26} {card.about}" + (f"; missing: {missing}" if missing else "")


if __name__ == "__main__":
    sys.exit(main())
