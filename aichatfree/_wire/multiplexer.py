"""Waiting for responses: one of the waiting threads reads for all of them."""

from __future__ import annotations

import _thread
import contextlib
import math
import select
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from .._locks import SignalSafeLock

READ: Final = 1
WRITE: Final = 4
"""Events of a socket, numbered as in epoll."""

_UNKNOWN: Final = -1
"""Events of a socket while they are changed."""

_MAX_POLL: Final = 3600.0  # seconds; pollers do not accept arbitrarily long timeouts


class Poller(Protocol):
    """What ``select.epoll`` has: it also notices sockets registered while it polls."""

    def register(self, fd: int, events: int, /) -> None: ...
    def unregister(self, fd: int, /) -> None: ...
    def poll(self, timeout: float, /) -> list[tuple[int, int]]: ...
    def close(self) -> None: ...


class Waiter(Protocol):
    """What a thread waits for; one thread at a time.

    Attributes:
        wake: locked, except when the thread has been woken.
        deadline: when the thread stops waiting (the multiplexer's clock).
    """

    wake: threading.Lock
    deadline: float

    def is_ready(self) -> bool:
        """Whether the thread need not wait any longer."""


class Channel(Protocol):
    """A connection, as the multiplexer sees it.

    Attributes:
        fd: its file descriptor.
        events: what the poller looks for; changed by :meth:`Multiplexer.watch` only.
    """

    fd: int
    events: int

    def on_event(self, events: int, now: float) -> Waiter | None:
        """Read what is there, and return the waiter that may be ready now. It must not block."""

    def shut(self) -> None:
        """Close the socket."""


