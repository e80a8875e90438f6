"""Clients that are idle, send too slowly or do not read."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from aichatfree import Client, Timeout
from aichatfree.gateway import Gateway
from helpers import LONG, signed_body

from .connections import connect, is_closed, post, request
from .engines import CountingEngine

CONNECTIONS = "aichatfree.gateway._connections"
SERVER = "aichatfree.gateway._server"

INCOMPLETE = [
    b"",
    b"POST /api/gen",
    b"POST /api/generate HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{",
    b"POST /api/generate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
]


def test_a_connection_with_an_incomplete_request_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client whose request is not complete in time is disconnected, even if it still sends bytes;
    others are served meanwhile.
    """
    monkeypatch.setattr(f"{SERVER}.CLIENT_TIMEOUT", 1.5)
    stop = threading.Event()
    with Gateway(CountingEngine()) as gateway, ExitStack() as stack:
        stuck = [stack.enter_context(connect(gateway)) for _ in range(300)]
        for number, each in enumerate(stuck):
            each.sendall(INCOMPLETE[number % len(INCOMPLETE)])

        def trickle() -> None:
            while not stop.wait(0.3):
                for each in stuck[1::4]:
                    with suppress(OSError):
                        each.send(b"x")

        trickler = threading.Thread(target=trickle)
        trickler.start()
        stack.callback(trickler.join)
        stack.callback(stop.set)
        with Client(gateway.url) as client:
            assert client.generate("Hello").text == "Hello 0\n"
        assert all(is_closed(each) for each in stuck)


def test_idle_connections_make_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """When idle clients use all connections, and reconnect when they are disconnected, others are
    still served.
    """
    monkeypatch.setattr(f"{SERVER}.MAX_IDLE_CONNECTIONS", 40)
    monkeypatch.setattr(f"{CONNECTIONS}.MIN_CLIENT_TIMEOUT", 0.2)
    stop = threading.Event()
    with Gateway(CountingEngine(), max_streams=2) as gateway, ExitStack() as stack:
        idle = [connect(gateway) for _ in range(100)]

        def reopen() -> None:
            while not stop.wait(0.02):
                for number, each in enumerate(idle):
                    each.setblocking(False)
                    with suppress(BlockingIOError):
                        is_closed(each)
                        each.close()
                        idle[number] = connect(gateway)

        def close_all() -> None:
            stop.set()
            attacker.join()
            for each in idle:
                each.close()

        attacker = threading.Thread(target=reopen)
        attacker.start()
        stack.callback(close_all)
        for _ in range(2):
            with Client(gateway.url, timeout=Timeout(total=LONG)) as client:
                assert client.generate("Hello").text == "Hello 0\n"


OUT_OF_DESCRIPTORS = """
import resource, sys
sys.path[:0] = sys.argv[1:]
from aichatfree.gateway import Gateway
from gateway.engines import CountingEngine
resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80))
with Gateway(CountingEngine()) as gateway:
    print(gateway.url, flush=True)
    sys.stdin.read()
"""


def test_idle_connections_make_room_where_descriptors_run_out() -> None:
    """When idle clients use all file descriptors of the process, others are still served."""
    with (
        subprocess.Popen(
            [sys.executable, "-c", OUT_OF_DESCRIPTORS, str(Path(__file__).parents[1])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
        ExitStack() as stack,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        stack.callback(process.stdin.close)
        url = process.stdout.readline().strip()
        host, port = url.removeprefix("http://").split(":")
        for _ in range(150):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=LONG))
        client = stack.enter_context(Client(url, timeout=Timeout(total=LONG)))
        assert client.generate("Hello").text == "Hello 0\n"


def test_a_client_that_stops_reading_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not read its answer loses its stream, which others can use then."""
    monkeypatch.setattr(f"{SERVER}.CLIENT_TIMEOUT", 1.0)
    engine = CountingEngine(1_000)
    with Gateway(engine, max_streams=1) as gateway, connect(gateway) as connection:
        connection.sendall(request(signed_body("x" * 50_000)))
        assert engine.ended.wait(LONG)
        with Client(gateway.url) as client:
            assert client.generate("Hello").text == engine.answer("Hello")


def test_a_client_that_waits_for_its_answer_is_not_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine may be silent for longer than a client may be."""
    monkeypatch.setattr(f"{SERVER}.CLIENT_TIMEOUT", 0.3)
    with Gateway(CountingEngine(1, gap=1.8)) as gateway, Client(gateway.url) as client:
        assert client.generate("Hello").text == "Hello 0\n"


def test_a_body_that_is_too_large_is_not_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A body beyond the limit is received, so that its client can read the refusal, but it is kept
    neither in a file nor in memory.
    """
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "does not exist"))
    with Gateway(CountingEngine(), max_body=100_000) as gateway:
        for body in (b"x" * 10_000_000, iter([b"x" * 1_000_000] * 10)):
            assert post(gateway, body).status_code == 413
