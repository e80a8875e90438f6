"""`aichatfree serve` that is killed or interrupted while it answers."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from aichatfree import Client, Stream, StreamInterruptedError, Timeout
from helpers import LONG, wait_until

SERVE = """
import signal, sys, threading
import aichatfree.gateway
from aichatfree.__main__ import main

finish = threading.Event()
threading.Thread(target=lambda: sys.stdin.readline() and finish.set(), daemon=True).start()

class Stub(aichatfree.gateway.Engine):
    def __init__(self, *arguments): pass
    closed = False
    def check(self): pass
    def close(self): self.closed = True
    def generate(self, messages, *, cancelled, **options):
        yield "begun"
        while not cancelled.wait(0.02):
            yield "."
            if self.closed:
                raise aichatfree.gateway.EngineError("The engine was closed before the gateway.")
            if messages[-1]["content"] == "short" and finish.is_set():
                yield "end"
                return

aichatfree.gateway.OpenAIUpstream = Stub
# A shell starts background jobs with this signal ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv[1:] = ["serve", "--port", sys.argv[1], "--upstream", "http://stub/v1", "--model", "stub"]
sys.exit(main())
"""


class Serving:
    """`aichatfree serve` in a process; answers to "short" end after `finish()`, others never."""

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
    return Client(server.url, timeout=Timeout(total=LONG))


def begun(client: Client, prompt: str) -> Stream:
    """A stream whose first chunk has arrived."""
    stream = client.stream(prompt)
    assert next(iter(stream)) == "begun"
    return stream


def assert_incomplete(stream: Stream) -> None:
    with pytest.raises(StreamInterruptedError) as caught:
        stream.read()
    assert caught.value.partial_text.startswith("begun")
    assert not stream.complete


def test_a_killed_gateway_breaks_its_streams_and_its_port_can_be_used_again() -> None:
    """Clients of a killed gateway see that their answers are incomplete; another gateway can use
    the port at once.
    """
    with serving() as killed, client_of(killed) as client:
        streams = [begun(client, "endless") for _ in range(8)]
        killed.process.kill()
        killed.process.wait(LONG)
        with serving(killed.port) as restarted:
            for stream in streams:
                assert_incomplete(stream)
            restarted.finish()
            assert client.generate("short").text.endswith("end")


def test_after_ctrl_c_answers_may_complete_and_the_others_are_cut_off() -> None:
    """Answers that end within the grace are complete; clients see that the others are not."""
    with serving() as server, client_of(server) as client:
        short = [begun(client, "short") for _ in range(4)]
        endless = [begun(client, "endless") for _ in range(4)]
        server.process.send_signal(signal.SIGINT)
        wait_until(lambda: not server.listens())
        server.finish()
        with ThreadPoolExecutor(8) as pool:
            answers = pool.map(Stream.read, short)
            list(pool.map(assert_incomplete, endless))
            assert all(answer.endswith(".end") for answer in answers)
        assert server.process.wait(LONG) == 130
        assert server.process.stderr is not None
        assert "Traceback" not in server.process.stderr.read()
