"""Cancelling a call from any thread."""

from __future__ import annotations

import threading
import weakref
from typing import Protocol

from ._locks import SignalSafeLock
from .errors import StreamInterruptedError


class Interruptible(Protocol):
    """Something that a thread may be waiting for."""

    def interrupt(self) -> None:
        """Make that thread stop waiting and look at its call again; must not block."""


class CancelToken(threading.Event):
    """Set once the answer of a call is no longer wanted.

    Setting it also interrupts whatever the call is waiting for, which a plain event cannot do.

    Args:
        stopping: shared by the calls of a batch; set when nothing more is to be sent. It ends the
            waits between requests but leaves responses in flight alone.
    """

    def __init__(self, stopping: threading.Event | None = None) -> None:
        super().__init__()
        # Event's own is not reentrant: a signal handler that sets the token while its thread is
        # setting it, or begins to wait for it, would wait for ever.
        self._cond = threading.Condition(SignalSafeLock())
        self.stopping: threading.Event = self if stopping is None else stopping
        # Guards _target. Reentrant, because a signal handler may cancel the call of its own thread.
        # Never call interrupt() while holding it.
        self._lock = SignalSafeLock()
        self._target: Interruptible | None = None

    def set(self) -> None:
        """Cancel the call; from any thread, any number of times."""
        super().set()
        with self._lock:
            target = self._target
        if target is not None:
            target.interrupt()

    def interrupts(self, target: Interruptible | None) -> None:
        """From now on :meth:`set` interrupts this; at once if it is already set."""
        with self._lock:
            self._target = target
        if target is not None and self.is_set():
            target.interrupt()

    def sleep(self, seconds: float) -> None:
        """Wait between two requests.

        Raises:
            StreamInterruptedError: the call was cancelled or its batch is stopping.
        """
        if self.stopping.wait(min(seconds, threading.TIMEOUT_MAX)):
            raise cancelled_error()

    def check(self) -> None:
        """Raise StreamInterruptedError if nothing more may be sent."""
        if self.is_set() or self.stopping.is_set():
            raise cancelled_error()


class CancelTokens:
    """The tokens of the calls that may still be running, so that closing a client cancels them.

    Plain weak references instead of a ``WeakSet``: a Ctrl-C inside a callback of the latter would
    be lost.
    """

    def __init__(self) -> None:
        # Guards the two attributes below. Reentrant, because a signal handler may close the client.
        # Never cancel a call while holding it.
        self._lock = SignalSafeLock()
        self._tokens: list[weakref.ref[CancelToken]] = []
        self._prune_at = 64

    def add(self, token: CancelToken) -> None:
        """From now on :meth:`cancel_all` cancels this call too."""
        with self._lock:
            self._tokens.append(weakref.ref(token))
            if len(self._tokens) >= self._prune_at:
                self._tokens = [token for token in self._tokens if token() is not None]
                self._prune_at = 64 + 2 * len(self._tokens)

    def cancel_all(self) -> None:
        """Cancel all calls that are still running."""
        with self._lock:
            tokens = [reference() for reference in self._tokens]
        for token in tokens:
            if token is not None:
                token.set()


def cancelled_error() -> StreamInterruptedError:
    """The error that the reader of a cancelled call gets."""
    return StreamInterruptedError("The answer was cancelled before its end.")
