"""The threads that answer the items of a batch."""

from __future__ import annotations

import heapq
import math
import queue
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, NamedTuple, Protocol

from ._records import BatchResult, Item
from ._thread_cache import CREW

NOTICE: Final = 0.2
"""Seconds of a wait at a time: a Ctrl-C just before an endless one is noticed only at its end."""


def wait_in_pieces(waits: Iterable[Callable[[float], bool]], timeout: float | None) -> None:
    """Wait for one after the other, for so many seconds in all, or without an end.

    Args:
        waits: each waits for as many seconds as it is told, and says whether that was enough.
        timeout: seconds at most.
    """
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    for wait in waits:
        while (left := deadline - time.monotonic()) > 0 and not wait(min(left, NOTICE)):
            pass


class PutBy(NamedTuple):
    """The site wants an item again, but not before so many seconds have passed."""

    seconds: float


Outcome = tuple[Item, BatchResult | BaseException | None]
"""An item, and its result, or ``None`` if it was not done, or what broke the whole run."""


class Pool(Protocol):
    """Where items are answered: threads of this process, or an executor's workers."""

    @property
    def capacity(self) -> int:
        """How many items it can have in hand at once."""
        ...

    def submit(self, item: Item) -> None:
        """Have one item answered; does not block."""
        ...

    def flush(self) -> None:
        """Nothing more is coming for now: begin what was put by."""
        ...

    def get(self, timeout: float) -> list[Outcome]:
        """Wait for outcomes; none if there were none in time (seconds)."""
        ...

    def stop(self) -> None:
        """Send nothing more; what is under way goes on."""
        ...

    def cancel(self) -> None:
        """Break off what is under way."""
        ...

    def close(self, timeout: float | None = None) -> None:
        """Wait for what is under way, for so many seconds at most; may be called again.

        Call ``stop`` or ``cancel`` first, unless everything is done.
        """
        ...


class Threads:
    """Answers items in threads of this process, as many as are needed.

    Args:
        answer: answers one item; ``None`` if the run was stopped before it could. An item that
            is put by comes up again in time, and holds no thread until then.
        max_workers: threads at most.
        stopping: set when nothing more is to be sent.
        cancel_all: breaks off what is under way.
    """

    def __init__(
        self,
        answer: Callable[[Item], BatchResult | PutBy | None],
        max_workers: int,
        stopping: threading.Event,
        cancel_all: Callable[[], None],
    ) -> None:
        self._answer = answer
        self._max_workers = max_workers
        self._stopping = stopping
        self._cancel_all = cancel_all
        self._items: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._at_work: list[threading.Event] = []  # of each thread, set when it has left
        self._put_by: list[tuple[float, int, Item]] = []  # a heap: when, index, item
        self._put_by_lock = threading.Lock()
        # Enough that one slow item at the head of ordered results does not idle the others.
        self.capacity: int = 16 * max_workers

    def submit(self, item: Item) -> None:
        self._items.put(item)
        if len(self._at_work) < self._max_workers:
            left = threading.Event()
            try:
                CREW.do(partial(self._work, left))
            except RuntimeError:  # the system has no more threads; those that there are go on
                if not self._at_work:
                    raise
                self._max_workers = len(self._at_work)
            else:
                self._at_work.append(left)

    def flush(self) -> None:
        """Threads put nothing by."""

    def get(self, timeout: float) -> list[Outcome]:
        self._bring_back()
        try:
            outcomes = [self._outcomes.get(timeout=timeout)]
            while not self._outcomes.empty():
                outcomes.append(self._outcomes.get_nowait())
        except queue.Empty:
            return []
        return outcomes

    def _bring_back(self) -> None:
        """Queue again what was put by, when its time has come or nothing will be sent any more."""
        if not self._put_by:
            return
        now = math.inf if self._stopping.is_set() else time.monotonic()
        with self._put_by_lock:
            while self._put_by and self._put_by[0][0] <= now:
                self._items.put(heapq.heappop(self._put_by)[2])

    def stop(self) -> None:
        self._stopping.set()

    def cancel(self) -> None:
        self._stopping.set()
        self._cancel_all()

    def close(self, timeout: float | None = None) -> None:
        self._bring_back()
        for _ in self._at_work:
            self._items.put(None)
        # A thread that is connecting cannot be interrupted; it is a daemon.
        wait_in_pieces([left.wait for left in self._at_work], timeout)

    def _work(self, left: threading.Event) -> None:
        try:
            self._answer_items()
        finally:
            left.set()

    def _answer_items(self) -> None:
        while (item := self._items.get()) is not None:
            outcome: BatchResult | PutBy | BaseException | None = None
            if not self._stopping.is_set():
                try:
                    outcome = self._answer(item)
                except BaseException as error:
                    outcome = error
            if isinstance(outcome, PutBy):
                with self._put_by_lock:
                    due = time.monotonic() + outcome.seconds
                    heapq.heappush(self._put_by, (due, item.index, item))
            else:
                self._outcomes.put((item, outcome))
