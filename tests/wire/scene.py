"""A multiplexer whose poller, clock, connections and waiters are controlled by a test."""

from __future__ import annotations

import math
import queue
import select
import threading
import time
from collections.abc import Callable

from aichatfree._wire.multiplexer import READ, Multiplexer

LIMIT: float = 10.0
"""Seconds after which something that should have happened never will."""


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class FakePoller:
    """Returns the events that a test puts into it, or none once the test's clock has moved on."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.events: queue.SimpleQueue[list[tuple[int, int]] | BaseException] = queue.SimpleQueue()
        self.registered: dict[int, int] = {}
        self.polling = threading.Event()
        self.threads: list[threading.Thread] = []
        self.wake_fd = -1
        self.closed = False

    def register(self, fd: int, events: int, /) -> None:
        if self.wake_fd < 0:
            self.wake_fd = fd
        self.registered[fd] = events

    def unregister(self, fd: int, /) -> None:
        del self.registered[fd]

    def poll(self, timeout: float, /) -> list[tuple[int, int]]:
        self.threads.append(threading.current_thread())
        until = self.clock() + timeout
        self.polling.set()
        while self.clock() < until:
            try:
                events = self.events.get(timeout=0.005)
            except queue.Empty:
                if select.select([self.wake_fd], [], [], 0)[0]:
                    return [(self.wake_fd, READ)]
                continue
            if isinstance(events, BaseException):
                raise events
            return events
        return []

    def close(self) -> None:
        self.closed = True


class FakeWaiter:
    """One that is ready when a test says so."""

    def __init__(self, deadline: float = math.inf) -> None:
        self.wake = threading.Lock()
        self.wake.acquire()
        self.deadline = deadline
        self.ready = False

    def is_ready(self) -> bool:
        return self.ready


class FakeChannel:
    """Makes its waiter ready when there is an event."""

    def __init__(self, fd: int, waiter: FakeWaiter) -> None:
        self.fd = fd
        self.events = 0
        self.waiter = waiter
        self.readers: list[threading.Thread] = []
        self.shut_by: list[threading.Thread] = []
        self.on_read: Callable[[], None] = lambda: None
        self.on_shut: Callable[[], None] = lambda: None

    def on_event(self, events: int, now: float) -> FakeWaiter:
        self.readers.append(threading.current_thread())
        self.on_read()
        self.waiter.ready = True
        return self.waiter

    def shut(self) -> None:
        self.shut_by.append(threading.current_thread())
        on_shut, self.on_shut = self.on_shut, lambda: None
        on_shut()


class Scene:
    """A multiplexer, and threads that wait for channels of it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.poller = FakePoller(self.clock)
        self.multiplexer = Multiplexer(lambda: self.poller, self.clock)
        self.errors: list[BaseException] = []
        self.threads: list[threading.Thread] = []
        self.channels: list[FakeChannel] = []

    def channel(self, deadline: float = math.inf) -> FakeChannel:
        channel = FakeChannel(1000 + len(self.poller.registered), FakeWaiter(deadline))
        self.multiplexer.add(channel)
        self.channels.append(channel)
        return channel

    def wait_in_thread(self, channel: FakeChannel) -> threading.Thread:
        def wait() -> None:
            try:
                self.multiplexer.wait(channel.waiter)
            except BaseException as error:
                self.errors.append(error)

        thread = threading.Thread(target=wait)
        self.threads.append(thread)
        thread.start()
        return thread

    def leader_and_follower(self) -> tuple[FakeChannel, FakeChannel, list[threading.Thread]]:
        one, other = self.channel(), self.channel()
        leader = self.wait_in_thread(one)
        until(self.poller.polling.is_set)
        follower = self.wait_in_thread(other)
        until(lambda: "with a leader, 1 followers" in repr(self.multiplexer))
        return one, other, [leader, follower]

    def event(self, *channels: FakeChannel) -> None:
        self.poller.events.put([(channel.fd, READ) for channel in channels])


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.001)


def ended(*threads: threading.Thread) -> bool:
    for thread in threads:
        thread.join(LIMIT)
    return not any(thread.is_alive() for thread in threads)
