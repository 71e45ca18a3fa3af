"""The list of pictures, found while they are restored: memory and the time to the first do not grow with their number.

Of a folder its images are taken, with `recursive` those of the folders below as well; links to files are followed,
links to folders are not; hidden names are passed over. What is no image is counted, and the first few are named.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from edge.archive.names import below, common_folder, in_shard, upwards
from edge.archive.places import FILE, FOLDER, PATTERN, Entry, Top, Unlisted, place_of
from edge.archive.work import LISTED, Done, Work, failed
from edge.errors import UserError
from edge.sinks import target_name
from edge.sources.images import LeftOut
from edge.terminal import is_url
from simulator.files import reason


class Listing:
    """The pictures of several SOURCEs; iterate once. `left_out` counts what was no image, `found` the pictures."""

    def __init__(
        self,
        sources: Sequence[str],
        out: str | None = None,
        *,
        recursive: bool = False,
        shard: tuple[int, int] | None = None,
        look: bool = True,
    ) -> None:
        """out: the output folder. shard: (one share, from 1, of so many). look: whether `Work.there` is wanted.

        Raises UserError for a SOURCE that is not there, or an output that is one of them.
        """
        self.left_out = LeftOut()
        self.found = 0
        self._recursive, self._shard = recursive, shard
        self._place = place_of(sources[0])
        if any(place_of(source) is not self._place for source in sources):
            raise UserError(
                "the SOURCEs lie in different places; restore those of each store and of this machine apart."
            )
        tops = map(self._place.top, dict.fromkeys(sources))
        # Each once, however its path is written; of addresses no two are known to be the same.
        self._tops = list({(top.path if is_url(top.path) else top.whole, top.pattern): top for top in tops}.values())
        self._root = common_folder([top.whole if top.kind != FILE else _folder(top.whole) for top in self._tops])
        self._out = out if out is None or is_url(out) else os.path.abspath(os.path.expanduser(out))
        self._out_place = None if self._out is None else place_of(self._out)
        self._look_beside = self._place.looks()
        # Where looking costs a request, it is done only for those who want to know.
        looks = look or not is_url(self._out or "")
        self._look = self._out_place.looks() if self._out_place is not None and looks else None
        self._check()

    def __iter__(self) -> Iterator[Work | Done]:
        """Each picture, and in its place what of the list could not be had."""
        without = self._out if self._out_place is self._place else None
        # What a pattern matches may be in another SOURCE as well; else no two have a picture in common.
        patterns = any(top.kind == PATTERN for top in self._tops)
        seen: set[str] | None = set() if patterns and len(self._tops) > 1 else None
        for top in self._tops:
            for entry in self._place.entries(top, self._recursive, without, self.left_out):
                name = self._name(top, entry.path)
                if seen is not None:
                    if name in seen:
                        continue
                    seen.add(name)
                if isinstance(entry, Unlisted):
                    yield failed(Work(name, entry.path, None), LISTED, entry.reason)
                    continue
                self.found += 1
                if _astray(name):
                    text = f"{self._place.label(entry.path)} has a name that is no way below a folder; rename it."
                    yield failed(Work(name, entry.path, None), LISTED, text)
                    continue
                if self._shard is None or in_shard(name, *self._shard):
                    yield self._work(name, top, entry)

    def _check(self) -> None:
        if all(top.kind != FOLDER for top in self._tops):
            return  # of very many files it takes a while to find out where they really are
        places = [(top, _real(top.whole)) for top in self._tops]
        folders = {place.rstrip("/"): top for top, place in places if top.kind == FOLDER}
        out = None if self._out_place is not self._place or self._out is None else _real(self._out)
        for top, place in places:
            for above in upwards(place):
                other = folders.get(above, top)
                if other is not top and (self._recursive or (top.kind == FILE and above == _folder(place))):
                    raise UserError(
                        f"{self._place.label(top.path)} lies in {self._place.label(other.path)}, which is a SOURCE as"
                        " well; give one of the two."
                    )
            if out is not None and top.kind == FOLDER and below(place, out):
                raise UserError(
                    f"--out {self._out} holds the pictures of {self._place.label(top.path)}, which would be"
                    " overwritten; choose a folder beside it or in it."
                )

    def _name(self, top: Top, path: str) -> str:
        """Its way below the folder that all have in common."""
        rest = path[len(top.path) :].removeprefix("/").removesuffix("/")
        whole = f"{top.whole.rstrip('/')}/{rest}" if rest and top.kind != FILE else top.whole
        return whole[len(self._root) :].removeprefix("/") or "."

    def _work(self, name: str, top: Top, entry: Entry) -> Work | Done:
        if self._out is None or self._out_place is None:
            return Work(name, entry.path, None, entry.size, entry.stamp)
        beside = _folder(entry.path)
        target = target_name(name, lambda other: self._stands(f"{beside}/{other.rpartition('/')[2]}"))
        target = f"{self._out.rstrip('/')}/{target}"
        try:
            there = None if self._look is None else self._look(target)
        except OSError as error:
            label = self._out_place.label(target)
            return failed(Work(name, entry.path, target), LISTED, f"{label} cannot be looked up: {reason(error)}.")
        if there is not None and entry.identity is not None and there[1] == entry.identity:
            text = f"{entry.path} is read by this run and would be overwritten; choose another output."
            return failed(Work(name, entry.path, target), LISTED, text)
        return Work(name, entry.path, target, entry.size, entry.stamp, None if there is None else there[0])

    def _stands(self, address: str) -> bool:
        try:
            return self._look_beside(address) is not None
        except OSError:
            return False


def _astray(name: str) -> bool:
    """Whether a name, as a server gives it, would leave the output folder, or stand for another's."""
    return "\0" in name or not {"", ".", ".."}.isdisjoint(name.split("/"))


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _real(address: str) -> str:
    return address if is_url(address) else os.path.realpath(address)
