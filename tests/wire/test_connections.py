"""Connections from one request to the next, and responses that come early, late or slowly."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import pytest

from aichatfree import APIError, BadRequestError, Timeout
from aichatfree._call import Call
from aichatfree._wire.connection import Connection
from aichatfree._wire.exchange import Exchange, ExchangeState
from aichatfree._wire.idle_connections import Connections
from aichatfree._wire.multiplexer import READ, Multiplexer
from aichatfree.testing import Answer, FakeSite, Request
from helpers import LONG, ClientFor, forks_beside_threads
from wire.sites import HEAD, HELLO, read_request, responding, server

PROMPTLY = 2.0
"""Seconds; on a busy machine a thread may have to wait for its turn."""


def kept_alive(seconds: int) -> bytes:
    return HELLO.replace(b"\r\n", b"\r\nKeep-Alive: timeout=%d, max=100\r\n" % seconds, 1)


@pytest.mark.parametrize(("pause", "connections"), [(0.0, 1), (1.1, 2)])
def test_a_connection_is_not_used_when_the_site_may_close_it(
    client_for: ClientFor, pause: float, connections: int
) -> None:
    """`Keep-Alive: timeout=2` allows another request for one second, with a margin of one."""
    seen = 0

    def handle(connection: socket.socket) -> None:
        nonlocal seen
        seen += 1
        responding(kept_alive(2))(connection)

    with server(handle) as port:
        client = client_for(f"http://127.0.0.1:{port}", retry=None)
        client.generate("Hi")
        time.sleep(pause)
        client.generate("Hi")
        client.close()
    assert seen == connections


def test_no_thread_is_left_and_none_is_started(client_for: ClientFor) -> None:
    """A script that generates an answer has its main thread and no other."""
    script = """
        import sys, threading
        from aichatfree import Client
        threading.Thread.start = None
        with Client(sys.argv[1]) as client:
            print(client.generate("Hi"), list(client.stream("Hi")))
        print(*threading.enumerate())
    """
    with FakeSite(Answer("Hel", "lo", gap=0.01)) as site:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), site.url],
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout.startswith("Hello ['Hel', 'lo']\n<_MainThread")
    assert done.stdout.count("<") == 1


def test_a_generated_reply_knows_when_it_began(client_for: ClientFor) -> None:
    """Its time to the first chunk is not the time of the complete answer."""
    with FakeSite(Answer("a", "b", "c", gap=0.2)) as site:
        reply = client_for(site.url).generate("Hi")
    assert reply.time_to_first_chunk < 0.2 < 0.4 <= reply.elapsed


def test_a_slow_reader_does_not_fill_the_memory(client_for: ClientFor) -> None:
    """While the answer to one thread is read, no more than 1 MiB of a slow reader's is kept."""
    endless = Answer(stream=repeat("x" * 10_000))
    live = Answer(*"abcdefghij", gap=0.1)
    with FakeSite(lambda request: endless if request.text == "endless" else live) as site:
        client = client_for(site.url, max_reply_bytes=None)
        with client.stream("endless") as stream:
            next(stream)
            tracemalloc.start()
            assert client.generate("live").text == "abcdefghij"  # this thread reads for both
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < 1 << 20
            assert [len(next(stream)) for _ in range(200)] == [10_000] * 200


def test_a_reader_that_pauses_is_not_the_silence_of_the_site(client_for: ClientFor) -> None:
    """The limit for silence begins when the next chunk is asked for."""
    with FakeSite(Answer("a", "b", gap=0.05)) as site:
        stream = client_for(site.url, timeout=Timeout(read=0.5)).stream("Hi")
        assert next(stream) == "a"
        time.sleep(0.7)
        assert stream.read() == "ab"


