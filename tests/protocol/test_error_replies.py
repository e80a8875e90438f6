from __future__ import annotations

import email.utils
import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aichatfree._protocol import responses as error_replies
from aichatfree._protocol.responses import (
    MAX_ERROR_BODY,
    error_from_response,
    not_an_answer,
    one_line,
    quota_error,
    retry_after,
)
from aichatfree._protocol.sites import Site
from aichatfree.errors import (
    APIError,
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    ServerError,
)

steady = settings(derandomize=True, deadline=None, max_examples=200)

SITE = Site()
QUOTA_PHRASE = "当前地区当日额度已消耗完"
CHALLENGE = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>" + b"x" * 9000


def reply(status: int, body: object = b"", **headers: str) -> APIStatusError | ProtocolError:
    """The error for a reply; a body that is neither bytes nor text is sent as JSON."""
    if isinstance(body, str):
        body = body.encode()
    elif not isinstance(body, bytes):
        body = json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return error_from_response(status, named, body, SITE)


def gemini(message: str) -> dict[str, Any]:
    """What the gemini-style server says when its upstream fails."""
    text = "[GoogleGenerativeAI Error]: Error fetching from https://x.test/v1beta: " + message
    return {"error": {"code": "Error", "message": text}}


def openai(message: str, code: object, kind: str = "error") -> dict[str, Any]:
    """What the openai-style server passes on from its upstream."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


# --- what each reply means --------------------------------------------------------------------

REPLIES: dict[str, tuple[int, object, type[APIError], str]] = {
    "gemini quota": (
        500,
        gemini('[429 Too Many Requests] Resource exhausted [{"retryDelay":"27s"}]'),
        RateLimitError,
        "max_requests_per_minute=",
    ),
    "gemini quota in words": (
        500,
        {"error": {"message": "Quota exceeded for quota metric 'Requests' of service"}},
        RateLimitError,
        "max_requests_per_minute=",
    ),
    "gemini quota in plain text": (500, "oops: quota EXCEEDED", RateLimitError, "Wait"),
    "quota phrase in a 500": (500, f"错误: {QUOTA_PHRASE}!", RateLimitError, "Wait"),
    "openai quota": (
        429,
        openai("You exceeded your current quota", "insufficient_quota", "insufficient_quota"),
        RateLimitError,
        "another site",
    ),
    "openai rate limit": (
        429,
        openai("Rate limit reached for requests", "rate_limit_exceeded"),
        RateLimitError,
        "max_requests_per_minute=",
    ),
    "gemini overloaded": (
        500,
        gemini("[503 Service Unavailable] The model is overloaded. Please try again later."),
        OverloadedError,
        "Try again in a while",
    ),
    "gemini overloaded in words": (
        500,
        {"error": {"message": "The model is Overloaded."}},
        OverloadedError,
        "Try again in a while",
    ),
    "openai overloaded": (
        503,
        openai("The engine is currently overloaded", None),
        OverloadedError,
        "Try again in a while",
    ),
    "openai key bad": (
        401,
        openai("Incorrect API key provided: sk-***.", "invalid_api_key"),
        AuthenticationError,
        "only its operator",
    ),
    "openai upstream 502": (
        502,
        b"<html>\r\n<head><title>502 Bad Gateway</title></head></html>",
        ServerError,
        "try again in a while",
    ),
    "gemini upstream 502": (
        500,
        gemini("[502 Bad Gateway] "),
        ServerError,
        "try again in a while",
    ),
    "gemini unreachable": (
        500,
        {"error": {"code": "Error", "message": "[GoogleGenerativeAI Error]: fetch failed"}},
        ServerError,
        "try again in a while",
    ),
    "openai unreachable": (
        500,
        {"error": {"code": "TypeError", "message": "fetch failed"}},
        ServerError,
        "try again in a while",
    ),
    "wrong signature": (
        401,
        {"error": {"message": "Invalid signature."}},
        AuthenticationError,
        "secret= (AICHATFREE_SECRET)",
    ),
    "wrong password": (
        401,
        {"error": {"message": "Invalid password."}},
        AuthenticationError,
        "password= (AICHATFREE_PASSWORD)",
    ),
    "gemini no messages": (
        400,
        {"error": {"message": "Invalid message history: The last message must be from user role."}},
        BadRequestError,
        "Change the messages",
    ),
    "openai no messages": (
        400,
        {"error": {"message": "No input text."}},
        BadRequestError,
        "Change the messages",
    ),
    "wrong shape": (500, b"", ServerError, "dialect= (AICHATFREE_DIALECT)"),
    "wrong shape, newline": (500, b"\r\n", ServerError, "dialect= (AICHATFREE_DIALECT)"),
    "wrong shape at openai": (401, b"", AuthenticationError, "password= (AICHATFREE_PASSWORD)"),
    "wrong path": (404, b"Not found", NotFoundError, "base_url= (AICHATFREE_BASE_URL)"),
    "challenge page": (403, CHALLENGE, PermissionDeniedError, "another network"),
    "forbidden": (403, b"", PermissionDeniedError, "ask its operator"),
    "method": (405, b"", NotFoundError, "Check base_url="),
    "timeout": (408, b"", APIStatusError, "try again"),
    "teapot": (418, b"short and stout", APIStatusError, "check base_url="),
    "too large": (413, b"<html>", BadRequestError, "shorten it"),
    "unprocessable": (422, b"", BadRequestError, "Change the messages"),
    "rate limit of a proxy": (429, b"<html>", RateLimitError, "max_requests_per_minute="),
    "bad gateway": (502, b"", ServerError, "try again in a while"),
    "unavailable": (503, b"", OverloadedError, "Try again in a while"),
    "gateway timeout": (504, b"<html>", ServerError, "try again in a while"),
    "site overloaded": (529, b"", OverloadedError, "Try again in a while"),
    **{
        f"cdn {status}": (status, CHALLENGE, ServerError, "try again in a while")
        for status in [*range(520, 529), 530]
    },
    "unheard of": (999, b"", ServerError, "try again in a while"),
}


@pytest.mark.parametrize(("status", "body", "cls", "advice"), REPLIES.values(), ids=REPLIES)
def test_meaning(status: int, body: object, cls: type[APIError], advice: str) -> None:
    """Each known error reply has its class, its status, and the next step in its message."""
    error = reply(status, body)
    assert type(error) is cls
    assert error.status_code == status
    assert str(error).startswith(f"The site answered {status}")
    assert advice in str(error)


@pytest.mark.parametrize(
    "message",
    [
        "[400 Bad Request] API key not valid. Please pass a valid API key.",
        "[403 Forbidden] Your API key was reported as leaked.",
        "[401 Unauthorized] Request had invalid authentication credentials.",
        "[404 Not Found] models/gemini-1.5-pro is not found for API version v1beta",
    ],
)
def test_upstream_refusal_is_not_the_users_fault(message: str) -> None:
    """Where the model's provider refuses the site itself, the advice is to ask its operator."""
    error = reply(500, gemini(message))
    assert "operator" in str(error)


