"""What the message and the attributes of an error for a response contain."""

from __future__ import annotations

import email.utils
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichatfree import APIStatusError, ProtocolError, ServerError
from aichatfree._protocol.responses import MAX_ERROR_BODY, error_from_response, one_line

from .error_responses import SITE, assert_presentable, error_of, gemini, steady


def test_the_message_of_the_server_is_quoted() -> None:
    """The error's message quotes that of the server without the JSON around it."""
    assert "(Invalid signature.)" in str(
        error_of(401, {"error": {"message": "Invalid signature."}})
    )


@pytest.mark.parametrize(
    "body",
    [
        "fetch failed",
        {"error": {"message": "fetch failed"}},
        {"error": {"message": "fetch failed", "code": None}},
        {"error": {"message": "fetch failed", "code": "TypeError"}},
        {"error": {"message": "fetch failed", "code": 7}},
        {"error": {"message": "fetch failed", "code": ["a"]}},
        {"error": "fetch failed"},
        {"message": "fetch failed"},
        '"fetch failed"',
    ],
)
def test_shapes_of_an_error_body(body: object) -> None:
    """In each known form of an error body, the message is found and nothing else is quoted."""
    error = error_of(500, body)
    assert type(error) is ServerError
    assert str(error).startswith("The site answered 500 (fetch failed). ")


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": None}},
        {"error": {"message": {"a": 1}}},
        {"error": {}},
        {"error": None},
        {"error": 5},
        [1],
        [],
        5,
        None,
    ],
)
def test_json_without_a_message(body: object) -> None:
    """JSON that has no message is quoted unchanged."""
    assert str(error_of(500, body)).startswith(f"The site answered 500 ({json.dumps(body)}). ")


def test_html_is_not_quoted() -> None:
    """A web page is described as one, without any of its markup."""
    message = str(error_of(403, b"\r\n <HTML><body>Just a moment...</body></HTML>"))
    assert "(a web page)" in message
    assert "<" not in message


def test_the_content_type_of_an_error_does_not_matter() -> None:
    """An error body is parsed as JSON whatever its Content-Type is."""
    body = {"error": {"message": "Invalid password."}}
    kinds = ["text/plain;charset=UTF-8", "application/json", "text/html"]
    messages = {str(error_of(401, body, Content_Type=kind)) for kind in kinds} | {
        str(error_of(401, body))
    }
    assert len(messages) == 1
    assert "(Invalid password.)" in messages.pop()


def test_advice_follows_the_error_code() -> None:
    """An ``error.code`` selects more specific advice than the status alone."""
    assert "operator" in str(
        error_of(401, {"error": {"message": "No.", "code": "invalid_api_key"}})
    )


@pytest.mark.parametrize(
    ("message", "advised", "other"),
    [
        ("Invalid password.", "password=", "secret="),
        ("Invalid signature.", "secret=", "password="),
    ],
)
def test_one_setting_is_advised(message: str, advised: str, other: str) -> None:
    """The advice for a 401 that names the password or the signature is that setting alone."""
    text = str(error_of(401, {"error": {"message": message}}))
    assert advised in text
    assert other not in text


@pytest.mark.parametrize("word", ["password", "signature", "invalid_api_key", "insufficient_quota"])
def test_specific_advice_is_only_for_its_class(word: str) -> None:
    """A word that explains a 401 or a 429 does not change the advice for another status."""
    assert "Change the messages" in str(error_of(400, {"error": {"message": f"Bad {word}."}}))


def test_empty_body_leaves_no_brackets() -> None:
    """For an empty body the message quotes nothing, and has no empty brackets."""
    assert str(error_of(404)).startswith("The site answered 404. Check ")


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_redirect(status: int) -> None:
    """A redirect is a ProtocolError that names the target and advises to change base_url=."""
    error = error_of(status, b"<html>moved</html>", Location="https://other.test/chat")
    assert type(error) is ProtocolError
    assert "redirect to https://other.test/chat)" in str(error)
    assert "base_url=" in str(error)


def test_redirect_without_a_location() -> None:
    """A redirect without a Location is a ProtocolError with a readable message."""
    assert "(redirect to ?)" in str(error_of(302))


def test_redirect_location_is_bounded() -> None:
    """A redirect's long target with control characters is shortened to one printable line."""
    message = str(error_of(302, Location="https://other.test/\r\n\x1b[31m" + "x" * 5000))
    assert message.isprintable()
    assert len(message) < 700


