"""Leaders and followers, with a poller and a clock that the tests control."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aichatfree._wire.multiplexer import READ, Multiplexer, SelectorPoller
from wire.scene import FakeChannel, FakeWaiter, Scene, ended, until


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    assert ended(*scene.threads)
    for channel in scene.channels:
        scene.multiplexer.close_channel(channel)
    scene.multiplexer.close()


def test_a_thread_that_is_alone_reads_for_itself(scene: Scene) -> None:
    """It polls and reads in its own thread."""
    channel = scene.channel()
    thread = scene.wait_in_thread(channel)
    scene.event(channel)
    assert ended(thread)
    assert channel.readers == scene.poller.threads == [thread]


def test_what_is_ready_is_not_waited_for(scene: Scene) -> None:
    """Nothing is polled then."""
    channel = scene.channel()
    channel.waiter.ready = True
    scene.multiplexer.wait(channel.waiter)
    assert scene.poller.threads == []


def test_the_leader_reads_for_its_followers(scene: Scene) -> None:
    """A follower sleeps until the leader has read what it waits for; the leader goes on."""
    one, other, (leader, follower) = scene.leader_and_follower()
    scene.event(other)
    assert ended(follower)
    assert other.readers == [leader]
    assert leader.is_alive()
    scene.event(one)


def test_a_leader_that_is_done_appoints_a_follower(scene: Scene) -> None:
    """The follower then reads for itself."""
    one, other, (leader, follower) = scene.leader_and_follower()
    scene.event(one)
    assert ended(leader)
    scene.event(other)
    assert ended(follower)
    assert other.readers == [follower]


def test_one_poll_may_wake_several(scene: Scene) -> None:
    """The leader and its follower are both served by the events of one poll."""
    one, other, threads = scene.leader_and_follower()
    scene.event(one, other)
    assert ended(*threads)


def test_an_interrupted_leader_appoints_a_follower(scene: Scene) -> None:
    """Ctrl-C in the leader ends its own wait and nobody else's."""
    _, other, (leader, follower) = scene.leader_and_follower()
    scene.poller.events.put(KeyboardInterrupt())
    assert ended(leader)
    assert [type(error) for error in scene.errors] == [KeyboardInterrupt]
    scene.event(other)
    assert ended(follower)


def test_a_leader_interrupted_while_it_reads_leaves_nobody_asleep(scene: Scene) -> None:
    """A follower whose chunk was read is woken, even if Ctrl-C came before the leader did it."""
    one, other, threads = scene.leader_and_follower()

    def interrupted() -> None:
        raise KeyboardInterrupt

    one.on_read = interrupted
    scene.event(other, one)
    assert ended(*threads)
    assert other.waiter.ready


