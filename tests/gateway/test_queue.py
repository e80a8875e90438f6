"""Questions that wait while all streams are in use."""

from __future__ import annotations

import threading
import time

import pytest

from aichatfree import Client
from aichatfree.gateway import Gateway
from helpers import AT_ONCE, SHORT, Echo, signed_body, threads_named

from .connections import connect, post, read_response, read_to_end, request, send
from .engines import CountingEngine, GatedEngine, wait_for

BUSY = b"HTTP/1.1 503 "


def test_a_question_waits_until_a_running_answer_ends() -> None:
    """A question beyond `max_streams` is answered after one of the running answers."""
    engine = GatedEngine("done")
    with Gateway(engine, max_streams=1) as gateway:
        first, second = send(gateway, signed_body()), send(gateway, signed_body())
        wait_for(engine.started)
        assert not engine.started.acquire(timeout=SHORT)
        engine.gate.release(2)
        assert b"done" in read_to_end(first)
        assert b"done" in read_to_end(second)


def test_questions_are_answered_in_the_order_of_their_arrival() -> None:
    """Of the questions that wait, the one that came first is answered first."""
    engine = GatedEngine("done")
    with Gateway(engine, max_streams=1) as gateway:
        waiting = []
        for number in range(5):
            waiting.append(send(gateway, signed_body(f"question {number}")))
            time.sleep(SHORT / 4)
        for number, each in enumerate(waiting):
            wait_for(engine.started)
            assert engine.messages[-1]["content"] == f"question {number}"
            engine.gate.release()
            read_to_end(each)


def test_a_question_that_has_waited_for_too_long_gets_a_503() -> None:
    """After `queue_timeout` seconds a question gets a 503 with `Retry-After`."""
    engine = GatedEngine("done")
    with Gateway(engine, max_streams=1, queue_timeout=SHORT) as gateway:
        running = send(gateway, signed_body())
        wait_for(engine.started)
        started = time.monotonic()
        response = post(gateway, signed_body())
        assert SHORT <= time.monotonic() - started < SHORT + AT_ONCE
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "1"
        running.close()


def test_only_so_many_questions_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """When too many questions wait already, a further one gets a 503 at once."""
    monkeypatch.setattr("aichatfree.gateway._slots.MAX_WAITING", 2)
    engine = GatedEngine("done")
    with Gateway(engine, max_streams=1) as gateway:
        accepted = [send(gateway, signed_body()) for _ in range(3)]
        wait_for(engine.started)
        time.sleep(SHORT)
        assert post(gateway, signed_body()).status_code == 503
        engine.gate.release(3)
        assert all(b"done" in read_to_end(each) for each in accepted)


def test_a_client_that_disconnects_gives_up_its_place() -> None:
    """The question of a client that disconnects while it waits never reaches the engine."""
    engine = GatedEngine("done")
    with Gateway(engine, max_streams=1) as gateway:
        first, second = send(gateway, signed_body()), send(gateway, signed_body("impatient"))
        wait_for(engine.started)
        time.sleep(SHORT)
        second.close()
        time.sleep(SHORT)
        third = send(gateway, signed_body("third"))
        engine.gate.release(2)
        read_to_end(first)
        read_to_end(third)
        wait_for(engine.started)
        assert engine.messages[-1]["content"] == "third"


def test_a_closing_gateway_refuses_the_questions_that_wait() -> None:
    """While the gateway is closed, a running answer may complete, and those that wait get a 503."""
    engine = GatedEngine("done")
    gateway = Gateway(engine, max_streams=1)
    running = send(gateway, signed_body())
    wait_for(engine.started)
    waiting = send(gateway, signed_body())
    time.sleep(SHORT)
    closing = threading.Thread(target=gateway.close)
    closing.start()
    assert read_to_end(waiting).startswith(BUSY)
    engine.gate.release()
    assert b"done" in read_to_end(running)
    closing.join()


def test_a_question_that_waits_needs_no_thread() -> None:
    """There is one thread for each running engine, and one for the server."""
    engine = GatedEngine("done")
    with Gateway(engine, max_streams=2) as gateway:
        asked = [send(gateway, signed_body()) for _ in range(20)]
        wait_for(engine.started, 2)
        time.sleep(SHORT)
        assert sorted(threads_named("aichatfree-")) == [
            "aichatfree-engine",
            "aichatfree-engine",
            "aichatfree-gateway",
        ]
        engine.gate.release(20)
        assert all(b"done" in read_to_end(each) for each in asked)


def test_by_default_as_many_answers_run_as_the_engine_can_produce() -> None:
    """Unless `max_streams` is given, the gateway takes it from the engine."""
    engine = GatedEngine("done")
    engine.max_streams = 1
    with Gateway(engine, queue_timeout=0) as gateway:
        running = send(gateway, signed_body())
        wait_for(engine.started)
        assert post(gateway, signed_body()).status_code == 503
        running.close()


def test_a_batch_loses_no_prompt_when_its_questions_wait_for_too_long() -> None:
    """A batch with more threads than streams answers all prompts, although some get a 503."""
    engine = CountingEngine(1, gap=SHORT)
    prompts = [f"question {i}" for i in range(24)]
    with (
        Gateway(engine, max_streams=2, queue_timeout=2 * SHORT) as gateway,
        Client(gateway.url) as client,
    ):
        answers = [result.text for result in client.batch(prompts, max_workers=16)]
    assert answers == [engine.answer(prompt) for prompt in prompts]


def test_other_requests_do_not_wait() -> None:
    """While questions wait, other requests on open and new connections are answered at once."""
    engine = GatedEngine("done")
    with Gateway(engine, max_streams=1) as gateway, connect(gateway) as connection:
        asked = [send(gateway, signed_body()) for _ in range(3)]
        wait_for(engine.started)
        started = time.monotonic()
        connection.sendall(request(b'{"pass": null}', "/api/auth"))
        assert read_response(connection).endswith(b'{"code": 0}')
        assert time.monotonic() - started < AT_ONCE
        for each in asked:
            each.close()


def test_a_free_stream_is_used_without_a_queue() -> None:
    """With a `queue_timeout` of 0 questions are answered as long as there is a free stream."""
    with Gateway(Echo(), max_streams=1, queue_timeout=0) as gateway:
        assert [post(gateway, signed_body()).text for _ in range(3)] == ["Hello"] * 3
