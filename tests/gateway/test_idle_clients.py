"""The gateway under load: many streams, many idle clients, a flood, a kill, an interrupt."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import requests

from aichatfree import Client, Stream, StreamInterruptedError, Timeout
from aichatfree._protocol.messages import Message
from aichatfree._protocol.prompts import messages_from
from aichatfree._protocol.signing import request_body
from aichatfree._protocol.sites import Site
from aichatfree.gateway import Gateway

SERVER = "aichatfree.gateway._server"


class Words:
    """Says words about the question, slowly, when `start` lets it."""

    def __init__(
        self, number: int = 20, gap: float = 0.02, start: Callable[[], object] = bool
    ) -> None:
        self.number, self.gap, self.start = number, gap, start
        self.closed = threading.Event()

    def answer(self, question: str) -> str:
        return "".join(f"{question} {i}\n" for i in range(self.number))

    def generate(
        self, messages: list[Message], *, temperature: float | None, cancelled: threading.Event
    ) -> Iterator[str]:
        try:
            self.start()
            for piece in self.answer(messages[-1]["content"]).splitlines(keepends=True):
                if cancelled.wait(self.gap):
                    return
                yield piece
        finally:
            self.closed.set()

    def close(self) -> None:
        pass


def connect(gateway: Gateway) -> socket.socket:
    host, port = gateway.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def question(text: str = "Hi") -> bytes:
    site = Site()
    body = request_body(site, messages_from(text, None, site.dialect), now=time.time())
    head = f"POST /api/generate HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


# --- streams ----------------------------------------------------------------------------------


def test_two_hundred_answers_at_once_are_whole() -> None:
    """All of them run at the same time, and each client gets its own, to the last word."""
    engine = Words(start=threading.Barrier(200, timeout=40).wait)
    prompts = [f"question {i}" for i in range(200)]
    with (
        Gateway(engine, max_streams=200) as gateway,
        Client(gateway.url, max_connections=200, retry=None) as client,
        ThreadPoolExecutor(200) as pool,
    ):
        answers = list(pool.map(lambda prompt: client.generate(prompt).text, prompts))
    assert answers == [engine.answer(prompt) for prompt in prompts]


def test_each_question_of_a_flood_gets_a_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the streams and the connections, all get a 503 with a wait; then all is well."""
    monkeypatch.setattr(f"{SERVER}.IDLE_CONNECTIONS", 100)
    monkeypatch.setattr(f"{SERVER}.LEAST_PATIENCE", 60)
    gate, started = threading.Event(), threading.Semaphore(0)

    def start() -> None:
        started.release()
        assert gate.wait(60)

    with Gateway(Words(2, 0, start), max_streams=8) as gateway, ExitStack() as stack:
        stack.callback(gate.set)
        busy = [stack.enter_context(connect(gateway)) for _ in range(8)]
        for each in busy:
            each.sendall(question())
            assert started.acquire(timeout=30)
        flood = [stack.enter_context(connect(gateway)) for _ in range(300)]
        for each in flood:
            each.sendall(question())
        for each in flood:
            reply = each.recv(65536)
            assert reply.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nRetry-After: 1\r\n" in reply
            each.close()
        gate.set()
        for each in busy:
            assert read_all(each).endswith(b"\r\n0\r\n\r\n")
        with Client(gateway.url, retry=None) as client:
            assert client.generate("Hello").text == "Hello 0\nHello 1\n"


# --- clients that are just there --------------------------------------------------------------

HALVES = [
    b"",
    b"POST /api/gen",
    b"POST /api/generate HTTP/1.1\r\nContent-Length: 50\r\n\r\n{",
    b"POST /api/generate HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
]


def test_half_a_request_holds_a_connection_for_a_while_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three hundred of them disturb nobody, and are closed even if they go on byte by byte."""
    monkeypatch.setattr(f"{SERVER}.PATIENCE", 1.5)
    stop = threading.Event()
    with Gateway(Words(1, 0)) as gateway, ExitStack() as stack:
        stuck = [stack.enter_context(connect(gateway)) for _ in range(300)]
        for number, each in enumerate(stuck):
            each.sendall(HALVES[number % len(HALVES)])

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
    """Where there are more than the gateway takes, and always new ones, others are served."""
    monkeypatch.setattr(f"{SERVER}.IDLE_CONNECTIONS", 40)
    monkeypatch.setattr(f"{SERVER}.LEAST_PATIENCE", 0.2)
    stop = threading.Event()
    with Gateway(Words(1, 0), max_streams=2) as gateway, ExitStack() as stack:
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
            with Client(gateway.url, timeout=Timeout(total=40)) as client:
                assert client.generate("Hello").text == "Hello 0\n"


OUT_OF_DESCRIPTORS = """
import resource, sys
sys.path[:0] = sys.argv[1:]
from test_gateway_under_load import Gateway, Words
resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80))
with Gateway(Words(1, 0)) as gateway:
    print(gateway.url, flush=True)
    sys.stdin.read()