@pytest.mark.parametrize("step", range(8))
def test_an_interrupted_change_of_leader_is_repeated(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Wherever Ctrl-C interrupts the appointment of a follower, there is a leader afterwards."""
    one, other, (leader, follower) = scene.leader_and_follower()
    steps = 0

    class Interrupted(dict[FakeWaiter, None]):
        """Raises at one of the calls that an appointment consists of."""

        def count(self) -> None:
            nonlocal steps
            steps += 1
            if steps == step:
                raise KeyboardInterrupt

        def pop(self, *args: object) -> None:
            self.count()
            super().pop(*args)  # type: ignore[call-overload]
            self.count()

        def __reversed__(self) -> Iterator[FakeWaiter]:
            self.count()
            return super().__reversed__()

        def __delitem__(self, key: FakeWaiter) -> None:
            self.count()
            super().__delitem__(key)
            self.count()

    followers: Any = scene.multiplexer._followers
    monkeypatch.setattr(scene.multiplexer, "_followers", Interrupted(followers))
    scene.event(one)
    assert ended(leader)
    scene.event(other)
    assert ended(follower)


def test_a_leader_interrupted_again_and_again_appoints_a_follower(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if every call of the interrupted thread raises, there is a leader afterwards."""
    _, other, (leader, follower) = scene.leader_and_follower()
    leave = Multiplexer._leave

    def leave_unless_interrupted(self: Multiplexer, *args: Any) -> None:
        if threading.current_thread() is leader:
            raise KeyboardInterrupt
        leave(self, *args)

    monkeypatch.setattr(Multiplexer, "_leave", leave_unless_interrupted)
    scene.poller.events.put(KeyboardInterrupt())
    assert ended(leader)
    scene.event(other)
    assert ended(follower)


def test_a_signal_handler_may_close_connections_while_one_is_closed(scene: Scene) -> None:
    """Each is closed, and neither of the two calls fails."""
    one, other = scene.channel(), scene.channel()

    def handle_signal() -> None:
        scene.multiplexer.close_channel(one)
        scene.multiplexer.close_channel(other)

    one.on_shut = handle_signal
    scene.multiplexer.close_channel(one)
    assert one.shut_by
    assert other.shut_by


def test_a_signal_handler_may_wake_a_thread_while_it_is_woken(scene: Scene) -> None:
    """A leader that wakes a follower is not disturbed by a handler that cancels the same call."""

    class Wake:
        """A lock that a signal handler releases after any look at it."""

        def __init__(self, waiter: FakeWaiter) -> None:
            self.waiter, self.lock = waiter, waiter.wake
            self.acquire, self.release = self.lock.acquire, self.lock.release

        def locked(self) -> bool:
            locked = self.lock.locked()
            self.waiter.wake = self.lock
            scene.multiplexer.interrupt(self.waiter)
            return locked

    _, other, _ = scene.leader_and_follower()
    wake: Any = Wake(other.waiter)
    other.waiter.wake = wake
    other.waiter.ready = True
    scene.multiplexer.interrupt(other.waiter)
    scene.poller.events.put(KeyboardInterrupt())
    assert ended(*scene.threads)
    assert [type(error) for error in scene.errors] == [KeyboardInterrupt]


def test_an_interrupted_pause_of_a_connection_can_be_ended(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After Ctrl-C in the middle of watch() the same connection can be watched again."""
    channel = scene.channel()
    unregister = scene.poller.unregister

    def unregister_interrupted(fd: int) -> None:
        unregister(fd)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(scene.poller, "unregister", unregister_interrupted)
        with pytest.raises(KeyboardInterrupt):
            scene.multiplexer.watch(channel, 0)
    scene.multiplexer.watch(channel, READ)
    assert scene.poller.registered[channel.fd] == READ


def test_an_interrupted_follower_is_forgotten(scene: Scene) -> None:
    """Its wait ends, and the leader does not miss it."""
    one, other, (leader, follower) = scene.leader_and_follower()
    other.waiter.ready = True
    scene.multiplexer.interrupt(other.waiter)
    assert ended(follower)
    scene.event(one)
    assert ended(leader)


def test_two_threads_that_arrive_at_once_have_one_leader(scene: Scene) -> None:
    """However many threads begin to wait at the same time, one polls at a time."""
    channels = [scene.channel() for _ in range(20)]
    threads = [scene.wait_in_thread(channel) for channel in channels]
    until(lambda: "19 followers" in repr(scene.multiplexer))
    assert len(set(scene.poller.threads)) == 1
    scene.event(*channels)
    assert ended(*threads)


def test_a_deadline_ends_the_wait_of_the_leader(scene: Scene) -> None:
    """It polls no longer than until its own deadline."""
    channel = scene.channel(deadline=105)
    thread = scene.wait_in_thread(channel)
    until(scene.poller.polling.is_set)
    assert thread.is_alive()
    scene.clock.now = 105.0
    assert ended(thread)
    assert not channel.waiter.ready


def test_an_earlier_deadline_reaches_a_leader_that_polls(scene: Scene) -> None:
    """A follower that has to end before the leader's poll does is woken in time."""
    one = scene.channel(deadline=160)
    leader = scene.wait_in_thread(one)
    until(scene.poller.polling.is_set)
    scene.poller.polling.clear()
    follower = scene.wait_in_thread(scene.channel(deadline=105))
    until(scene.poller.polling.is_set)  # the leader polls again, with another timeout
    scene.clock.now = 105.0
    assert ended(follower)
    assert leader.is_alive()
    scene.event(one)


def test_a_later_deadline_does_not_disturb_the_leader(scene: Scene) -> None:
    """A thread that may wait for longer than the leader polls does not wake it."""
    one = scene.channel(deadline=105)
    scene.wait_in_thread(one)
    until(scene.poller.polling.is_set)
    other = scene.channel(deadline=110)
    scene.wait_in_thread(other)
    until(lambda: "1 followers" in repr(scene.multiplexer))
    assert len(scene.poller.threads) == 1
    scene.event(one, other)


def test_a_deadline_that_moves_is_kept(scene: Scene) -> None:
    """A wait whose deadline moved later meanwhile ends at the later one."""
    one, other = scene.channel(), scene.channel(deadline=105)
    scene.wait_in_thread(one)
    follower = scene.wait_in_thread(other)
    until(lambda: "1 followers" in repr(scene.multiplexer))
    other.waiter.deadline = 115
    scene.clock.now = 110.0
    time.sleep(0.05)
    assert follower.is_alive()
    scene.clock.now = 115.0
    assert ended(follower)
    scene.event(one)


def test_a_cancel_reaches_a_leader_that_polls(scene: Scene) -> None:
    """It looks again at what it waits for."""
    channel = scene.channel()
    thread = scene.wait_in_thread(channel)
    until(scene.poller.polling.is_set)
    channel.waiter.ready = True
    scene.multiplexer.interrupt(channel.waiter)
    assert ended(thread)


def test_a_cancel_before_the_wait_is_not_lost(scene: Scene) -> None:
    """A thread looks once more after it has registered."""
    channel = scene.channel()
    channel.waiter.ready = True
    scene.multiplexer.interrupt(channel.waiter)
    assert ended(scene.wait_in_thread(channel))


def test_only_the_leader_closes_a_connection_while_there_is_one(scene: Scene) -> None:
    """It is reading, and the number of a closed socket may be used again at once."""
    one, other = scene.channel(), scene.channel()
    leader = scene.wait_in_thread(one)
    until(scene.poller.polling.is_set)
    scene.multiplexer.close_channel(other)
    until(lambda: other.shut_by)
    assert other.shut_by == [leader]
    assert other.fd not in scene.poller.registered
    scene.event(one)


def test_without_a_leader_a_connection_is_closed_at_once(scene: Scene) -> None:
    """There is nobody who might be reading from it."""
    channel = scene.channel()
    scene.multiplexer.close_channel(channel)
    assert channel.shut_by == [threading.current_thread()]


def test_events_of_a_closed_connection_are_ignored(scene: Scene) -> None:
    """They may have been fetched before it was closed."""
    one, other = scene.channel(), scene.channel()
    one.on_read = lambda: scene.multiplexer.close_channel(other)
    thread = scene.wait_in_thread(one)
    scene.event(one, other)
    assert ended(thread)
    assert other.readers == []


def test_the_poller_is_closed_with_the_last_connection(scene: Scene) -> None:
    """Closing waits for neither threads nor connections."""
    one = scene.channel()
    thread = scene.wait_in_thread(one)
    until(scene.poller.polling.is_set)
    scene.multiplexer.close()
    assert not scene.poller.closed
    scene.event(one)
    assert ended(thread)
    scene.multiplexer.close_channel(one)
    assert scene.poller.closed
    with pytest.raises(ConnectionAbortedError):
        scene.multiplexer.add(one)


def test_a_forked_child_closes_its_copies_only(scene: Scene) -> None:
    """It does not tell the poller, which it shares with its parent, to forget anything."""
    channel = scene.channel()
    registered = dict(scene.poller.registered)
    scene.multiplexer.abandon()
    assert channel.shut_by
    assert scene.poller.registered == registered


@pytest.mark.parametrize("make_poller", [None, SelectorPoller])
def test_a_real_poller_notices_what_is_registered_while_it_polls(
    make_poller: Callable[[], SelectorPoller] | None,
) -> None:
    """A leader that polls notices a socket that is registered meanwhile, also without epoll."""
    multiplexer = Multiplexer(make_poller)
    reader, writer = os.pipe()
    never, channel = FakeWaiter(), FakeChannel(reader, FakeWaiter())
    leader = threading.Thread(target=multiplexer.wait, args=(never,))
    leader.start()
    until(lambda: "with a leader" in repr(multiplexer))
    time.sleep(0.05)  # it polls now
    multiplexer.add(channel)
    os.write(writer, b"x")
    channel.on_read = lambda: print(os.read(reader, 1))
    multiplexer.wait(channel.waiter)
    never.ready = True
    multiplexer.interrupt(never)
    assert ended(leader)
    multiplexer.close_channel(channel)
    multiplexer.close()
    os.close(reader)
    os.close(writer)
