"""What a response means: any status, headers and bytes become one of our errors. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

from ..errors import (
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
from .sites import Site

MAX_ERROR_BODY: Final = 64 * 1024
"""Bytes of an error response's body that are read and kept."""

_UPSTREAM_STATUS = re.compile(r"\[(\d{3}) [^\]\n]{0,80}\]")
_RETRY_DELAY = re.compile(r'"?retryDelay\\?"?\s*:\s*\\?"(\d{1,9}(?:\.\d{1,9})?)s\\?"')
_HTML = re.compile(r"\s*(<!doctype html|<html|<head|<body)", re.IGNORECASE)

# Some sites call their plain text an event stream, so that proxies do not hold it back.
_ANSWER_TYPES: Final = ("", "text/plain", "text/event-stream", "application/octet-stream")

_NO_API = "Check base_url= (AICHATFREE_BASE_URL): no chat API is there."

_MEANING: Final[Mapping[int, tuple[type[APIStatusError], str]]] = {
    400: (BadRequestError, "Change the messages; sending them again does not help."),
    401: (
        AuthenticationError,
        "Check password= (AICHATFREE_PASSWORD) and secret= (AICHATFREE_SECRET).",
    ),
    403: (
        PermissionDeniedError,
        "The site does not admit this client: try from another network, or ask its operator.",
    ),
    404: (NotFoundError, _NO_API),
    405: (NotFoundError, _NO_API),
    501: (NotFoundError, _NO_API),
    408: (APIStatusError, "The site waited too long for the request: try again."),
    413: (BadRequestError, "The conversation is too long for the site: shorten it."),
    422: (BadRequestError, "Change the messages; sending them again does not help."),
    429: (RateLimitError, "Wait, or send less: max_requests_per_minute= keeps to a limit."),
    503: (OverloadedError, "Try again in a while."),
    529: (OverloadedError, "Try again in a while."),
}
_OPERATOR = "The model service behind the site refuses the site, not you: its operator can fix it."

# For a status of the site's upstream, found inside a 500.
_UPSTREAM_ADVICE: Final[Mapping[int, str]] = {
    400: "Change the messages; if it is about a key or a model, only the site's operator can help.",
    401: _OPERATOR,
    403: _OPERATOR,
    404: _OPERATOR,
}
_OTHER_4XX = (APIStatusError, "The site refuses such requests: check base_url= and dialect=.")
_OTHER_5XX = (ServerError, "The fault is the site's: try again in a while.")
_REDIRECT = (
    ProtocolError,
    "It was not followed because the request contains the password: if you trust the new address, "
    "make it base_url= (AICHATFREE_BASE_URL).",
)

_CLOSER_ADVICE: Final[Sequence[tuple[type[APIStatusError], str, str]]] = (
    (
        AuthenticationError,
        "invalid_api_key",
        "The site's own key for its model is wrong, not yours: only its operator can fix it.",
    ),
    (
        AuthenticationError,
        "api key",
        "The site's own key for its model is wrong, not yours: only its operator can fix it.",
    ),
    (
        AuthenticationError,
        "password",
        "Set the site's password with password= (AICHATFREE_PASSWORD).",
    ),
    (
        AuthenticationError,
        "replay",
        "Another request had the same text at the same time: send this one again.",
    ),
    (
        AuthenticationError,
        "signature",
        "Set the site's secret with secret= (AICHATFREE_SECRET), and check this machine's clock.",
    ),
    (
        RateLimitError,
        "insufficient_quota",
        "The site's quota is used up: try again later, or use another site.",
    ),
)


def error_from_response(
    status: int, headers: Mapping[str, str], body: bytes, site: Site
) -> APIStatusError | ProtocolError:
    """The exception for an error response; any bytes give one of ours.

    Args:
        status: the HTTP status, anything but a success.
        headers: its headers; ``Retry-After``, ``Date`` and ``Location`` are used.
        body: its body; the Content-Type is not trusted, since the servers label JSON
            ``text/plain``.
        site: for the phrases that mean that the quota is used up.
    """
    text = body[:MAX_ERROR_BODY].decode("utf-8", "replace")
    said, code = error_words(text)
    words = "a web page" if _HTML.match(text) else one_line(said)
    meant = _meant_status(status, said, site.quota_phrases)
    cls, advice = _meaning(meant)
    found = f"{code} {said}".lower()
    for closer_cls, word, closer in _CLOSER_ADVICE:
        if cls is closer_cls and word in found:
            advice = closer
            break
    if meant != status and meant in _UPSTREAM_ADVICE:
        advice = _UPSTREAM_ADVICE[meant]
    if status == 500 and not text.strip():
        advice = (
            "An empty 500 often means that the server could not read the request: check dialect= "
            "(AICHATFREE_DIALECT), or try again in a while."
        )
    if 300 <= status < 400:
        words = f"redirect to {_address(headers.get('Location', ''))}"
    what = f"The site answered {status}" + (f" ({words})" if words else "")
    wait = retry_after(headers, text)
    return cls(
        f"{what}. {advice}",
        status_code=status,
        body=text,
        retry_after=wait,
        retryable=True if meant == 408 else None,
        rejection=_is_rejection(cls, status, wait),
    )


