"""Answers that a site sends as a stream of events."""

from __future__ import annotations

import json

import pytest

from aichatfree import ProtocolError
from aichatfree._protocol.decoding import ReplyDecoder
from aichatfree.errors import APIError, StreamInterruptedError

DONE = b"data: [DONE]\n\n"


def event(text: str, finish_reason: str | None = None) -> bytes:
    """An event of OpenAI's API."""
    choice = {"delta": {"content": text}, "finish_reason": finish_reason}
    return b"data: " + json.dumps({"id": "1", "choices": [choice]}).encode() + b"\n\n"


def decode(body: bytes) -> tuple[str, type[APIError] | None]:
    """The text of a stream of events, and the class of its error."""
    decoder = ReplyDecoder(framed=True, headers={"Content-Type": "text/event-stream"})
    text = decoder.feed(body)
    rest, error = decoder.finish()
    return text + rest, type(error) if error else None


def test_the_texts_of_all_events_are_the_answer() -> None:
    """The texts of a model's events are joined, up to its last event."""
    assert decode(event("The ") + event("Nile.", "stop") + DONE) == ("The Nile.", None)


@pytest.mark.parametrize(
    "broken",
    [
        b'data: {"choices": [{"delta": {"content": "long "}\n\n',
        b"data: long\n\n",
        b'data: ["long"]\n\n',
        b"data: " + b"x" * (2 << 20) + b"\n\n",
    ],
    ids=["cut JSON", "text", "list", "too long"],
)
def test_an_event_that_cannot_be_read_makes_an_answer_incomplete(broken: bytes) -> None:
    """An event of a model's stream that cannot be read may have had text, so it is an error."""
    assert decode(event("The ") + broken + event("Nile.", "stop") + DONE)[1] in (
        StreamInterruptedError,
        ProtocolError,
    )


def test_a_cut_end_mark_is_not_text() -> None:
    """What follows the last event of a model is not a part of the answer."""
    assert decode(event("The Nile.", "stop") + b"data: [DON") == ("The Nile.", None)


@pytest.mark.parametrize("token", ["true", "null", "1.50", "[1]", "{", "{}", '"x"'])
def test_text_that_looks_like_json_is_text(token: str) -> None:
    """In a stream of plain text, an event that happens to be JSON is the text that was sent."""
    body = f"data: Print\n\ndata: {token}\n\n".encode() + DONE
    assert decode(body) == (f"Print{token}", None)


def test_a_limit_of_tokens_is_the_same_error_in_an_event_and_in_a_notice() -> None:
    """How a site reports a token limit does not matter: one message, and it is not retried."""
    plain = ReplyDecoder(framed=True)
    events = ReplyDecoder(framed=True, headers={"Content-Type": "text/event-stream"})
    plain.feed(b"The Ni")
    plain.feed(b'{"error": {"message": "too long", "code": "length"}}')
    events.feed(event("The Ni", "length") + DONE)
    errors = [decoder.finish()[1] for decoder in (plain, events)]
    assert str(errors[0]) == str(errors[1])
    assert not any(error is None or error.retryable for error in errors)
