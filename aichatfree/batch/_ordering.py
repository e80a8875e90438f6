"""Which result comes next, and which prompts share one: the reorder buffer and the deduplicator."""

from __future__ import annotations

from collections import deque

from ._prompts import Item
from ._results import BatchResult


class ReorderBuffer:
    """Takes results as they are completed and returns them in the order of their prompts.

    Args:
        ordered: whether results have to be in order; otherwise each can be taken at once.
    """

    def __init__(self, ordered: bool) -> None:
        self._ordered = ordered
        self._ready: deque[BatchResult] = deque()
        self._early: dict[int, BatchResult] = {}  # results behind one that is still missing
        self._expected: deque[int] = deque()  # the positions of the results that are missing

    def __bool__(self) -> bool:
        """Whether a result can be taken."""
        return bool(self._ready)

    def expect(self, index: int) -> None:
        """The next result in order will be that of the prompt at this position of the input."""
        if self._ordered:
            self._expected.append(index)

    def add(self, result: BatchResult) -> None:
        """Add the result of a prompt that is expected; each prompt has one at most."""
        if not self._ordered:
            self._ready.append(result)
            return
        self._early[result.index] = result
        while self._expected and self._expected[0] in self._early:
            self._ready.append(self._early.pop(self._expected.popleft()))

    def take(self) -> BatchResult:
        """Remove and return the next result.

        Raises:
            IndexError: there is none.
        """
        return self._ready.popleft()

    def skip_missing(self) -> None:
        """Let all results be taken, in order; the missing ones will not come any more."""
        self._ready.extend(self._early[index] for index in sorted(self._early))
        self._early.clear()


class Deduplicator:
    """Lets one request answer all identical prompts of a run.

    The first of them is sent. Those that come while it is in flight follow it, whether it fails or
    not; later ones reuse its answer, or are sent if it failed. Answers are kept for the whole run.
    """

    def __init__(self) -> None:
        self._answers: dict[str, BatchResult] = {}
        self._followers: dict[str, list[Item]] = {}  # of each prompt in flight

    def answer(self, item: Item) -> BatchResult | None:
        """The result of an identical prompt that was answered before, if there is one."""
        return self._answers.get(item.digest())

    def follow(self, item: Item) -> bool:
        """Let an identical prompt in flight answer this item too.

        Returns:
            Whether there is one; otherwise the item has to be sent.
        """
        digest = item.digest()
        followers = self._followers.get(digest)
        if followers is None:
            self._followers[digest] = []
            return False
        followers.append(item)
        return True

    def finish(self, item: Item, result: BatchResult) -> list[Item]:
        """Note the result of an item that was sent; returns the items that follow it."""
        digest = item.digest()
        if result.ok:
            self._answers[digest] = result
        return self._followers.pop(digest, [])