def _is_rejection(cls: type[APIError], status: int, wait: float | None) -> bool | None:
    """Whether an overloaded site rejected the request because there are too many.

    A 503 counts only if it states a wait: a stray one that is taken for a rate limit costs a lot of
    throughput for nothing (at one in 200, almost half; ``python -m benchmarks.pacing``).
    """
    return (status == 529 or wait is not None) if cls is OverloadedError else None


def quota_error(sentence: str) -> RateLimitError:
    """The error for a 200 whose complete body says that the quota is used up."""
    return RateLimitError(
        f"The site says that its quota is used up ({one_line(sentence)}). Try again later, or use "
        "another site.",
        status_code=200,
        body=sentence,
    )


def redact(error: APIError, *secrets: str | None) -> None:
    """Remove secrets that the site has repeated; shorter ones may be ordinary words."""
    for secret in secrets:
        if secret and len(secret) >= 8:
            error.message = error.message.replace(secret, "***")
            error.body = error.body and error.body.replace(secret, "***")
    error.args = (error.message, *error.args[1:])


def not_an_answer(status: int, headers: Mapping[str, str]) -> ProtocolError | None:
    """The error for a successful response whose headers show that it is not an answer.

    An answer has the type ``text/plain`` or none, and is never compressed; a wrong URL, or a login
    or challenge page, gives a web page or JSON.
    """
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    encodings = [
        headers.get("Content-Encoding", "").strip().lower() or "identity",
        headers.get("Transfer-Encoding", "").strip().lower() or "identity",
    ]
    if kind.endswith("json"):
        what = "JSON"
    elif "html" in kind:
        what = "a web page"
    elif kind not in _ANSWER_TYPES:
        what = one_line(kind, 40)
    elif encodings[0] != "identity" or encodings[1] not in ("identity", "chunked"):
        # A compressed body that was cut off cannot be told from a complete one.
        what = "a compressed body, which was not requested,"
    elif status not in (200, 204):
        what = "something else"
    else:
        return None
    return ProtocolError(
        f"The site answered {status} with {what} where an answer should be. Check base_url= "
        "(AICHATFREE_BASE_URL): it is the part before /api/generate.",
        status_code=status,
    )


def _meaning(status: int) -> tuple[type[APIStatusError] | type[ProtocolError], str]:
    if status < 400:
        return _REDIRECT
    return _MEANING.get(status, _OTHER_4XX if status < 500 else _OTHER_5XX)


def _meant_status(status: int, said: str, quota_phrases: Iterable[str]) -> int:
    # Gemini-style servers answer 500 to every upstream error and put its status into the message.
    if status != 500:
        return status
    phrases = [phrase for phrase in quota_phrases if phrase]
    quota_words = ("quota exceeded", "exceeded your current quota")
    if any(words in said.lower() for words in quota_words) or any(
        phrase in said for phrase in phrases
    ):
        return 429
    upstream = _UPSTREAM_STATUS.search(said)
    if upstream and 400 <= int(upstream[1]) < 600:
        return int(upstream[1])
    return 503 if "overloaded" in said.lower() else 500


def error_words(text: str) -> tuple[str, str]:
    """The message and the code of an error body in any of the forms that servers use."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text, ""
    error = value.get("error", value) if isinstance(value, dict) else value
    if not isinstance(error, dict):
        return error if isinstance(error, str) else text, ""
    message = error.get("message")
    codes = [code for code in (error.get("code"), error.get("type")) if isinstance(code, str)]
    return message if isinstance(message, str) else text, (codes or [""])[0][:100]


def _address(location: str) -> str:
    """The target of a redirect, without a password or a token that may be in it."""
    try:
        parts = urlsplit(location)
    except ValueError:
        return "an invalid address"
    host = parts.netloc.rpartition("@")[2]
    return one_line(f"{parts.scheme}://{host}{parts.path}" if host else parts.path) or "?"


def retry_after(headers: Mapping[str, str], body: str = "") -> float | None:
    """Seconds to wait that a response states, in ``Retry-After`` or in Gemini's ``retryDelay``.

    A date is compared with the response's own ``Date``: a wrong local clock does not matter.
    """
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value):
        return float(value)
    until = _http_date(value)
    if until is not None:
        now = _http_date(headers.get("Date", "")) or datetime.now(UTC)
        return max(0.0, (until - now).total_seconds())
    delay = _RETRY_DELAY.search(body)
    return float(delay[1]) if delay else None


def _http_date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def one_line(text: str, limit: int = 300) -> str:
    """The text on one line, without control characters, cut to ``limit`` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