class Multiplexer:
    """Leader/followers: many threads wait for many connections, without a thread for it.

    A thread that has to wait while nobody polls becomes the *leader*. It polls the sockets of all
    threads, lets each connection read what arrived, and wakes a thread only if what that one waits
    for is there. The other threads are *followers*; they sleep. A leader that has what it waited
    for appoints one of the followers.

    Guarantees:

    - As long as a thread waits, one of them polls. A leader that is interrupted (Ctrl-C, any number
      of times) has a successor appointed.
    - Only the leader reads from a registered socket, and nobody closes a socket that it may be
      reading from: a descriptor is never used for what came to have the same number.
    - A thread is woken no later than its deadline.
    - Nothing is read while nobody waits: the socket's own buffer then slows the site down.

    The races that this avoids:

    1. A follower finds nothing to read. Before it is registered the leader reads its chunk and
       finds nobody to wake; it would sleep for ever. Therefore a thread registers first and looks
       again afterwards, both under the lock, which the leader takes before it looks whom to wake.
    2. Two threads arrive at once and both find no leader. Looking and becoming the leader are one
       step under the lock.
    3. The leader leaves while a thread registers as its follower. Leaving and appointing a follower
       are one step under the lock: the thread is registered and may be appointed, or it finds no
       leader and becomes the leader.
    4. Ctrl-C interrupts the leader after it read something for others and before it woke them. It
       wakes all of them: each looks whether it is ready and waits again if it is not.
    5. Ctrl-C interrupts the appointment of a follower. The old leader stays registered until the
       new one has been woken, and another thread, where Ctrl-C does not raise, repeats the
       appointment.
    6. A thread with an earlier deadline than all others arrives, or one is cancelled, while the
       leader polls until a later time. It writes to a socket pair that the leader polls as well.
    7. A thread closes a connection whose events the leader has already fetched. The connection is
       noted first, and the leader closes it between two polls.
    8. A signal handler interrupts a change, by raising or by closing the same connections. Each
       step of a change can be repeated.

    Args:
        make_poller: makes the poller; ``select.epoll`` where there is one.
        clock: the monotonic clock that deadlines refer to.
    """

    def __init__(
        self,
        make_poller: Callable[[], Poller] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # Guards everything below, and with it which exchange a connection belongs to. Reentrant,
        # because a signal handler may cancel a call or close the client. Must not be held while
        # polling, reading or calling a method of a waiter other than is_ready().
        self.lock: SignalSafeLock = SignalSafeLock()
        self._clock = clock
        self._poller: Poller = (make_poller or _default_poller)()
        self._channels: dict[int, Channel] = {}
        self._followers: dict[Waiter, None] = {}
        self._leader: Waiter | None = None
        # No deadline of a waiter is earlier than this; looking through all of them is rare.
        self._next_check = math.inf
        self._closing: dict[Channel, None] = {}
        self._closed = False
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.setblocking(False)
        self._wake_sender.setblocking(False)
        self._poller.register(self._wake_receiver.fileno(), READ)

    def wait(self, waiter: Waiter) -> None:
        """Return when the waiter is ready or its deadline has passed."""
        try:
            while self._enter(waiter):
                if self._leader is waiter:
                    self._lead(waiter)
                else:
                    waiter.wake.acquire()
            self._leave(waiter)
        except BaseException:
            # Ctrl-C may come again, and raises wherever the main thread calls something. Starting
            # a thread is one call, and nothing raises in there.
            try:
                _thread.start_new_thread(self._leave, (waiter, True))
            except RuntimeError:  # there are too many threads
                self._leave(waiter, interrupted=True)
            raise

    def interrupt(self, waiter: Waiter) -> None:
        """Let the thread look again whether its waiter is ready; from any thread."""
        with self.lock:
            if self._leader is waiter:
                self._wake_leader()
            elif waiter in self._followers:
                _wake(waiter)

    def add(self, channel: Channel) -> None:
        """Begin to watch a connection."""
        with self.lock:
            if self._closed:
                raise ConnectionAbortedError("the client was closed")
            self._channels[channel.fd] = channel
            self.watch(channel, READ)

    def watch(self, channel: Channel, events: int) -> None:
        """Change what the poller looks for; ``0`` to ignore the connection for now."""
        with self.lock:
            if channel.events == events or self._channels.get(channel.fd) is not channel:
                return
            if channel.events:
                channel.events = _UNKNOWN  # until it is certain that nothing interrupted this
                with contextlib.suppress(OSError, KeyError):  # it is not registered
                    self._poller.unregister(channel.fd)
            if events:
                channel.events = _UNKNOWN
                self._poller.register(channel.fd, events)
            channel.events = events
            if isinstance(self._poller, SelectorPoller):
                self._wake_leader()

    def close_channel(self, channel: Channel) -> None:
        """Close a connection: at once, or as soon as the leader is not reading."""
        with self.lock:
            if self._channels.get(channel.fd) is not channel:
                return
            self._closing[channel] = None
            self._forget(channel)
            if self._leader is None:
                self._close_pending()
            else:
                self._wake_leader()

    def close(self) -> None:
        """Accept no connection any more, and close the poller once the last one is closed."""
        with self.lock:
            self._closed = True
            if self._leader is None:
                self._close_pending()

    def abandon(self) -> None:
        """In a forked child: close this process's copies, without touching what the parent uses."""
        self.lock = SignalSafeLock()  # a thread that does not exist here may have held the old one
        channels = [*self._channels.values(), *self._closing]
        self._channels, self._closing, self._followers, self._leader = {}, {}, {}, None
        for channel in channels:
            channel.shut()
        self._closed = True
        self._close_pending()

    def __repr__(self) -> str:
        with self.lock:
            leader = "without a leader" if self._leader is None else "with a leader"
            return f"<Multiplexer {leader}, {len(self._followers)} followers>"

    def _enter(self, waiter: Waiter) -> bool:
        """Register the waiter as the leader or a follower; whether it has to wait at all."""
        with self.lock:
            if self._leader is None:
                self._leader = waiter
            if self._leader is waiter:
                self._followers.pop(waiter, None)
            else:
                self._followers[waiter] = None
            if waiter.is_ready() or waiter.deadline <= self._clock():
                return False
            if waiter.deadline < self._next_check:
                self._next_check = waiter.deadline
                if self._leader is not waiter:
                    self._wake_leader()
            return True

    def _leave(self, waiter: Waiter, interrupted: bool = False) -> None:
        """Forget the waiter; if it is the leader, appoint the follower that came last.

        That one will probably wait for the longest, so that the leader changes rarely.
        """
        with self.lock:
            self._followers.pop(waiter, None)
            if self._leader is not waiter:
                return
            if interrupted:
                for follower in self._followers:
                    _wake(follower)
            self._close_pending()
            if self._followers:
                successor = next(reversed(self._followers))
                _wake(successor)
                self._leader = successor
                del self._followers[successor]
            else:
                self._leader = None
                self._close_pending()

    def _lead(self, own: Waiter) -> None:
        while not own.is_ready() and own.deadline > self._clock():
            self._poll()

    def _poll(self) -> None:
        timeout = min(_MAX_POLL, max(0.0, self._next_check - self._clock()))
        events = self._poller.poll(timeout)
        now = self._clock()
        ready = []
        for fd, event in events:
            channel = self._channels.get(fd)
            if channel is None:
                self._drain(fd)
                continue
            waiter = channel.on_event(event, now)
            if waiter is not None and waiter.is_ready():
                ready.append(waiter)
        if ready or self._closing or now >= self._next_check:
            with self.lock:
                for waiter in ready:
                    if waiter in self._followers:
                        _wake(waiter)
                self._close_pending()
                if now >= self._next_check:
                    self._check_deadlines(now)

    def _check_deadlines(self, now: float) -> None:
        self._next_check = math.inf if self._leader is None else self._leader.deadline
        for follower in self._followers:
            if follower.deadline <= now:
                _wake(follower)
            elif follower.deadline < self._next_check:
                self._next_check = follower.deadline

    def _wake_leader(self) -> None:
        with contextlib.suppress(OSError):  # it is full, or has been closed
            self._wake_sender.send(b"\0")

    def _drain(self, fd: int) -> None:
        if fd == self._wake_receiver.fileno():
            with contextlib.suppress(BlockingIOError):
                self._wake_receiver.recv(4096)

    def _forget(self, channel: Channel) -> None:
        self.watch(channel, 0)
        if self._channels.get(channel.fd) is channel:
            self._channels.pop(channel.fd, None)

    def _close_pending(self) -> None:
        while self._closing:
            channel = next(iter(self._closing))
            self._forget(channel)
            channel.shut()
            self._closing.pop(channel, None)
        if self._closed and self._leader is None and not self._channels:
            self._poller.close()
            self._wake_receiver.close()
            self._wake_sender.close()


class SelectorPoller:
    """A poller for systems without epoll; it has to be woken when a socket is registered."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def register(self, fd: int, events: int, /) -> None:
        self._selector.register(fd, self._mask(events))

    def unregister(self, fd: int, /) -> None:
        self._selector.unregister(fd)

    def poll(self, timeout: float, /) -> list[tuple[int, int]]:
        return [
            (key.fd, sum(event for event in (READ, WRITE) if mask & self._mask(event)))
            for key, mask in self._selector.select(timeout)
        ]

    def close(self) -> None:
        self._selector.close()

    @staticmethod
    def _mask(events: int) -> int:
        read = selectors.EVENT_READ if events & READ else 0
        return read | (selectors.EVENT_WRITE if events & WRITE else 0)


def _default_poller() -> Poller:
    return select.epoll() if hasattr(select, "epoll") else SelectorPoller()


def _wake(waiter: Waiter) -> None:
    """Wake its thread, or let it not sleep next time; under the multiplexer's lock."""
    with contextlib.suppress(RuntimeError):  # it has been woken
        waiter.wake.release()
