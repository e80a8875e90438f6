"""One client in many threads, forked children and pickled copies."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

from aichatfree import Client
from aichatfree._locks import SignalSafeLock
from aichatfree.testing import Answer, FakeSite
from helpers import LONG, ClientFor, echo, forks_beside_threads


def ask_many(client: Client, name: str, count: int = 20) -> list[str]:
    return [client.generate(f"{name} {number}").text for number in range(count)]


def test_64_threads_get_the_right_answers_from_one_client(client_for: ClientFor) -> None:
    """Each of 64 threads that share a client gets the answers to its own prompts."""
    with FakeSite([echo]) as site:
        client = client_for(site.url)
        with ThreadPoolExecutor(64) as threads:
            replies = list(threads.map(client.generate, [f"question {n}" for n in range(640)]))
        assert [reply.text for reply in replies] == [f"echo question {n}" for n in range(640)]


def test_more_threads_than_max_connections_reuse_connections(client_for: ClientFor) -> None:
    """With more threads than max_connections, connections are still reused."""
    with FakeSite([Answer("Hello", delay=0.02)]) as site:  # so that 16 requests are in flight
        client = client_for(site.url, max_connections=2)
        with ThreadPoolExecutor(16) as threads:
            list(threads.map(client.generate, ["Hi"] * 320))
        assert len({request.connection for request in site.requests}) < 64


@forks_beside_threads
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forked_children_get_right_answers_from_a_used_client(client_for: ClientFor) -> None:
    """After a fork, parent and children get the right answers from a client that was used."""
    fork = multiprocessing.get_context("fork")
    with FakeSite([echo]) as site:
        client = client_for(site.url)
        ask_many(client, "parent", 2)
        results = fork.SimpleQueue()

        def child(name: str) -> None:
            results.put((name, ask_many(client, name)))

        children = [fork.Process(target=child, args=(f"child {n}",)) for n in range(3)]
        for process in children:
            process.start()
        assert ask_many(client, "parent") == [f"echo parent {n}" for n in range(20)]
        answers = dict(results.get() for _ in children)
        for process in children:
            process.join(LONG)
            assert process.exitcode == 0
        for name, texts in answers.items():
            assert texts == [f"echo {name} {n}" for n in range(20)]


def test_a_pickled_client_works(client_for: ClientFor) -> None:
    """A pickled copy of a used client has all its settings, and both can be used."""
    with FakeSite([echo], verify=True, secret="s", password="p") as site:
        client = client_for(site.url, secret="s", password="p", headers={"X-Mine": "1"})
        client.generate("Hi")
        again: Client = pickle.loads(pickle.dumps(client))
        with again:
            assert again.generate("there").text == "echo there"
        assert site.requests[-1].headers["X-Mine"] == "1"
        assert repr(again) == repr(client)
        assert client.generate("still").text == "echo still"


def test_a_lock_that_is_interrupted_while_it_is_acquired_is_not_left_locked() -> None:
    """If a signal handler raises right after a lock was acquired, other threads can acquire it."""

    class Interrupted(SignalSafeLock):  # type: ignore[misc]
        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            super().acquire(blocking, timeout)
            raise KeyboardInterrupt

    lock = Interrupted()
    with pytest.raises(KeyboardInterrupt), lock:
        pass
    with pytest.raises(RuntimeError):
        lock.release()
