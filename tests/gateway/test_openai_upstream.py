"""`OpenAIUpstream`: requests, event streams, errors and cancellation."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from aichatfree._cancellation import CancelToken
from aichatfree.gateway import EngineError, Gateway, OpenAIUpstream
from helpers import AT_ONCE, LONG, SHORT, UNREACHABLE, signed_body

from .connections import send
from .openai_server import CHUNKED, DONE, OK, QUESTION, Server, event, generate, in_chunks, upstream

# --- streams ----------------------------------------------------------------------------------


def test_the_request_is_that_of_the_openai_api() -> None:
    """The path, key, model, messages and temperature are where OpenAI's API has them."""
    with Server(OK, event("Hello"), DONE) as server, upstream(server.url, "key") as engine:
        assert list(generate(engine, temperature=0.5, max_tokens=9)) == ["Hello"]
    assert server.request.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer key\r\n" in server.request
    assert server.body == {
        "model": "tiny",
        "messages": QUESTION,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "max_tokens": 9,
    }


STREAM = (
    b": a comment\n\n"
    + event("", role="assistant")
    + event("При")
    + b'data: {"choices": []}\r\n\r\n'
    + event("вет\u2028👋").replace(b"\n", b"\r\n")
    + b"event: ping\nid: 7\n\n"
    + b'data:{"choices":\ndata: [{"delta": {"content": "!"}}]}\n\n'
    + event(finish_reason="stop")
    + DONE
)


@pytest.mark.parametrize("size", [1, 7, len(STREAM)])
@pytest.mark.parametrize("chunked", [False, True])
def test_an_event_stream_is_read_wherever_it_is_split(size: int, chunked: bool) -> None:
    """Comments, CRLF, empty choices and split characters in an event stream change no text."""
    parts = [STREAM[i : i + size] for i in range(0, len(STREAM), size)]
    if chunked:
        parts = in_chunks(parts)
    joined = [b"".join(parts[i : i + 40]) for i in range(0, len(parts), 40)]
    with Server(CHUNKED if chunked else OK, *joined) as server, upstream(server.url) as engine:
        assert "".join(map(str, generate(engine))) == "Привет\u2028👋!"


def test_an_error_event_ends_the_answer_with_its_message_and_status() -> None:
    """An event with an error ends the answer with an error of that message and status."""
    error = b'data: {"error": {"message": "out of memory", "code": 507}}\n\n'
    with Server(OK, event("a"), error, DONE) as server, upstream(server.url) as engine:
        chunks = generate(engine)
        assert next(chunks) == "a"
        with pytest.raises(EngineError, match="out of memory") as caught:
            next(chunks)
    assert caught.value.status == 507


def test_an_error_event_with_a_code_that_is_not_an_http_status_is_a_500() -> None:
    """The number of an error in an event may be the server's own; then the status is 500."""
    error = b'data: {"error": {"message": "out of memory", "code": 99}}\n\n'
    with (
        Server(OK, error, DONE) as server,
        upstream(server.url) as engine,
        pytest.raises(EngineError, match="out of memory") as caught,
    ):
        list(generate(engine))
    assert caught.value.status == 500


@pytest.mark.parametrize(
    "junk", [b"data: {\n\n", b"data: 7\n\n", b"data: " + b"[" * 9999 + b"\n\n"]
)
def test_an_event_that_is_not_a_json_object_is_an_error(junk: bytes) -> None:
    """An event that is not a JSON object ends the answer with an error."""
    with (
        Server(OK, junk, DONE) as server,
        upstream(server.url) as engine,
        pytest.raises(EngineError, match="not a JSON object"),
    ):
        list(generate(engine))


def test_a_line_that_is_too_long_is_an_error() -> None:
    """A server that sends one endless line cannot fill the memory."""
    with (
        Server(OK, b"data: ", *[b"x" * (1 << 20)] * 9, hang=True) as server,
        upstream(server.url) as engine,
        pytest.raises(EngineError, match="event that is too long"),
    ):
        list(generate(engine))


# --- errors -----------------------------------------------------------------------------------


def refusal(status: str, body: bytes, headers: bytes = b"") -> bytes:
    head = b"HTTP/1.1 %b\r\nContent-Length: %d\r\n%b\r\n" % (status.encode(), len(body), headers)
    return head + body


@pytest.mark.parametrize(
    ("response", "status", "code", "message"),
    [
        (
            refusal("429 X", b'{"error": {"message": "no quota", "code": "insufficient_quota"}}'),
            429,
            "insufficient_quota",
            "no quota",
        ),
        (refusal("404 X", b'{"error": "model \'tiny\' not found"}'), 404, None, "not found"),
        (
            refusal("400 X", b'{"message": "bad", "type": "BadRequest", "code": 400}'),
            400,
            "BadRequest",
            "bad",
        ),
        (refusal("401 X", b'{"error": "Unauthorized"}'), 401, "invalid_api_key", "Unauthorized"),
        (refusal("502 X", b"<html>\nBad Gateway"), 502, None, "<html> Bad Gateway"),
        (refusal("503 X", b""), 503, None, "answered 503"),
        (refusal("999 X", b""), 500, None, "answered 999"),
        (refusal("307 X", b"", b"Location: http://127.0.0.1:1/\r\n"), 502, None, "answered 307"),
    ],
)
def test_the_error_of_the_server_keeps_its_status_code_and_message(
    response: bytes, status: int, code: str | None, message: str
) -> None:
    """All usual forms of error bodies are understood; a redirect is an error and not followed."""
    with (
        Server(response) as server,
        upstream(server.url) as engine,
        pytest.raises(EngineError) as caught,
    ):
        list(generate(engine))
    assert caught.value.status == status
    assert caught.value.code == code
    assert message in caught.value.message