@pytest.mark.parametrize("closes", [True, False])
def test_a_response_may_come_before_the_request_is_complete(
    client_for: ClientFor, closes: bool
) -> None:
    """A site that refuses a long request early is understood, and its connection is not kept."""
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno."
    done = threading.Event()

    def handle(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(refusal)
        if closes:
            connection.shutdown(socket.SHUT_WR)
        done.wait(10)

    with server(handle) as port:
        client = client_for(f"http://127.0.0.1:{port}", retry=None, timeout=Timeout(read=5))
        try:
            with pytest.raises(BadRequestError, match="413"):
                client.generate("x" * 20_000_000)
        finally:
            done.set()


def test_what_was_lost_to_two_interruptions_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """If Ctrl-C comes twice while a chunk is read, the answer is incomplete, whatever follows."""

    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    multiplexer = Multiplexer()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = Connection(ours, multiplexer, Connections(1))
        exchange = Exchange(Call(Timeout()), "host", multiplexer)
        multiplexer.add(connection)
        connection.take(exchange)
        exchange.begin_sending()
        theirs.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        connection.on_event(READ, time.monotonic())
        theirs.sendall(b"3\r\ntwo\r\n")
        with monkeypatch.context() as patch:
            patch.setattr(Exchange, "feed", interrupted)
            patch.setattr(Exchange, "fail", interrupted)
            with pytest.raises(KeyboardInterrupt):
                connection.on_event(READ, time.monotonic())
        theirs.sendall(b"5\r\nthree\r\n0\r\n\r\n")
        connection.on_event(READ, time.monotonic())
        assert exchange.state is ExchangeState.FAILED
        multiplexer.close_channel(connection)
    multiplexer.close()


def test_a_released_connection_stays_with_its_next_exchange(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A leader that has just read an end does not release what another thread uses by now."""
    multiplexer = Multiplexer()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = Connection(ours, multiplexer, Connections(1))
        first, second = (Exchange(Call(Timeout()), "host", multiplexer) for _ in range(2))
        multiplexer.add(connection)
        connection.take(first)
        first.begin_sending()
        feed = Exchange.feed

        def feed_and_hand_over(exchange: Exchange, data: bytes, now: float) -> None:
            feed(exchange, data, now)
            connection.end_sending(first)
            connection.take(second)
            second.begin_sending()
            connection.end_sending(second)

        monkeypatch.setattr(Exchange, "feed", feed_and_hand_over)
        theirs.sendall(HELLO)
        connection.on_event(READ, time.monotonic())
        assert connection.exchange is second
        multiplexer.close_channel(connection)
    multiplexer.close()


def test_a_request_that_the_site_does_not_read_ends_in_time(client_for: ClientFor) -> None:
    """The limit for silence holds while a request is sent, too."""
    done = threading.Event()
    with server(lambda connection: print(done.wait(10))) as port:
        client = client_for(f"http://127.0.0.1:{port}", retry=None, timeout=Timeout(read=0.5))
        began = time.monotonic()
        with pytest.raises(APIError, match="silent"):
            client.generate("x" * 20_000_000)
        assert time.monotonic() - began < 0.5 + PROMPTLY
        done.set()


def test_connections_that_the_site_closes_do_not_keep_the_leader_busy(
    client_for: ClientFor,
) -> None:
    """They are closed when their end arrives, while another thread waits."""

    def answer(request: Request) -> Answer:
        if request.text == "slow":
            return Answer("a", "b", gap=1.0)
        return Answer("quick", delay=0.05)

    with FakeSite(answer) as site:
        client = client_for(site.url)
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(client.generate, ["quick"] * 8))
        stream = client.stream("slow")
        assert next(stream) == "a"
        threading.Timer(0.2, site.drop_connections).start()
        used = time.thread_time()
        with pytest.raises(APIError):
            stream.read()
        assert time.thread_time() - used < 0.3
        assert client.generate("quick").text == "quick"


def test_stray_bytes_on_an_idle_connection_are_not_an_answer(client_for: ClientFor) -> None:
    """Whatever comes after a response, and however late, belongs to no request."""

    def handle(connection: socket.socket) -> None:
        while read_request(connection):
            connection.sendall(HELLO)
            time.sleep(0.1)
            connection.sendall(HEAD + b"Content-Length: 8\r\n\r\npoisoned")

    with server(handle) as port:
        client = client_for(f"http://127.0.0.1:{port}", retry=None)
        for _ in range(3):
            assert client.generate("Hi").text == "Hello"
            time.sleep(0.2)
        client.close()


@forks_beside_threads
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_cannot_read_its_parents_stream(client_for: ClientFor) -> None:
    """In a forked child an open stream fails; the parent reads it to its end."""
    fork = multiprocessing.get_context("fork")
    with FakeSite(lambda request: Answer("a", "b", gap=0.5)) as site:
        client = client_for(site.url, retry=None)
        stream = client.stream("Hi")
        assert next(stream) == "a"
        results = fork.SimpleQueue()

        def child() -> None:
            try:
                results.put(stream.read())
            except APIError as error:
                results.put(type(error).__name__)
            results.put(client.generate("Hi").text)

        process = fork.Process(target=child)
        process.start()
        assert stream.read() == "ab"
        assert [results.get(), results.get()] == ["StreamInterruptedError", "ab"]
        process.join(10)
        assert process.exitcode == 0
        assert client.generate("Hi").text == "ab"
        assert {request.connection for request in site.requests} == {1, 2}


def test_500_threads_survive_everything_at_once() -> None:
    """With cancels, closes, cut connections and Ctrl-C at random: no hang, no foreign answer."""
    seconds = os.environ.get("AICHATFREE_STRESS_SECONDS", "6")
    folder = os.path.dirname(__file__)
    with subprocess.Popen(
        [sys.executable, os.path.join(folder, "stress_site.py")], stdout=subprocess.PIPE, text=True
    ) as site:
        assert site.stdout is not None
        try:
            done = subprocess.run(
                [
                    sys.executable,
                    os.path.join(folder, "stress_client.py"),
                    site.stdout.readline().strip(),
                    seconds,
                ],
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            site.kill()
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


@forks_beside_threads
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_lock_that_was_held_during_a_fork_does_not_block_the_child() -> None:
    """In a forked child nothing waits for a lock that a thread of the parent held."""
    multiplexer = Multiplexer()
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with multiplexer.lock:
            held.set()
            release.wait(LONG)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(LONG)
    child = os.fork()
    if not child:
        status = 1
        try:
            multiplexer.abandon()
            status = 7
        finally:
            os._exit(status)
    release.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    multiplexer.close()
