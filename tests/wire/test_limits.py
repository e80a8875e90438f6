from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import pytest

from aichatfree import APIConnectionError, APITimeoutError, Timeout
from aichatfree._call import Call
from aichatfree._cancellation import CancelToken
from aichatfree.testing import Answer, FakeSite, Raw
from helpers import AT_ONCE, ClientFor, run_python
from wire.sites import read_request, server


def endless(piece: bytes, gap: float = 0.05) -> Raw:
    return Raw(*([piece] * 200), gap=gap, end="stall")


def raw(head: bytes, piece: bytes, gap: float = 0.05) -> Raw:
    return Raw(head, *([piece] * 200), gap=gap, end="stall")


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

SLOW_SITES: dict[str, Callable[[], Answer | Raw]] = {
    "silent before the headers": lambda: Answer("x", delay=10),
    "a trickle of headers": lambda: raw(b"HTTP/1.1 200 OK\r\n", b"A"),
    "half a status line": lambda: Raw(b"HTTP/1.", end="stall"),
    "a trickle within one chunk": lambda: raw(CHUNKED + b"ffff\r\n", b"x"),
    "a stall after a chunk": lambda: Answer("half", end="stall"),
}


def took(action: Callable[[], object]) -> float:
    began = time.monotonic()
    with pytest.raises(APITimeoutError):
        action()
    return time.monotonic() - began


@pytest.mark.parametrize("kind", SLOW_SITES)
def test_the_longest_silence_is_kept_to(client_for: ClientFor, kind: str) -> None:
    """A site that gives no piece of an answer for `read` seconds is given up, trickle or not."""
    with FakeSite([SLOW_SITES[kind]()]) as site:
        client = client_for(site.url, retry=None, timeout=Timeout(connect=0.2, read=0.4))
        assert 0.3 < took(lambda: client.generate("Hi")) < 2


@pytest.mark.parametrize("kind", [*SLOW_SITES, "a live answer without an end"])
def test_the_total_is_kept_to(client_for: ClientFor, kind: str) -> None:
    """However the site drags on, the call ends when its total is used up."""
    live = raw(CHUNKED, b"1\r\nx\r\n")
    answer = live if kind.startswith("a live") else SLOW_SITES[kind]()
    with FakeSite([answer]) as site:
        client = client_for(site.url, retry=None, timeout=Timeout(total=0.5))
        assert 0.4 < took(lambda: client.generate("Hi")) < 2


def test_the_total_includes_retries_and_their_waits(client_for: ClientFor) -> None:
    """A call does not begin an attempt that it has no time for."""
    with FakeSite([Answer(status=503, body="", headers={"Retry-After": "30"})]) as site:
        client = client_for(site.url, timeout=Timeout(total=1))
        began = time.monotonic()
        with pytest.raises(Exception, match="503") as caught:
            client.generate("Hi")
        assert time.monotonic() - began < 1
        assert caught.value.retry_after == 30  # type: ignore[attr-defined]
        assert len(site.requests) == 1


def test_the_total_begins_when_the_first_chunk_is_asked_for(client_for: ClientFor) -> None:
    """A stream that waits for its reader does not use up its time."""
    with FakeSite("Hello") as site:
        stream = client_for(site.url).stream("Hi", timeout=Timeout(total=0.5))
        time.sleep(0.6)
        assert stream.read() == "Hello"


