"""The threads of a batch: that none is left behind, and that the cache of threads loses no work."""

from __future__ import annotations

import concurrent.futures
import json
import queue
import resource
import signal
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from aichatfree import Timeout
from aichatfree._thread_cache import ThreadCache
from aichatfree.batch._threads import STACK_SIZE, THREAD_CACHE
from aichatfree.testing import Answer, FakeSite, Request
from helpers import AT_ONCE, LONG, SHORT, ClientFor, echo, run_python, threads_named, wait_until

THREADS = "aichatfree-batch"
LIMITS = resource.getrlimit(resource.RLIMIT_NOFILE)


def test_no_thread_is_left_behind(client_for: ClientFor) -> None:
    """The threads end soon after a batch is finished, left early, or forgotten."""
    with FakeSite(echo) as site:
        client = client_for(site.url)
        client.batch(["x"] * 50).run()
        with client.batch(["x"] * 500) as results:
            next(results)
        forgotten = client.batch(["x"] * 500)
        next(forgotten)
        del forgotten
        wait_until(lambda: not threads_named(THREADS))


def test_the_next_batch_uses_the_threads_of_the_last(client_for: ClientFor) -> None:
    """Many small batches, as in a worker of an executor, start no more threads than one batch."""
    wait_until(lambda: not threads_named(THREADS))  # those of earlier tests in this process
    with FakeSite(echo) as site:
        client = client_for(site.url)
        for _ in range(10):
            client.batch(["x"] * 16, max_workers=4).run()
            assert len(threads_named(THREADS)) <= 4


def test_the_thread_cache_counts_the_threads_that_end() -> None:
    """Work that arrives when idle threads have just ended gets a new thread."""
    cache = ThreadCache("test", idle_timeout=0)
    for _ in range(1000):
        done = threading.Event()
        cache.run(done.set)
        assert done.wait(LONG)


def test_the_thread_cache_loses_no_work_when_a_thread_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that arrives between the timeout of an idle thread and its end is done all the same."""
    late = threading.Event()
    arrivals = [late.set]

    class LateQueue(queue.SimpleQueue[Any]):
        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            try:
                return super().get(block, timeout)
            except queue.Empty:
                if arrivals:
                    cache.run(arrivals.pop())
                raise

    monkeypatch.setattr(queue, "SimpleQueue", LateQueue)
    cache = ThreadCache("test", idle_timeout=0)
    cache.run(lambda: None)
    assert late.wait(LONG)


def test_a_closed_thread_cache_has_no_threads() -> None:
    """After `close` both the idle threads and those that were busy have ended."""
    cache = ThreadCache("closed-cache", idle_timeout=LONG)
    finish = threading.Event()
    done = threading.Event()
    cache.run(lambda: finish.wait(LONG))  # type: ignore[arg-type]
    cache.run(done.set)
    assert done.wait(LONG)
    assert not cache.close(SHORT)
    finish.set()
    assert cache.close(LONG)
    assert not threads_named("closed-cache")


def test_the_thread_cache_starts_work_at_once() -> None:
    """Work never waits for a busy thread, so pieces of work that wait for each other do not
    deadlock.
    """
    cache = ThreadCache("test")
    for _ in range(10):  # the first time without idle threads, then with some
        barrier = threading.Barrier(4)
        for _ in range(3):
            cache.run(lambda meet=barrier: meet.wait(LONG))  # type: ignore[misc]
        barrier.wait(LONG)


def test_the_thread_cache_keeps_no_work_alive() -> None:
    """An idle thread has no reference to the work that it did."""

    class Work:
        def __call__(self) -> None: ...

    work = Work()
    reference = weakref.ref(work)
    ThreadCache("test", LONG).run(work)
    del work
    wait_until(lambda: reference() is None, AT_ONCE)


def test_the_stacks_of_a_batch_are_small_and_those_of_others_are_not(
    client_for: ClientFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The threads of a batch have stacks of 2 MiB; threads started later have the default size."""
    sizes = []
    start = threading.Thread.start

    def record(thread: threading.Thread) -> None:
        if thread.name == THREADS:
            sizes.append(threading.stack_size())
        start(thread)

    wait_until(lambda: not threads_named(THREADS))
    monkeypatch.setattr(threading.Thread, "start", record)
    default = threading.stack_size()
    with FakeSite(echo) as site:
        client_for(site.url).batch(["x"] * 4, max_workers=2).run()
    assert sizes == [STACK_SIZE] * len(sizes)
    assert sizes
    assert threading.stack_size() == default


