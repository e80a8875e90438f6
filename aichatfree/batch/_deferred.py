"""The prompts of a batch that are to be sent again."""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from .._prompt_rejections import PromptRejections
from ._prompts import Item

MAX_CONSIDERED: Final = 4
"""Items that are considered at a time, because each takes a tenth of a millisecond."""


class DeferredItems:
    """The items of a batch that were rejected, until each may be sent again.

    An item is deferred for some seconds and, as long as the batch has others to send, until enough
    of them were answered: then another rejection is the item's own, not the site's limit. Meanwhile
    it occupies no thread. So a few prompts that are always rejected do not keep the others from
    showing what the site accepts.

    Args:
        answers_needed: how many more answers that takes for a prompt with these rejections.
    """

    def __init__(self, answers_needed: Callable[[PromptRejections], int]) -> None:
        self._answers_needed = answers_needed
        # Guards the two below. Do not block while holding it.
        self._lock = threading.Lock()
        self._waiting: list[tuple[float, int, Item]] = []  # a heap: clock time, index, item
        self._due: deque[Item] = deque()  # those whose time has come

    def add(self, item: Item, until: float) -> None:
        """Defer an item until this clock time at least."""
        with self._lock:
            heapq.heappush(self._waiting, (until, item.index, item))

    def next(self, now: float, *, has_others: bool = True) -> Item | None:
        """Remove and return an item that may be sent again at this clock time, or ``None``.

        Args:
            now: the clock time.
            has_others: whether the batch has other items to send at present.
        """
        if not self._waiting and not self._due:  # the usual case
            return None
        with self._lock:
            while self._waiting and self._waiting[0][0] <= now:
                self._due.append(heapq.heappop(self._waiting)[-1])
            considered = [self._due.popleft() for _ in range(min(len(self._due), MAX_CONSIDERED))]
        ready = (n for n, item in enumerate(considered) if not (has_others and self._needs(item)))
        found = next(ready, None)
        item = None if found is None else considered.pop(found)
        with self._lock:
            self._due.extend(considered)
        return item

    def _needs(self, item: Item) -> bool:
        return self._answers_needed(item.rejections) > 0