@pytest.mark.parametrize(
    "body", [b"", b"plain", "текст 🙂".encode(), b"\xff\x00", b'{"error":{}}'], ids=repr
)
def test_body_is_kept(body: bytes) -> None:
    """An error has the body of the response as text, whatever its bytes are."""
    assert error_of(500, body).body == body.decode("utf-8", "replace")


def test_kept_body_is_bounded() -> None:
    """An error has at most 64 KiB of the body."""
    body = error_of(500, b"x" * (MAX_ERROR_BODY + 10)).body
    assert body is not None
    assert len(body) == MAX_ERROR_BODY == 65536


def test_an_error_has_the_stated_wait() -> None:
    """An error's retry_after is the wait that the response states, or None."""
    assert error_of(503, Retry_After="7").retry_after == 7
    assert error_of(500, gemini('[429 Too Many Requests] [{"retryDelay":"27s"}]')).retry_after == 27
    assert error_of(503).retry_after is None


def test_the_message_names_a_wait_that_the_words_of_the_site_do_not() -> None:
    """A wait that only a header or a field of the body states is in the message of the error."""
    in_header = error_of(429, "Too many requests.", Retry_After="90")
    details = [{"retryDelay": "27s"}]
    in_body = error_of(500, {"error": {"code": 429, "message": "Busy.", "details": details}})
    assert "(Too many requests.) and asks to wait 1 min 30 s. " in str(in_header)
    assert "asks to wait 27 s. " in str(in_body)


@pytest.mark.parametrize("words", ["Try again in 20 s.", "Limit reached, resets at 08:00 UTC"])
def test_the_message_does_not_repeat_a_wait(words: str) -> None:
    """If the site's own words say when to try again, the message does not name the wait again."""
    assert "asks to wait" not in str(error_of(429, words, Retry_After="20"))


# --- any response -----------------------------------------------------------------------------

json_errors = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "message", "code", "type"]), inner)
    ),
    max_leaves=8,
)
bodies = (
    st.binary(max_size=60)
    | st.text(max_size=40).map(str.encode)
    | json_errors.map(lambda value: json.dumps(value).encode())
)
any_headers = st.dictionaries(
    st.sampled_from(["Retry-After", "Date", "Location", "Content-Type", "Content-Encoding"]),
    st.text(st.characters(exclude_categories=[]), max_size=30)
    | st.datetimes().map(email.utils.format_datetime),
)


@steady
@given(st.integers(100, 999), any_headers, bodies)
def test_any_response(status: int, headers: dict[str, str], body: bytes) -> None:
    """Any status, headers and bytes become one of our errors, with a presentable message."""
    error = error_from_response(status, headers, body, SITE)
    assert isinstance(error, (APIStatusError, ProtocolError))
    assert error.status_code == status
    assert error.body == body.decode("utf-8", "replace")
    assert error.retry_after is None or error.retry_after >= 0
    assert_presentable(error)


@pytest.mark.parametrize(
    "body",
    [
        b"a\r\nb\x00c\x1b[31md\x7f\xc2\x85\xe2\x80\xa8\xe2\x80\xaee",
        b'{"error": {"message": "a\\u0000\\n\\u202e\\ud800b"}}',
        b"x" * 100_000,
        b" " * 100_000,
        "й".encode() * 100_000,
        b'{"error": {"message": "' + b"m" * 50_000 + b'"}}',
        b'{"error": {"code": "' + b"c" * 50_000 + b'"}}',
        b'{"error":' * 5_000,
        b"[" * 60_000,
        b'{"error":{"code":' + b"[" * 900 + b"]" * 900 + b"}}",
        b"1" * 60_000,
        b'{"error": NaN}',
        b"<html>" * 10_000,
    ],
    ids=lambda body: repr(body[:24]),
)
def test_hostile_bodies(body: bytes) -> None:
    """A body with control characters, great length or deep nesting is a presentable error."""
    assert_presentable(error_of(500, body))


@steady
@given(st.text(st.characters(exclude_categories=[]), max_size=400), st.integers(1, 50))
def test_one_line(text: str, limit: int) -> None:
    """Any text becomes one printable line of at most the given length, without extra spaces."""
    line = one_line(text, limit)
    assert line.isprintable()
    assert len(line) <= limit
    assert line == " ".join(line.split())


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("a\n\n b\tc\x00d ", 300, "a b c d"),
        ("абв 你好 🙂", 300, "абв 你好 🙂"),
        ("abcde", 5, "abcde"),
        ("abcdef", 5, "abcd…"),
    ],
)
def test_one_line_keeps_words(text: str, limit: int, expected: str) -> None:
    """Words are kept with one space between them; a shortened text ends with an ellipsis."""
    assert one_line(text, limit) == expected
