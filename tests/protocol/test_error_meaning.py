"""What an error response means: the class of the error, its advice, and what follows from it."""

from __future__ import annotations

import pytest

from aichatfree import (
    APIError,
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    Site,
)
from aichatfree._protocol.responses import error_from_response

from .error_responses import CHALLENGE, QUOTA_PHRASE, error_of, gemini, openai

RESPONSES: dict[str, tuple[int, object, type[APIError], str]] = {
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
    "quota phrase in a 500": (500, f"错误: {QUOTA_PHRASE}!", RateLimitError, "another site"),
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
    "unknown 4xx": (418, b"short and stout", APIStatusError, "check base_url="),
    "too large": (413, b"<html>", BadRequestError, "shorten it"),
    "unprocessable": (422, b"", BadRequestError, "Change the messages"),
    "rate limit of a proxy": (429, b"<html>", RateLimitError, "max_requests_per_minute="),
    "bad gateway": (502, b"", ServerError, "try again in a while"),
    "unavailable": (503, b"", OverloadedError, "Try again in a while"),
    "gateway timeout": (504, b"<html>", ServerError, "try again in a while"),
    "site overloaded": (529, b"", OverloadedError, "Try again in a while"),
    **{
        f"CDN {status}": (status, CHALLENGE, ServerError, "try again in a while")
        for status in [*range(520, 529), 530]
    },
    "unknown status": (999, b"", ServerError, "try again in a while"),
}


@pytest.mark.parametrize(("status", "body", "cls", "advice"), RESPONSES.values(), ids=RESPONSES)
def test_the_class_and_the_advice_of_an_error(
    status: int, body: object, cls: type[APIError], advice: str
) -> None:
    """Each known error response has its class, its status, and advice in its message."""
    error = error_of(status, body)
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
def test_a_refusal_by_the_upstream_is_for_the_operator(message: str) -> None:
    """If the model's provider refuses the site, the advice is to ask the site's operator."""
    error = error_of(500, gemini(message))
    assert "operator" in str(error)


@pytest.mark.parametrize("words", [QUOTA_PHRASE, "Quota exceeded for metric"])
def test_quota_words_anywhere_in_a_500(words: str) -> None:
    """A 500 that contains words for "quota used up" anywhere in its text is a RateLimitError."""
    assert type(error_of(500, "Error: " + "at f (x.js) " * 100 + words)) is RateLimitError


def test_quota_words_in_a_web_page() -> None:
    """A 500 with a web page that contains the quota phrase is a RateLimitError."""
    assert type(error_of(500, f"<html><body>{QUOTA_PHRASE}</body></html>")) is RateLimitError


def test_a_site_without_quota_phrases() -> None:
    """Without quota phrases, or with an empty one, a 500 is a ServerError."""
    for phrases in [(), ("",)]:
        error = error_from_response(500, {}, b"oops", Site(quota_phrases=phrases))
        assert type(error) is ServerError


@pytest.mark.parametrize(
    ("status", "body", "cls"),
    [
        (502, gemini("[429 Too Many Requests] Quota exceeded"), RateLimitError),
        (400, gemini("[503 Service Unavailable] overloaded"), OverloadedError),
        (500, gemini("[200 OK] strange"), ServerError),
        (500, gemini("[999 Strange] strange"), ServerError),
        (500, "item [123 of 456] is not iterable", ServerError),
        (500, "got 429 of [items]", ServerError),
    ],
)
def test_the_text_may_state_another_status(status: int, body: object, cls: type[APIError]) -> None:
    """The status that the text states counts, if it is that of an error."""
    assert type(error_of(status, body)) is cls


def test_a_500_that_means_another_status_keeps_its_own() -> None:
    """status_code is the status of the response, not the one that its text states."""
    assert error_of(500, gemini("[429 Too Many Requests]")).status_code == 500


@pytest.mark.parametrize(
    ("status", "retryable", "fatal", "rejection"),
    [
        (400, False, False, False),
        (401, False, True, False),
        (403, False, False, False),
        (404, False, True, False),
        (408, True, False, False),
        (418, False, False, False),
        (429, True, False, True),
        (500, True, False, False),
        (502, True, False, False),
        (503, True, False, False),
        (529, True, False, True),
        (302, False, True, False),
    ],
)
def test_what_follows_from_a_status(
    status: int, retryable: bool, fatal: bool, rejection: bool
) -> None:
    """The status decides whether a retry may help, whether a batch stops, and whether it waits."""
    error = error_of(status)
    assert (error.retryable, error.fatal, error.rejection) == (retryable, fatal, rejection)


def test_a_503_that_states_a_wait_is_a_rejection() -> None:
    """A 503 counts as "too many requests" only if it states how long to wait."""
    assert error_of(503, Retry_After="7").rejection
    assert not error_of(503).rejection