@pytest.mark.parametrize("nested", ["[", '{"a":'])
def test_the_stack_of_a_thread_is_large_enough_for_nested_json(nested: str) -> None:
    """JSON that is nested more deeply than Python allows is an error in a thread of a batch."""
    errors: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        try:
            json.loads(nested * 1_000_000)
        except (RecursionError, ValueError) as error:
            errors.put(type(error).__name__)

    THREAD_CACHE.run(read)
    assert errors.get(timeout=LONG)


@pytest.mark.parametrize("where", ["threads", "executor"])
def test_a_ctrl_c_just_before_a_wait_is_noticed_soon(
    client_for: ClientFor, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """All waits for the end of a batch are short, because Python handles Ctrl-C between waits."""
    waits: list[float | None] = []

    def wait_for_event(event: threading.Event, timeout: float | None = None) -> bool:
        if sys._getframe(1).f_globals["__name__"].startswith("aichatfree.batch."):
            waits.append(timeout)
        return real_event_wait(event, timeout)

    def wait_for_futures(futures: Any, timeout: float | None = None) -> Any:
        waits.append(timeout)
        return real_wait(futures, timeout)

    real_event_wait, real_wait = threading.Event.wait, concurrent.futures.wait
    with FakeSite([Answer("slow", delay=0.5)]) as site, ThreadPoolExecutor(1) as executor:
        batch = client_for(site.url).batch(
            ["x"] * 2, executor=executor if where == "executor" else None, shard_size=1
        )
        threading.Timer(0.3, signal.raise_signal, [signal.SIGINT]).start()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Event, "wait", wait_for_event)
            patch.setattr(concurrent.futures, "wait", wait_for_futures)
            with pytest.raises(KeyboardInterrupt):
                list(batch)
    assert waits
    assert all(timeout is not None and timeout <= 1 for timeout in waits)


def test_more_threads_than_open_files_are_refused_before_anything_is_sent() -> None:
    """If the process may not open a connection for each thread, the error names both limits."""
    code = """
        import resource
        from aichatfree import Client
        from aichatfree.testing import FakeSite

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, most))
        with FakeSite() as site, Client(site.url) as client:
            try:
                client.batch(["x"] * 500, max_workers=500)
            except ValueError as error:
                print(len(site.requests), error)
    """
    printed = run_python(code).stdout
    assert printed.startswith("0 max_workers=500 needs that many connections")
    assert "256 open files" in printed
    assert "max_workers=236" in printed


def test_a_thousand_threads_and_more_answer_at_the_same_time(client_for: ClientFor) -> None:
    """1,200 threads have 1,200 answers in flight, and each gets its own."""
    count = 1200
    resource.setrlimit(resource.RLIMIT_NOFILE, (4 * count, LIMITS[1]))
    arrived = threading.Barrier(count, timeout=LONG)

    def together(request: Request) -> str:
        arrived.wait()
        return echo(request)

    prompts = [f"prompt {number}" for number in range(count)]
    try:
        with FakeSite(together) as site:
            client = client_for(site.url, timeout=Timeout(connect=LONG, read=LONG))
            results = client.batch(prompts, max_workers=count)
            assert [result.text for result in results] == [f"echo {each}" for each in prompts]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, LIMITS)
