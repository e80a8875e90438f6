"""Deadlines that a socket's own timeout cannot keep."""

from __future__ import annotations

import math
import threading
import time
from typing import Generic, Protocol, TypeVar


class Watched(Protocol):
    """Something with a deadline that can be interrupted from another thread."""

    deadline: float

    def interrupt(self) -> None:
        """Make the thread that waits for it stop waiting; must not block."""


W = TypeVar("W", bound=Watched)


class Watchdog(Generic[W]):
    """Interrupts whatever is past its deadline, where a socket's own timeout cannot.

    A socket's timeout is for each read: a byte now and then passes it for ever. One daemon thread
    serves all exchanges; it is there only while there are some, and for ``LINGER`` seconds more.
    """

    LINGER = 1.0  # seconds

    def __init__(self) -> None:
        self._watched: set[W] = set()
        self._wake_at = math.inf
        self._thread: threading.Thread | None = None
        # Entered by itself: a Ctrl-C within Condition's own methods can leave it locked. Reentrant,
        # because the handler of a signal may close the client.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)

    def watch(self, watched: W) -> int:
        """Interrupt it when its ``deadline``, which may move later meanwhile, has passed.

        Returns:
            How many are watched now.
        """
        with self._lock:
            self._watched.add(watched)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="aichatfree-watchdog", daemon=True)
                try:
                    thread.start()
                except BaseException:
                    self._watched.discard(watched)
                    raise
                # Only now: it waits for the lock, and one that has not begun cannot be joined.
                self._thread = thread
            elif watched.deadline < self._wake_at:
                self._changed.notify()
            return len(self._watched)

    def unwatch(self, watched: W) -> None:
        """Forget it."""
        with self._lock:
            self._watched.discard(watched)

    def stop(self) -> None:
        """End the thread; what is watched is not interrupted any more."""
        with self._lock:
            self._watched.clear()
            thread, self._thread = self._thread, None
            self._changed.notify()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=self.LINGER)

    def _run(self) -> None:
        idle_since = math.inf
        with self._lock:
            while self._thread is threading.current_thread():
                now = time.monotonic()
                for overdue in [w for w in self._watched if w.deadline <= now]:
                    self._watched.discard(overdue)
                    overdue.interrupt()
                idle_since = math.inf if self._watched else min(idle_since, now)
                if now >= idle_since + self.LINGER:
                    self._thread = None
                    return
                # Looking again each LINGER is what notices that nothing is left to watch.
                soonest = min((w.deadline for w in self._watched), default=math.inf)
                self._wake_at = min(soonest, now + self.LINGER)
                self._changed.wait(self._wake_at - now)
