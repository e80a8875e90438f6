"""What a client sees when the engine fails."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from aichatfree import GEMINI, OPENAI, Dialect
from aichatfree._protocol.responses import error_from_response
from aichatfree._protocol.sites import Site
from aichatfree.errors import APIError, BadRequestError, RateLimitError
from aichatfree.gateway import EngineError, Gateway
from helpers import signed_body

from .connections import post, read_to_end, send
from .engines import ScriptedEngine

QUOTA = EngineError("no quota left", status=429, code="insufficient_quota", retry_after=26.5)


def error_of(response: requests.Response) -> APIError:
    """The error that a client raises for this response."""
    return error_from_response(response.status_code, response.headers, response.content, Site())


def test_the_gemini_dialect_reports_an_engine_error_as_500_with_the_status_in_the_message() -> None:
    """The status and the wait of the engine are in the message, where the real sites put them."""
    with Gateway(ScriptedEngine(error=QUOTA)) as gateway:
        response = post(gateway, signed_body())
    message = response.json()["error"]["message"]
    assert response.status_code == 500
    assert message.startswith("[GoogleGenerativeAI Error]: ")
    assert "[429 Too Many Requests] no quota left" in message
    error = error_of(response)
    assert isinstance(error, RateLimitError)
    assert error.retry_after == 27


def test_the_openai_dialect_passes_on_status_code_and_wait_of_an_engine_error() -> None:
    """In the openai dialect the response has the engine's status, its code in the body and its wait
    in `Retry-After`.
    """
    with Gateway(ScriptedEngine(error=QUOTA)) as gateway:
        response = post(gateway, signed_body(dialect=OPENAI))
    assert response.status_code == 429
    assert response.json()["error"]["code"] == "insufficient_quota"
    assert response.headers["Retry-After"] == "27"


@pytest.mark.parametrize("wait", [math.inf, -math.inf, math.nan, -5.0])
@pytest.mark.parametrize("dialect", [GEMINI, OPENAI], ids=lambda each: each.name)
def test_a_wait_that_is_no_number_of_seconds_is_left_out(wait: float, dialect: Dialect) -> None:
    """A `retry_after` that is negative or not finite counts as none; the client gets the rest."""
    failure = EngineError("Too many.", status=429, retry_after=wait)
    with Gateway(ScriptedEngine(error=failure)) as gateway:
        response = post(gateway, signed_body(dialect=dialect))
    error = error_of(response)
    assert isinstance(error, RateLimitError)
    assert "Too many." in str(error)
    assert error.retry_after is None


@pytest.mark.parametrize("dialect", [GEMINI, OPENAI], ids=lambda each: each.name)
def test_a_conversation_that_the_engine_refuses_is_a_400(dialect: Dialect) -> None:
    """An engine error with status 400 is a 400 with the engine's message in both dialects."""
    with Gateway(ScriptedEngine(error=EngineError("too long", status=400))) as gateway:
        response = post(gateway, signed_body(dialect=dialect))
    error = error_of(response)
    assert isinstance(error, BadRequestError)
    assert "too long" in str(error)


@pytest.mark.parametrize("bug", [ZeroDivisionError("Hello"), OSError("Hello"), SystemExit(3)])
def test_an_unexpected_exception_of_an_engine_is_a_500_and_is_logged(
    caplog: pytest.LogCaptureFixture, bug: BaseException
) -> None:
    """The traceback of an engine's unexpected exception is logged; the client gets a 500 without
    it.
    """
    with Gateway(ScriptedEngine(error=bug)) as gateway:
        response = post(gateway, signed_body(dialect=OPENAI))
    assert response.status_code == 500
    assert "Hello" not in response.text
    assert [record.exc_info is not None for record in caplog.records] == [True]


class CarelessEngine(ScriptedEngine):
    """Makes an error of these arguments."""

    def __init__(self, message: Any, options: dict[str, Any]) -> None:
        super().__init__()
        self.message, self.options = message, options

    def answer(self) -> Iterator[str]:
        raise EngineError(self.message, **self.options)
        yield


@pytest.mark.parametrize(
    ("message", "options", "words"),
    [
        ("no", {"status": None}, "status must be a whole number, not NoneType"),
        ("no", {"status": "429"}, "status must be a whole number, not str"),
        ("no", {"status": 99}, "status must be from 400 to 599, not 99"),
        ("no", {"code": 7}, "code must be a str, not int"),
        (b"no", {}, "message must be a str, not bytes"),
    ],
)
@pytest.mark.parametrize("dialect", [GEMINI, OPENAI], ids=lambda each: each.name)
def test_a_wrong_argument_of_an_engine_error_is_a_500_and_is_logged(
    caplog: pytest.LogCaptureFixture,
    dialect: Dialect,
    message: object,
    options: dict[str, Any],
    words: str,
) -> None:
    """The log names the engine, and says what is wrong with the error that it raised; the client
    gets a 500 in its dialect.
    """
    with Gateway(CarelessEngine(message, options)) as gateway:
        response = post(gateway, signed_body(dialect=dialect))
    assert response.status_code == 500
    assert "The engine failed" in response.json()["error"]["message"]
    assert "the engine CarelessEngine failed" in caplog.text
    assert words in caplog.text


@pytest.mark.parametrize("failure", [EngineError("no"), ZeroDivisionError()])
def test_an_engine_that_fails_after_some_chunks_breaks_the_connection(failure: Exception) -> None:
    """If an engine fails after some chunks, these arrive without the last chunk of HTTP, so that no
    client takes them for the answer.
    """
    with Gateway(ScriptedEngine("so", " far", error=failure)) as gateway:
        with post(gateway, signed_body(), stream=True) as response:
            got: list[bytes] = []
            with pytest.raises(requests.exceptions.ChunkedEncodingError):
                got.extend(response.iter_content(None))
        assert read_to_end(send(gateway, signed_body())).endswith(b" far\r\n")


@pytest.mark.parametrize(("failure", "records"), [(EngineError("no"), 0), (ZeroDivisionError(), 1)])
def test_an_aborted_stream_leaves_no_traceback_unless_the_engine_has_a_bug(
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    failure: Exception,
    records: int,
) -> None:
    """An `EngineError` after some chunks is not logged as an error; another exception is, once."""
    with Gateway(ScriptedEngine("so", " far", error=failure)) as gateway:
        read_to_end(send(gateway, signed_body()))
    assert len(caplog.records) == records
    assert capfd.readouterr().err == ""


def test_a_chunk_that_is_not_text_spoils_only_its_own_answer() -> None:
    """If an engine yields bytes, that question gets a 500, and the next one is answered."""
    engine = ScriptedEngine(b"bytes")  # type: ignore[arg-type]
    with Gateway(engine) as gateway:
        assert post(gateway, signed_body()).status_code == 500
        engine.chunks = ("text",)
        assert post(gateway, signed_body()).text == "text"
