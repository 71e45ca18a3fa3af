"""Several pictures under way at once, for what computes elsewhere: they come out in order."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn, TypeVar

Item = TypeVar("Item")
Wanted = TypeVar("Wanted")
Made = TypeVar("Made")


def under_way(
    items: Iterator[Item], kind: type[Wanted], make: Callable[[Wanted], Made], ahead: int
) -> Iterator[tuple[Item, Callable[[], Made]]]:
    """The items, in order, each with what gives `make(item)` or raises its error; to be called for those of `kind`.

    ahead: so many are made in threads at once; 1: each is made by whoever asks, when it is asked for.
    """
    if ahead == 1:
        for item in items:
            yield item, functools.partial(make, item)  # type: ignore[arg-type]  # not called for other kinds
        return
    threads = ThreadPoolExecutor(ahead, thread_name_prefix="picture")
    waiting: deque[tuple[Item, Callable[[], Made]]] = deque()
    try:
        for item in items:
            made: Callable[[], Made] = _nothing
            if isinstance(item, kind):
                made = threads.submit(make, item).result
            waiting.append((item, made))
            if len(waiting) >= ahead:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def _nothing() -> NoReturn:
    raise TypeError("there is nothing to be made of this item")