def test_a_host_that_does_not_answer_is_given_up_after_connect(client_for: ClientFor) -> None:
    """The time to connect has a limit of its own."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        # A full backlog drops further attempts in silence, as a firewall does.
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        client = client_for(
            f"http://127.0.0.1:{port}", retry=None, timeout=Timeout(connect=0.3, read=20)
        )
        assert 0.2 < took(lambda: client.generate("Hi")) < 3
        for filler in fillers:
            filler.close()


def test_a_slow_answer_within_its_limits_is_whole(client_for: ClientFor) -> None:
    """Pieces that come more often than `read` keep an answer alive for longer than `read`."""
    with FakeSite([Answer(*"abcdefgh", gap=0.1)]) as site:
        client = client_for(site.url, timeout=Timeout(read=0.5))
        assert client.generate("Hi").text == "abcdefgh"


def test_no_limit_is_a_choice(client_for: ClientFor) -> None:
    """None in each place waits as long as it takes."""
    with FakeSite([Answer("Hello", delay=0.2)]) as site:
        client = client_for(site.url, timeout=Timeout(connect=None, read=None, total=None))
        assert client.generate("Hi").text == "Hello"


@pytest.mark.parametrize("name", ["connect", "read", "total"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_limit_that_is_no_duration_is_refused(name: str, value: float) -> None:
    """Zero, negative and not-a-number limits are errors at once."""
    with pytest.raises(ValueError, match=name):
        Timeout(**{name: value})


def test_a_number_limits_both_connect_and_read(client_for: ClientFor) -> None:
    """timeout=seconds means what it means in requests."""
    with FakeSite([Answer("x", delay=10)]) as site:
        client = client_for(site.url, retry=None, timeout=0.3)
        assert took(lambda: client.generate("Hi")) < 2


def test_a_late_interrupt_does_not_hit_the_next_exchange(client_for: ClientFor) -> None:
    """Cancelling a finished stream leaves its connection, now another's, alone."""
    with FakeSite(["a", Answer("b", "c", gap=0.3)]) as site:
        client = client_for(site.url, retry=None)
        first = client.stream("Hi")
        first.read()
        second = client.stream("Hi")
        assert next(second) == "b"
        first.cancel()
        assert second.read() == "bc"
        assert {request.connection for request in site.requests} == {1}


def test_a_cancelled_call_interrupts_what_it_gets_to_hold() -> None:
    """A cancellation that comes before there is something to interrupt is not forgotten."""

    class Held:
        deadline = 0.0
        interrupted = False

        def interrupt(self) -> None:
            self.interrupted = True

    call, held = Call(Timeout()), Held()
    call.cancel_token.set()
    call.cancel_token.interrupts(held)
    assert held.interrupted


def test_refused_connections_are_no_timeouts(client_for: ClientFor) -> None:
    """A dead port is told at once, as what it is."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(APIConnectionError, match="refused") as caught:
        client_for(f"http://127.0.0.1:{port}", retry=None).generate("Hi")
    assert not isinstance(caught.value, APITimeoutError)


def test_a_signal_handler_may_cancel_a_call_that_is_being_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither of the two waits for the other, although they run in the same thread."""
    token = CancelToken()
    notify_all = threading.Condition.notify_all

    def notify_all_after_signal(condition: threading.Condition) -> None:
        monkeypatch.undo()
        token.set()
        notify_all(condition)

    monkeypatch.setattr(threading.Condition, "notify_all", notify_all_after_signal)
    thread = threading.Thread(target=token.set, daemon=True)
    thread.start()
    thread.join(AT_ONCE)
    assert not thread.is_alive()
    assert token.is_set()


def test_a_proxy_that_trickles_ends_in_time(client_for: ClientFor) -> None:
    """However slowly a proxy responds to CONNECT, the limits of the call hold."""

    def trickle(connection: socket.socket) -> None:
        read_request(connection)
        for byte in b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100:
            connection.sendall(bytes([byte]))
            time.sleep(0.1)

    for limits in (Timeout(total=0.5), Timeout(connect=0.5)):
        with server(trickle) as proxy:
            client = client_for(
                "https://site.example",
                retry=None,
                timeout=limits,
                proxies={"https": f"http://127.0.0.1:{proxy}"},
            )
            began = time.monotonic()
            with pytest.raises(APITimeoutError):
                client.generate("Hi")
            assert time.monotonic() - began < 0.5 + AT_ONCE


def test_too_many_open_files_are_not_blamed_on_the_host() -> None:
    """Without a free file descriptor, an unknown host is neither reported nor taken for fatal."""
    code = """
        import os, resource
        from aichatfree import APIConnectionError, Client

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, most))
        clients = [Client(f"http://{host}:9", retry=None) for host in ("localhost", "127.0.0.1")]

        def ask(client):
            try:
                client.generate("x")
            except APIConnectionError as error:
                return error

        for client in clients:
            ask(client)  # imports what it needs
        files = []
        try:
            while True:
                files.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        for error in map(ask, clients):
            print(error.fatal, error.retryable, error)
    """
    lines = run_python(code).stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("False True This process has too many open files")
