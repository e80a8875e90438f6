"""The line that is logged for each request."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable

import pytest
import requests

from aichatfree.gateway import EngineError, Gateway, OpenAIUpstream, TokenLimitError, Usage
from helpers import AT_ONCE, SHORT, UNREACHABLE, signed_body, wait_until

from .connections import QUESTION, ask, connect, is_closed, post, read_to_end, request, send
from .engines import GatedEngine, ScriptedEngine

Ask = Callable[[Gateway], object]


@pytest.fixture(autouse=True)
def log_everything(caplog: pytest.LogCaptureFixture) -> None:
    """The documented logger is the parent of all loggers of the gateway."""
    caplog.set_level(logging.INFO, "aichatfree.gateway")


@pytest.mark.parametrize(
    ("ask", "line"),
    [
        (
            lambda gateway: post(gateway, signed_body("topsecret")),
            r"^127\.0\.0\.1 POST /api/generate 200, 2 chunks, \d+\.\d+ s$",
        ),
        (
            lambda gateway: post(gateway, signed_body("topsecret", sign="topsecret")),
            r"POST /api/generate 401, \d+\.\d+ s$",
        ),
        (
            lambda gateway: post(gateway, signed_body(password="topsecret")),
            "POST /api/generate 200, 2 chunks",
        ),
        (lambda gateway: requests.get(gateway.url + "/a%0Ab", timeout=10), "GET /a b 404, "),
    ],
)
def test_each_request_is_logged_in_one_line_without_its_contents(
    caplog: pytest.LogCaptureFixture, ask: Ask, line: str
) -> None:
    """The log line of a request has its address, method, path, status and time, and the chunks of
    a stream; it never has a text, a password or a signature.
    """
    with Gateway(ScriptedEngine("one", "two")) as gateway:
        ask(gateway)
    (message,) = caplog.messages
    assert "topsecret" not in message
    assert re.search(line, message), message


def test_the_line_of_an_answer_in_one_piece_counts_no_chunks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An answer that is not streamed has no chunks, and its log line names none."""
    with Gateway(ScriptedEngine("one", "two")) as gateway:
        assert ask(gateway, QUESTION).status_code == 200
    (message,) = caplog.messages
    assert re.search(r"POST /v1/chat/completions 200, \d+\.\d+ s$", message), message


def test_a_client_that_is_too_slow_has_a_line(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request whose body does not arrive in time is logged, with the status 408."""
    monkeypatch.setattr("aichatfree.gateway._server.CLIENT_TIMEOUT", SHORT)
    with Gateway(ScriptedEngine("x")) as gateway, connect(gateway) as connection:
        connection.sendall(request(b"x" * 50)[:-1])
        assert is_closed(connection)
    (message,) = caplog.messages
    assert re.search(r"POST /api/generate 408, \d+\.\d+ s, cut off$", message), message


@pytest.mark.parametrize(
    "sent",
    [request(signed_body())[:-1], request(signed_body())],
    ids=["before the end of its request", "after it"],
)
def test_a_client_that_disconnects_before_the_response_has_a_line(
    caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    """A client that disconnects while it sends its request, or before the first chunk, is logged
    with the status 499.
    """
    engine = GatedEngine("x")
    with Gateway(engine) as gateway:
        with connect(gateway) as connection:
            connection.sendall(sent)
            time.sleep(SHORT)
        wait_until(lambda: caplog.messages, AT_ONCE)
    (message,) = caplog.messages
    assert re.search(r"POST /api/generate 499, \d+\.\d+ s, cut off$", message), message


def test_the_line_of_an_incomplete_answer_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """If an engine fails after some chunks, the log line of the request ends with its status."""
    with Gateway(ScriptedEngine("x", error=EngineError("no", status=502))) as gateway:
        read_to_end(send(gateway, signed_body()))
    (message,) = caplog.messages
    assert message.endswith(", incomplete: 502")


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("counted", [(), (Usage(9, 2),)], ids=["unknown", "counted"])
def test_the_line_of_an_answer_that_is_as_long_as_asked_names_no_failure(
    caplog: pytest.LogCaptureFixture, counted: tuple[Usage, ...], streamed: bool
) -> None:
    """If an answer stopped at the `max_tokens` of the client, its log line says just that."""
    with Gateway(ScriptedEngine("x", *counted, error=TokenLimitError())) as gateway:
        assert ask(gateway, QUESTION | {"max_tokens": 2, "stream": streamed}).status_code == 200
    (message,) = caplog.messages
    assert re.search(r" 200, .* s, stopped at the client's max_tokens$", message), message


def test_the_line_of_an_answer_that_is_shorter_than_asked_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If the model's own limit of tokens is below that of the client, the answer is incomplete."""
    with Gateway(ScriptedEngine("x", Usage(9, 2), error=TokenLimitError())) as gateway:
        ask(gateway, QUESTION | {"max_tokens": 100, "stream": True})
    (message,) = caplog.messages
    assert message.endswith(", incomplete: 502 length")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (EngineError("x", status=429, code="insufficient_quota"), "429 insufficient_quota"),
        (EngineError("topsecret", status=400, code="topsecret and spaces"), "400"),
        (ZeroDivisionError("topsecret"), r"500 \(ZeroDivisionError\)"),
    ],
)
def test_the_line_says_why_there_is_no_answer(
    caplog: pytest.LogCaptureFixture, error: Exception, reason: str
) -> None:
    """If an engine refuses, the log line has its status and code, but not its message, which may
    repeat the question.
    """
    with Gateway(ScriptedEngine(error=error)) as gateway:
        assert post(gateway, signed_body()).status_code in (400, 500)
    message = caplog.messages[-1]
    assert re.search(rf" s, the model: {reason}$", message), message
    assert "topsecret" not in message


def test_the_line_says_why_a_model_server_cannot_be_reached(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If a model's server cannot be reached, the log line has the error of the operating system."""
    engine = OpenAIUpstream(UNREACHABLE, "tiny", "topsecret")
    with Gateway(engine) as gateway:
        assert post(gateway, signed_body()).status_code == 500
    engine.close()
    (message,) = caplog.messages
    assert ", the model: 500 fetch (ECONNREFUSED): Nothing answers at " in message
