"""The line that is logged for each request."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

import pytest
import requests

from aichatfree.gateway import EngineError, Gateway, OpenAIUpstream
from helpers import UNREACHABLE, signed_body

from .connections import post, read_to_end, send
from .engines import ScriptedEngine

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
            "POST /api/generate 401, 0 chunks",
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
    """The log line of a request has its address, method, path, status, chunks and time; it never
    has a text, a password or a signature.
    """
    with Gateway(ScriptedEngine("one", "two")) as gateway:
        ask(gateway)
    (message,) = caplog.messages
    assert "topsecret" not in message
    assert re.search(line, message), message


def test_the_line_of_an_incomplete_answer_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """If an engine fails after some chunks, the log line of the request ends with its status."""
    with Gateway(ScriptedEngine("x", error=EngineError("no", status=502))) as gateway:
        read_to_end(send(gateway, signed_body()))
    (message,) = caplog.messages
    assert message.endswith(", incomplete: 502")


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
    assert message.endswith(", the model: 500 fetch (ECONNREFUSED)")