"""


def test_idle_connections_make_room_where_descriptors_run_out() -> None:
    """So they do where the system has fewer sockets than the gateway would take."""
    with (
        subprocess.Popen(
            [sys.executable, "-c", OUT_OF_DESCRIPTORS, str(Path(__file__).parent)],
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
            stack.enter_context(socket.create_connection((host, int(port)), timeout=30))
        client = stack.enter_context(Client(url, timeout=Timeout(total=40)))
        assert client.generate("Hello").text == "Hello 0\n"


def test_a_client_that_does_not_read_on_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not keep its stream for ever."""
    monkeypatch.setattr(f"{SERVER}.PATIENCE", 1.0)
    engine = Words(1_000, 0)
    with Gateway(engine, max_streams=1) as gateway, connect(gateway) as connection:
        connection.sendall(question("x" * 50_000))
        assert engine.closed.wait(30)
        with Client(gateway.url) as client:
            assert client.generate("Hello").text == engine.answer("Hello")


def test_an_engine_may_be_silent_for_longer_than_a_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who waits for an answer is not taken for an idle client."""
    monkeypatch.setattr(f"{SERVER}.PATIENCE", 0.3)
    with Gateway(Words(1, 1.8)) as gateway, Client(gateway.url) as client:
        assert client.generate("Hello").text == "Hello 0\n"


def test_too_large_a_body_is_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is read to its end, for the client to see the refusal, but fills no disk and no memory."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "there is no such folder"))
    with Gateway(Words(), max_body=100_000) as gateway:
        for body in (b"x" * 10_000_000, iter([b"x" * 1_000_000] * 10)):
            reply = requests.post(f"{gateway.url}/api/generate", body, timeout=30)
            assert reply.status_code == 413


# --- ends -------------------------------------------------------------------------------------

SERVE = """
import signal, sys, threading
import aichatfree.gateway
from aichatfree.__main__ import main

finish = threading.Event()
threading.Thread(target=lambda: sys.stdin.readline() and finish.set(), daemon=True).start()

class Stub:
    def __init__(self, *arguments): pass
    def generate(self, messages, *, temperature, cancelled):
        yield "begun"
        while not cancelled.wait(0.02):
            yield "."
            if messages[-1]["content"] == "short" and finish.is_set():
                yield "whole"
                return
    def close(self): pass

aichatfree.gateway.OpenAIUpstream = Stub
# Whoever runs tests in the background of a shell ignores it, and so would this process.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv[1:] = ["serve", "--port", sys.argv[1], "--upstream", "http://stub/v1", "--model", "stub"]
sys.exit(main())
"""


class Serving:
    """`aichatfree serve` in a process, with an engine that is told when to finish."""

    def __init__(self, port: int = 0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(port)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        first = self.process.stderr.readline()
        assert first.startswith("Serving at http://127.0.0.1:"), first
        self.url = first.split()[2]
        self.port = int(self.url.rpartition(":")[2])

    def finish(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("finish\n")
        self.process.stdin.flush()

    def listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        except OSError:
            return False
        return True


@contextmanager
def serving(port: int = 0) -> Iterator[Serving]:
    server = Serving(port)
    with server.process as process:
        try:
            yield server
        finally:
            process.kill()


def client_of(server: Serving) -> Client:
    return Client(server.url, timeout=Timeout(total=60))


def begun(client: Client, prompt: str) -> Stream:
    """A stream whose first word is there."""
    stream = client.stream(prompt)
    assert next(iter(stream)) == "begun"
    return stream


def assert_broken(stream: Stream) -> None:
    with pytest.raises(StreamInterruptedError) as caught:
        stream.read()
    assert caught.value.partial_text.startswith("begun")
    assert not stream.complete


def test_a_killed_gateway_breaks_its_streams_and_another_takes_its_place() -> None:
    """No client takes what it got for whole, and the same port serves again at once."""
    with serving() as killed, client_of(killed) as client:
        streams = [begun(client, "endless") for _ in range(8)]
        killed.process.kill()
        killed.process.wait(10)
        with serving(killed.port) as restarted:
            for stream in streams:
                assert_broken(stream)
            restarted.finish()
            assert client.generate("short").text.endswith("whole")


def test_ctrl_c_lets_answers_finish_and_breaks_the_rest() -> None:
    """What ends within the grace is whole, what does not is visibly broken."""
    with serving() as server, client_of(server) as client:
        short = [begun(client, "short") for _ in range(4)]
        endless = [begun(client, "endless") for _ in range(4)]
        server.process.send_signal(signal.SIGINT)
        end = time.monotonic() + 20
        while server.listens():
            assert time.monotonic() < end
            time.sleep(0.02)
        server.finish()
        with ThreadPoolExecutor(8) as pool:
            answers = pool.map(Stream.read, short)
            list(pool.map(assert_broken, endless))
            assert all(answer.endswith(".whole") for answer in answers)
        assert server.process.wait(20) == 130
        assert server.process.stderr is not None
        assert "Traceback" not in server.process.stderr.read()