@pytest.mark.parametrize("words", [QUOTA_PHRASE, "Quota exceeded for metric"])
def test_quota_words_deep_in_a_500(words: str) -> None:
    """Words that mean "quota used up" are found wherever they stand in the text of a 500."""
    assert type(reply(500, "Error: " + "at f (x.js) " * 100 + words)) is RateLimitError


def test_quota_words_in_a_web_page() -> None:
    """Words that mean "quota used up" are found in a 500 that is a web page."""
    assert type(reply(500, f"<html><body>{QUOTA_PHRASE}</body></html>")) is RateLimitError


def test_no_quota_words_at_all() -> None:
    """A site without quota phrases, or with an empty one, takes no plain 500 for a quota."""
    for phrases in [(), ("",)]:
        error = error_from_response(500, {}, b"oops", Site(quota_phrases=phrases))
        assert type(error) is ServerError


@pytest.mark.parametrize(
    ("status", "body", "cls"),
    [
        (502, gemini("[429 Too Many Requests] Quota exceeded"), ServerError),
        (400, gemini("[503 Service Unavailable] overloaded"), BadRequestError),
        (500, gemini("[200 OK] strange"), ServerError),
        (500, gemini("[999 Strange] strange"), ServerError),
        (500, "item [123 of 456] is not iterable", ServerError),
        (500, "got 429 of [items]", ServerError),
    ],
)
def test_only_a_500_is_a_disguise(status: int, body: object, cls: type[APIError]) -> None:
    """Only a 500 is read as another status, and only as one that is an error."""
    assert type(reply(status, body)) is cls


def test_disguise_keeps_the_real_status() -> None:
    """The status of an error is the one that came over the wire, not the one it stands for."""
    assert reply(500, gemini("[429 Too Many Requests]")).status_code == 500