def test_the_wait_of_an_error_is_kept() -> None:
    """`Retry-After` in an error of the server becomes the `retry_after` of the `EngineError`."""
    with (
        Server(refusal("429 X", b"", b"Retry-After: 27\r\n")) as server,
        upstream(server.url) as engine,
        pytest.raises(EngineError) as caught,
    ):
        list(generate(engine))
    assert caught.value.retry_after == 27


def test_the_repr_does_not_show_the_key() -> None:
    """The repr of the engine has the URL and the model, and not the key."""
    with upstream(UNREACHABLE, "sk-123") as engine:
        assert repr(engine) == f"OpenAIUpstream('{UNREACHABLE}/chat/completions', 'tiny')"


def test_the_key_is_removed_from_an_error_message() -> None:
    """A server may repeat the key in its error; clients do not see it."""
    with (
        Server(refusal("401 X", b"wrong key: sk-123")) as server,
        upstream(server.url, "sk-123") as engine,
        pytest.raises(EngineError, match=r"wrong key: \*\*\*"),
    ):
        list(generate(engine))


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "ключ"])
def test_a_key_that_cannot_be_in_a_header_is_refused_without_showing_it(key: str) -> None:
    """A key with spaces, line breaks or letters outside ASCII is a `ValueError`."""
    with pytest.raises(ValueError, match="api_key must") as caught:
        OpenAIUpstream(UNREACHABLE, "tiny", key)
    assert key not in str(caught.value)


@pytest.mark.parametrize(("timeout", "error"), [(0, ValueError), ("5", TypeError)])
def test_a_timeout_that_is_not_a_number_of_seconds_is_refused(
    timeout: Any, error: type[Exception]
) -> None:
    """The error for a timeout that is not a positive number of seconds names the argument."""
    with pytest.raises(error, match="timeout must"):
        OpenAIUpstream(UNREACHABLE, "tiny", timeout=timeout)


def test_a_server_that_cannot_be_reached_is_an_error() -> None:
    """The error for an unreachable server begins with "fetch failed", as on the real sites."""
    with (
        upstream(UNREACHABLE) as engine,
        pytest.raises(EngineError, match=r"^fetch failed") as caught,
    ):
        list(generate(engine))
    assert (caught.value.status, caught.value.code) == (500, "fetch")


@pytest.mark.parametrize("parts", [[], [OK], [OK, event("a")]])
def test_a_server_that_is_silent_for_too_long_is_an_error(parts: list[bytes]) -> None:
    """The timeout applies before the response, before its first event and between two events."""
    with (
        Server(*parts, hang=True) as server,
        upstream(server.url, timeout=SHORT) as engine,
        pytest.raises(EngineError, match=f"silent for {SHORT:g} s") as caught,
    ):
        list(generate(engine))
    assert caught.value.status == 504


# --- cancelling and closing -------------------------------------------------------------------


@pytest.mark.parametrize("parts", [[], [OK], [OK, event("a")]])
def test_when_a_client_disconnects_its_request_to_the_server_is_closed(parts: list[bytes]) -> None:
    """When a client disconnects, its request to a silent server is closed soon."""
    with (
        Server(*parts, hang=True) as server,
        upstream(server.url) as engine,
        Gateway(engine) as gateway,
    ):
        asked = threading.Event()
        server.on_request = asked.set
        client = send(gateway, signed_body())
        assert asked.wait(LONG)
        client.close()
        started = time.monotonic()
        assert server.disconnected.wait(LONG)
        assert time.monotonic() - started < AT_ONCE


@pytest.mark.parametrize("parts", [[], [OK], [OK, event("a")]])
def test_a_cancelled_answer_ends_without_an_error(parts: list[bytes]) -> None:
    """After its token has been set an answer ends at once, as if it were complete."""
    token = CancelToken()
    with Server(*parts, hang=True) as server, upstream(server.url) as engine:
        timer = threading.Timer(SHORT, token.set)
        timer.start()
        started = time.monotonic()
        assert list(generate(engine, token)) == (["a"] if len(parts) == 2 else [])
        assert time.monotonic() - started < SHORT + AT_ONCE
        timer.join()


def test_a_plain_event_cancels_an_answer_at_its_next_chunk() -> None:
    """An event that is not a token of the package is checked before each chunk."""
    cancelled = threading.Event()
    with Server(OK, event("a"), event("b"), DONE) as server, upstream(server.url) as engine:
        chunks = generate(engine, cancelled)
        assert next(chunks) == "a"
        cancelled.set()
        assert list(chunks) == []


def test_an_iterator_that_is_closed_closes_its_connection() -> None:
    """Closing the iterator of an answer closes the connection to the model's server."""
    with Server(OK, event("a"), hang=True) as server, upstream(server.url) as engine:
        chunks = generate(engine)
        assert next(chunks) == "a"
        chunks.close()  # type: ignore[attr-defined]
        assert server.disconnected.wait(LONG)


@pytest.mark.parametrize("parts", [[], [OK], [OK, event("a")]])
def test_closing_the_engine_ends_running_answers_with_an_error(parts: list[bytes]) -> None:
    """Closing the engine ends its running answers with an error; the caller's event is not set."""
    cancelled = CancelToken()
    with Server(*parts, hang=True) as server, upstream(server.url) as engine:
        timer = threading.Timer(SHORT, engine.close)
        timer.start()
        with pytest.raises(EngineError, match="before it was complete"):
            list(generate(engine, cancelled))
        timer.join()
    assert not cancelled.is_set()


def test_a_closed_engine_refuses_questions() -> None:
    """A closed engine refuses questions with status 503; closing it a second time does nothing."""
    engine = OpenAIUpstream(UNREACHABLE, "tiny")
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed") as caught:
        list(generate(engine))
    assert caught.value.status == 503
