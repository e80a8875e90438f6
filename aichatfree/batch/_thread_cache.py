"""Threads that are kept for a moment: in a worker, the next shard wants as many again."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Final

from .._forks import renew_after_fork

Work = Callable[[], None]


class Crew:
    """Does each piece of work in a thread of its own, one that is idle if there is any.

    Starting 16 threads for 64 short answers costs a fifth of these. Idle ones, daemons all, end
    after ``LINGER`` seconds.
    """

    LINGER = 1.0

    def __init__(self) -> None:
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._idle = 0  # threads that wait for work which is not there yet
        self._given: queue.SimpleQueue[Work] = queue.SimpleQueue()

    def do(self, work: Work) -> None:
        """Begin it; raises RuntimeError if the system has no thread for it."""
        with self._lock:
            if self._idle > 0:
                self._idle -= 1
                self._given.put(work)
                return
        first = [work]
        threading.Thread(
            target=self._run, args=(first,), name="aichatfree-batch", daemon=True
        ).start()

    def _run(self, first: list[Work]) -> None:
        # A thread keeps its arguments to its end, but what a work refers to is to be let go of.
        work: Work | None = first.pop()
        while work is not None:
            work()
            work = None
            work = self._next()

    def _next(self) -> Work | None:
        with self._lock:
            self._idle += 1
        try:
            return self._given.get(timeout=self.LINGER)
        except queue.Empty:
            pass
        with self._lock:
            try:
                return self._given.get_nowait()  # somebody counts on it
            except queue.Empty:
                self._idle -= 1
                return None


CREW: Final = Crew()