def test_server_words_are_quoted() -> None:
    """What the server said is in the message, without the JSON around it."""
    assert "(Invalid signature.)" in str(reply(401, {"error": {"message": "Invalid signature."}}))


@pytest.mark.parametrize(
    "body",
    [
        "fetch failed",
        {"error": {"message": "fetch failed"}},
        {"error": {"message": "fetch failed", "code": None}},
        {"error": {"message": "fetch failed", "code": "TypeError"}},
        {"error": {"message": "fetch failed", "code": 503}},
        {"error": {"message": "fetch failed", "code": ["a"]}},
        {"error": "fetch failed"},
        {"message": "fetch failed"},
        '"fetch failed"',
    ],
)
def test_shapes_of_an_error_body(body: object) -> None:
    """Whatever shape the body has, its message is found and nothing else is quoted."""
    error = reply(500, body)
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
    """JSON without a message is quoted as it is."""
    assert str(reply(500, body)).startswith(f"The site answered 500 ({json.dumps(body)}). ")


def test_html_is_not_quoted() -> None:
    """A web page is named as one, and none of its markup is in the message."""
    message = str(reply(403, b"\r\n <HTML><body>Just a moment...</body></HTML>"))
    assert "(a web page)" in message
    assert "<" not in message


def test_label_of_the_body_does_not_matter() -> None:
    """JSON is parsed under whatever Content-Type it comes."""
    body = {"error": {"message": "Invalid password."}}
    kinds = ["text/plain;charset=UTF-8", "application/json", "text/html"]
    messages = {str(reply(401, body, Content_Type=kind)) for kind in kinds} | {
        str(reply(401, body))
    }
    assert len(messages) == 1
    assert "(Invalid password.)" in messages.pop()


def test_advice_follows_the_error_code() -> None:
    """An ``error.code`` that is a string is enough for the closer advice."""
    assert "operator" in str(reply(401, {"error": {"message": "No.", "code": "invalid_api_key"}}))


@pytest.mark.parametrize(
    ("message", "advised", "other"),
    [
        ("Invalid password.", "password=", "secret="),
        ("Invalid signature.", "secret=", "password="),
    ],
)
def test_one_setting_is_advised(message: str, advised: str, other: str) -> None:
    """A 401 that names the password or the signature sends the user to that setting alone."""
    text = str(reply(401, {"error": {"message": message}}))
    assert advised in text
    assert other not in text


@pytest.mark.parametrize("word", ["password", "signature", "invalid_api_key", "insufficient_quota"])
def test_closer_advice_only_for_its_class(word: str) -> None:
    """A word that explains a 401 or a 429 changes nothing in the advice for another status."""
    assert "Change the messages" in str(reply(400, {"error": {"message": f"Bad {word}."}}))


def test_empty_body_leaves_no_brackets() -> None:
    """Nothing is quoted from an empty body."""
    assert str(reply(404)).startswith("The site answered 404. Check ")


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_redirect(status: int) -> None:
    """A redirect is shown with its target, is not followed, and the next step is base_url=."""
    error = reply(status, b"<html>moved</html>", Location="https://other.test/chat")
    assert type(error) is ProtocolError
    assert "redirect to https://other.test/chat)" in str(error)
    assert "base_url=" in str(error)


def test_redirect_without_a_location() -> None:
    """A redirect that names no target is still a ProtocolError with a readable message."""
    assert "(redirect to ?)" in str(reply(302))


def test_redirect_location_is_bounded() -> None:
    """A long target with control characters is shown on one line and cut."""
    message = str(reply(302, Location="https://other.test/\r\n\x1b[31m" + "x" * 5000))
    assert message.isprintable()
    assert len(message) < 700


@pytest.mark.parametrize(
    "body", [b"", b"plain", "текст 🙂".encode(), b"\xff\x00", b'{"error":{}}'], ids=repr
)
def test_body_is_kept(body: bytes) -> None:
    """The body is kept as text, whatever it is, for the user to look at."""
    assert reply(500, body).body == body.decode("utf-8", "replace")


def test_kept_body_is_bounded() -> None:
    """At most 64 KiB of the body are kept."""
    body = reply(500, b"x" * (MAX_ERROR_BODY + 10)).body
    assert body is not None
    assert len(body) == MAX_ERROR_BODY == 65536


