"""Clients that disconnect or read slowly, and how many streams may run."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from aichatfree import Client
from aichatfree._protocol.responses import error_from_response
from aichatfree._protocol.sites import Site
from aichatfree.errors import OverloadedError
from aichatfree.gateway import Gateway
from helpers import AT_ONCE, LONG, SHORT, signed_body

from .connections import connect, post, read_to_end, request, send
from .engines import CountingEngine, GatedEngine, ScriptedEngine, wait_for

CONNECTIONS = "aichatfree.gateway._connections"
SERVER = "aichatfree.gateway._server"


@pytest.mark.parametrize("chunks", [0, 1])
def test_the_engine_is_cancelled_when_its_client_disconnects(chunks: int) -> None:
    """Soon after a client has disconnected, before the first chunk or after it, the engine ends."""
    engine = GatedEngine("one", "two")
    with Gateway(engine) as gateway:
        connection = send(gateway, signed_body())
        wait_for(engine.started)
        for _ in range(chunks):
            engine.gate.release()
            assert connection.recv(10)
        disconnected = time.monotonic()
        connection.close()
        assert engine.cancelled.wait(LONG)
        assert engine.ended.wait(LONG)
        assert time.monotonic() - disconnected < AT_ONCE


def test_a_client_that_half_closes_has_disconnected() -> None:
    """A client that says after its question that it will send nothing more cannot be told from one
    that is gone: its engine is cancelled, and the connection is closed without a response.
    """
    engine = GatedEngine("one")
    with Gateway(engine) as gateway:
        connection = send(gateway, signed_body())
        wait_for(engine.started)
        connection.shutdown(socket.SHUT_WR)
        assert read_to_end(connection) == b""
        assert engine.ended.wait(AT_ONCE)


def test_the_end_of_a_client_that_has_sent_many_questions_is_noticed_at_the_next_chunk() -> None:
    """Beyond 32 requests that wait in one connection nothing is read, so that its end is noticed
    only when a chunk cannot be sent.
    """
    engine = GatedEngine(*"chunks")
    with Gateway(engine) as gateway:
        with connect(gateway) as connection:
            connection.sendall(40 * request(signed_body()))
            wait_for(engine.started)
        for _ in engine.chunks:
            engine.gate.release()
            time.sleep(SHORT)
        assert engine.cancelled.is_set()
        assert engine.ended.wait(AT_ONCE)
        assert not engine.started.acquire(blocking=False)


class EndlessEngine(ScriptedEngine):
    """Produces 10,000 characters at a time until it is cancelled, and counts how often."""

    produced = 0

    def answer(self) -> Iterator[str]:
        while not self.cancelled.is_set():
            self.produced += 1
            yield "x" * 10_000


def test_a_client_that_does_not_read_stops_the_engine_from_producing_more() -> None:
    """A few megabytes ahead of its client the engine waits; it ends when the client disconnects."""
    engine = EndlessEngine()
    with Gateway(engine) as gateway:
        connection = send(gateway, signed_body())
        before = -1
        while before != engine.produced:
            before = engine.produced
            time.sleep(2 * SHORT)
        assert engine.produced * 10_000 < 20_000_000
        connection.close()
        assert engine.ended.wait(LONG)


def test_questions_beyond_max_streams_get_a_503_at_once() -> None:
    """With a `queue_timeout` of 0, a question gets a 503 with `Retry-After` when all streams are in
    use.
    """
    engine = GatedEngine("done")
    with Gateway(engine, max_streams=2, queue_timeout=0) as gateway:
        running = [send(gateway, signed_body()) for _ in range(2)]
        wait_for(engine.started, 2)
        responses = [post(gateway, signed_body()) for _ in range(10)]
        assert {response.status_code for response in responses} == {503}
        assert responses[0].headers["Retry-After"] == "1"
        error = error_from_response(503, responses[0].headers, responses[0].content, Site())
        assert isinstance(error, OverloadedError)
        for connection in running:
            connection.close()


def test_the_password_can_be_checked_while_all_streams_are_in_use() -> None:
    """While all streams are in use, `/api/auth` is still answered."""
    engine = GatedEngine("done")
    with Gateway(engine, max_streams=1) as gateway, send(gateway, signed_body()):
        wait_for(engine.started)
        assert post(gateway, b'{"pass": null}', "/api/auth").json() == {"code": 0}


def test_a_stream_that_has_ended_makes_room_for_the_next_question() -> None:
    """After an answer has been sent, another question is accepted in its place."""
    engine = GatedEngine("done")
    with Gateway(engine, max_streams=1) as gateway:
        for _ in range(3):
            engine.gate.release()
            assert post(gateway, signed_body()).text == "done"


def test_max_streams_answers_run_at_the_same_time() -> None:
    """All of `max_streams` questions have reached the engine before the first one is answered."""
    engine = GatedEngine("x")
    with Gateway(engine, max_streams=32) as gateway:
        running = [send(gateway, signed_body()) for _ in range(32)]
        wait_for(engine.started, 32)
        for _ in running:
            engine.gate.release()
        assert all(read_to_end(each).endswith(b"x\r\n0\r\n\r\n") for each in running)


def test_two_hundred_simultaneous_answers_are_complete() -> None:
    """With 200 answers running at the same time each client gets its own complete answer."""
    engine = CountingEngine(20, gap=0.02, start=threading.Barrier(200, timeout=LONG).wait)
    prompts = [f"question {i}" for i in range(200)]
    with (
        Gateway(engine, max_streams=200) as gateway,
        Client(gateway.url, max_connections=200, retry=None) as client,
        ThreadPoolExecutor(200) as pool,
    ):
        answers = list(pool.map(lambda prompt: client.generate(prompt).text, prompts))
    assert answers == [engine.answer(prompt) for prompt in prompts]


def test_each_question_of_a_flood_gets_a_response(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many more questions than streams and connections each gets a 503 with `Retry-After`;
    running answers are not disturbed.
    """
    monkeypatch.setattr(f"{SERVER}.MAX_IDLE_CONNECTIONS", 100)
    monkeypatch.setattr(f"{CONNECTIONS}.MIN_CLIENT_TIMEOUT", 60)
    engine = GatedEngine("one", "two")
    with Gateway(engine, max_streams=8, queue_timeout=0) as gateway, ExitStack() as stack:
        running = [send(gateway, signed_body()) for _ in range(8)]
        wait_for(engine.started, 8)
        flood = [stack.enter_context(connect(gateway)) for _ in range(300)]
        for each in flood:
            each.sendall(request(signed_body()))
        for each in flood:
            response = each.recv(65536)
            assert response.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nRetry-After: 1\r\n" in response
            each.close()
        engine.gate.release(2 * 8)
        assert all(read_to_end(each).endswith(b"\r\n0\r\n\r\n") for each in running)
