"""Time limits and cancellation: what one call allows itself, and the thread that enforces it."""

from __future__ import annotations

import math
import threading
import time
import weakref
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from .errors import APIError, APITimeoutError, StreamInterruptedError

_FOR_EVER: Final = 100_000_000  # seconds; three years


@dataclass(frozen=True)
class Timeout:
    """Time limits in seconds; ``None`` is no limit.

    >>> aichatfree.Timeout(read=120, total=600)
    Timeout(connect=10, read=120, total=600)
    >>> print(client.generate("Name a river.", timeout=aichatfree.Timeout(total=30)))
    The Nile.

    Attributes:
        connect: to reach the site: each address it has, and the TLS handshake.
        read: the longest silence, before the answer begins and within it.
        total: the whole call, with all its retries and the waits between them; in a batch, from
            the moment on when the prompt's first request may leave.
    """

    connect: float | None = 10
    read: float | None = 60
    total: float | None = None

    def __post_init__(self) -> None:
        for name in ("connect", "read", "total"):
            seconds = getattr(self, name)
            if seconds is None:
                continue
            if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
                raise TypeError(f"Timeout({name}=...) takes seconds, not {type(seconds).__name__}")
            if not seconds > 0:
                raise ValueError(f"Timeout({name}={seconds}) must be more than 0 seconds")
            if seconds > _FOR_EVER:
                object.__setattr__(self, name, None)


TimeLimit: TypeAlias = Timeout | float


class Call:
    """What one call of the user has left over all its attempts, and whether it is still wanted."""

    def __init__(self, timeout: Timeout, stop: threading.Event | None = None) -> None:
        """``stop`` ends the waits of many calls, and lets those that are under way go on."""
        self.timeout = timeout
        self.cancelled: threading.Event = threading.Event()
        self.stop: threading.Event = self.cancelled if stop is None else stop
        self.attempts: int = 0
        self.patience: float = math.inf  # seconds from the start on in which another turn may come
        self._watched: Watched | None = None
        self._lock = threading.RLock()  # reentrant: the handler of a signal may cancel
        self._starts_later = False
        self.start()

    def start(self) -> None:
        """Let the total time limit begin now."""
        self.started: float = time.monotonic()
        self.deadline: float = self.started + (self.timeout.total or math.inf)

    def start_with_first_turn(self) -> None:
        """Let the total time limit begin when the first request may leave.

        In a batch hundreds stand in line for a slow site; that time is not theirs to answer for.
        """
        self.deadline = math.inf
        self._starts_later = True

    def turn_has_come(self) -> None:
        """A request leaves now."""
        self.attempts += 1
        if self._starts_later:
            self._starts_later = False
            self.start()

    def cancel(self) -> None:
        """Stop the call; from any thread, at once, as often as wanted."""
        self.cancelled.set()
        with self._lock:
            watched = self._watched
        if watched is not None:
            watched.interrupt()

    def sleep(self, seconds: float) -> None:
        """Wait, unless the call is stopped or cancelled meanwhile.

        Raises:
            StreamInterruptedError: it is.
        """
        if self.stop.wait(min(seconds, threading.TIMEOUT_MAX)):
            raise cancelled_error()

    def hold(self, watched: Watched | None) -> None:
        """Name what :meth:`cancel` has to interrupt from now on."""
        with self._lock:
            self._watched = watched
        if watched is not None and self.cancelled.is_set():
            watched.interrupt()

    def check(self) -> None:
        """Raise if nothing more is to be sent: it was cancelled, or its time is up."""
        if self.cancelled.is_set() or self.stop.is_set():
            raise cancelled_error()
        if time.monotonic() >= self.deadline:
            raise self.overdue_error()

    def overdue_error(self) -> APITimeoutError:
        """The error for a total time limit that ran out."""
        return APITimeoutError(
            f"The call was not finished within its total of {self.timeout.total:g} s. Allow more "
            "with timeout=Timeout(total=...)."
        )


class OpenCalls:
    """The calls that somebody may still wait for.

    Plain weak references and not a ``WeakSet``: a Ctrl-C in one of its callbacks would be lost.
    """

    def __init__(self) -> None:
        self._calls: list[weakref.ref[Call]] = []
        self._tidy_at = 64
        self._lock = threading.RLock()  # reentrant: the handler of a signal may close the client

    def add(self, call: Call) -> None:
        """From now on :meth:`cancel` cancels it too."""
        with self._lock:
            self._calls.append(weakref.ref(call))
            if len(self._calls) >= self._tidy_at:
                self._calls = [known for known in self._calls if known() is not None]
                self._tidy_at = 64 + 2 * len(self._calls)

    def cancel(self) -> None:
        """Cancel all of them."""
        with self._lock:
            calls = [known() for known in self._calls]
        for call in calls:
            if call is not None:
                call.cancel()


def cancelled_error() -> APIError:
    """The error that a reader gets whose call was cancelled."""
    return StreamInterruptedError("The answer was cancelled before its end.")


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