def test_error_has_the_wait() -> None:
    """The wait that a reply names is on its error."""
    assert reply(503, Retry_After="7").retry_after == 7
    assert reply(500, gemini('[429 Too Many Requests] [{"retryDelay":"27s"}]')).retry_after == 27
    assert reply(503).retry_after is None


# --- any reply at all -------------------------------------------------------------------------


def assert_presentable(error: APIError) -> None:
    """One line, of a length that fits in a log."""
    assert str(error).isprintable()
    assert len(str(error)) < 700


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


@settings(steady, max_examples=200)
@given(st.integers(100, 999), any_headers, bodies)
def test_any_reply(status: int, headers: dict[str, str], body: bytes) -> None:
    """Any status, headers and bytes give one of our errors, with a message fit to be shown."""
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
    """Control characters, great length and deep nesting give a plain error all the same."""
    assert_presentable(reply(500, body))


@steady
@given(st.text(st.characters(exclude_categories=[]), max_size=400), st.integers(1, 50))
def test_one_line(text: str, limit: int) -> None:
    """Any text becomes one printable line of at most the given length, without outer spaces."""
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
    """Words are kept with one space between them; a cut ends with an ellipsis."""
    assert one_line(text, limit) == expected


# --- how long to wait -------------------------------------------------------------------------

DATE = datetime(2021, 10, 21, 7, 28, 0, tzinfo=timezone.utc)


def http_date(after: float = 0) -> str:
    return email.utils.format_datetime(DATE + timedelta(seconds=after), usegmt=True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("0", 0), ("7", 7), (" 120 ", 120), ("1.5", 1.5), ("86400", 86400)],
)
def test_retry_after_seconds(value: str, expected: float) -> None:
    """``Retry-After`` in seconds is that number."""
    assert retry_after({"Retry-After": value}) == expected


@pytest.mark.parametrize(("after", "expected"), [(90, 90), (0, 0), (-1, 0), (-(10**8), 0)])
def test_retry_after_date(after: float, expected: float) -> None:
    """A date counts from the reply's own Date, this machine's clock aside; the past is 0."""
    assert retry_after({"Retry-After": http_date(after), "Date": http_date()}) == expected


@pytest.mark.parametrize(
    "value",
    [
        "Thu, 21 Oct 2021 07:29:30 GMT",
        "Thu, 21 Oct 2021 07:29:30 -0000",
        "Thu, 21 Oct 2021 09:29:30 +0200",
        "Thursday, 21-Oct-21 07:29:30 GMT",
        "Thu Oct 21 07:29:30 2021",
    ],
)
def test_retry_after_date_forms(value: str) -> None:
    """Every form of date that HTTP allows is read, as UTC where it names no zone."""
    assert retry_after({"Retry-After": value, "Date": http_date()}) == 90


@pytest.mark.parametrize("date", [{}, {"Date": ""}, {"Date": "today"}], ids=repr)
def test_retry_after_date_without_date(
    date: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the reply has no usable Date, the date is read against this machine's clock."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return DATE.astimezone(tz)

    monkeypatch.setattr(error_replies, "datetime", Clock)
    assert retry_after({"Retry-After": http_date(45), **date}) == 45


RETRY_INFO = '[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"%s"}]'


@pytest.mark.parametrize(
    ("delay", "expected"), [("27s", 27), ("1.5s", 1.5), ("0s", 0), ("0.000250s", 0.00025)]
)
@pytest.mark.parametrize("wrap", ["plain", "escaped", "object"])
def test_retry_delay(delay: str, expected: float, wrap: str) -> None:
    """Gemini's ``retryDelay`` is found as JSON, and as JSON inside the text of a message."""
    info = RETRY_INFO % delay
    body = {
        "plain": f"Error: [429 Too Many Requests] {info}",
        "escaped": json.dumps(gemini(f"[429 Too Many Requests] {info}")),
        "object": json.dumps({"error": {"details": json.loads(info)}}, indent=2),
    }[wrap]
    assert retry_after({}, body) == expected


def test_retry_delay_beyond_the_quoted_words() -> None:
    """``retryDelay`` is found in the whole body, of which the message shows only the start."""
    error = reply(500, gemini("[429 Too Many Requests] " + "x" * 5000 + RETRY_INFO % "27s"))
    assert error.retry_after == 27


def test_header_before_body() -> None:
    """The header is believed before the body, and the body where the header says nothing."""
    body = RETRY_INFO % "27s"
    assert retry_after({"Retry-After": "3"}, body) == 3
    assert retry_after({"Retry-After": http_date(4), "Date": http_date()}, body) == 4
    assert retry_after({"Retry-After": "soon"}, body) == 27


@pytest.mark.parametrize(
    "value",
    [
        *["", " ", "soon", "-5", "1e3", "nan", "inf", "1,5", "5 seconds", "0x10", "1.2.3", "²"],
        *["Thu, 99 Oct 2021 07:28:00 GMT", "Thu, 21 Oct 99999 07:28:00 GMT", "21 Oct"],
        "9" * 400,
    ],
)
def test_retry_after_garbage(value: str) -> None:
    """A header that is neither a number nor a date is as good as none."""
    assert retry_after({"Retry-After": value, "Date": http_date()}) is None


@pytest.mark.parametrize(
    "body",
    [
        "",
        "retryDelay",
        '"retryDelay":"27"',
        '"retryDelay":"-1s"',
        '"retryDelay":"s"',
        '"retryDelay":27',
        '"retryDelay":"27ms"',
        '"retryDelay":"' + "9" * 400 + 's"',
    ],
    ids=lambda body: body[:20],
)
def test_retry_delay_garbage(body: str) -> None:
    """A ``retryDelay`` that is no duration in seconds is as good as none."""
    assert retry_after({}, body) is None


date_like = st.lists(
    st.sampled_from(["Thu,", "21", "Oct", "2021", "07:28:00", "GMT", "+9999", "-0000", "99999"])
    | st.text(max_size=6),
    max_size=7,
).map(" ".join)


@settings(steady, max_examples=200)
@given(date_like | st.text(max_size=30), date_like, st.text(max_size=30))
def test_retry_after_never_fails(value: str, date: str, body: str) -> None:
    """Any header values and body give a finite wait of 0 or more, or None."""
    wait = retry_after({"Retry-After": value, "Date": date}, body)
    assert wait is None or 0 <= wait < 1e12


# --- a success that is none -------------------------------------------------------------------


def test_quota_error() -> None:
    """The quota sentence of a 200 is a RateLimitError that quotes it and says what to do."""
    error = quota_error(QUOTA_PHRASE)
    assert type(error) is RateLimitError
    assert error.status_code == 200
    assert error.body == QUOTA_PHRASE
    assert QUOTA_PHRASE in str(error)
    assert "another site" in str(error)


def test_quota_error_is_presentable() -> None:
    """A quota sentence of any length and kind gives one line of bounded length."""
    assert_presentable(quota_error("a\n\x00" * 5000))


@pytest.mark.parametrize(
    ("headers", "what"),
    [
        ({"Content-Type": "text/html"}, "a web page"),
        ({"Content-Type": " Text/HTML ; charset=utf-8"}, "a web page"),
        ({"Content-Type": "application/xhtml+xml"}, "a web page"),
        ({"Content-Type": "application/json"}, "JSON"),
        ({"Content-Type": "application/json; charset=utf-8"}, "JSON"),
        ({"Content-Encoding": "br"}, "a compressed body"),
        ({"Content-Encoding": " GZIP "}, "a compressed body"),
        ({"Transfer-Encoding": "gzip, chunked"}, "a compressed body"),
    ],
)
def test_not_an_answer(headers: dict[str, str], what: str) -> None:
    """A web page, JSON or a compressed body is no answer; the next step is base_url=."""
    error = not_an_answer(200, headers)
    assert error is not None
    assert error.status_code == 200
    assert f"answered 200 with {what}" in str(error)
    assert "base_url= (AICHATFREE_BASE_URL)" in str(error)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": ""},
        {"Content-Type": "text/plain; charset=utf-8"},
        {"Content-Type": "text/event-stream"},
        {"Content-Type": "application/octet-stream"},
        {"Transfer-Encoding": "chunked"},
        {"Content-Encoding": "identity"},
    ],
    ids=repr,
)
def test_an_answer(headers: dict[str, str]) -> None:
    """Plain text and unlabelled bytes may be an answer."""
    assert not_an_answer(200, headers) is None


@steady
@given(st.integers(200, 299), any_headers)
def test_not_an_answer_never_fails(status: int, headers: dict[str, str]) -> None:
    """Any headers give no error, or one that is fit to be shown."""
    error = not_an_answer(status, headers)
    if error is not None:
        assert_presentable(error)
