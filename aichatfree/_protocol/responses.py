"""What a response means: any status, headers and bytes become one of our errors. Pure, no I/O."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from ..errors import (
    APIError,
    APIStatusError,
    OverloadedError,
    ProtocolError,
    RateLimitError,
    StatedLimits,
    StreamInterruptedError,
)
from .durations import format_duration
from .error_bodies import ERROR_KEYS, ERRORS, ErrorBody, read_error_body, thrown_error
from .limits import stated_limits
from .meanings import EMPTY_500, MEANINGS, SITES_WORDS, Meaning, meaning_of_status
from .phrases import meaning_in_error, meaning_of_body, names, status_in
from .sites import Site

MAX_ERROR_BODY: Final = 64 * 1024
"""Bytes of an error response's body that are read and kept."""

_DAY: Final = 86400.0  # seconds

# Some sites call their plain text an event stream, so that proxies do not hold it back.
_ANSWER_TYPES: Final = ("", "text/plain", "text/event-stream", "application/octet-stream")
_HTML: Final = re.compile(r"\s*(<!doctype html|<html|<head|<body)", re.IGNORECASE)
_NGINX_PAGE: Final = re.compile(
    r"503 Service Temporarily Unavailable|<center>(?:nginx|openresty|tengine|angie)", re.IGNORECASE
)
_BEFORE_OBJECT: Final = re.compile(
    r"[^\w\[{]{0,4}(?:(?:error|错误|ошибка|fehler|erreur)\s*[:：]\s*)?(?=\[?{)", re.IGNORECASE
)
_STANDARD_WORDS: Final = re.compile(
    r"(?:\d{3}\s*)?(?:not found|method not allowed|not implemented|cannot (?:get|post)\b.*)\W*",
    re.IGNORECASE,
)


def error_from_response(
    status: int, headers: Mapping[str, str], body: bytes, site: Site
) -> APIStatusError | ProtocolError:
    """The exception for an error response; any bytes give one of ours.

    Args:
        status: the HTTP status, anything but a success.
        headers: its headers.
        body: its body; the Content-Type is not trusted, since the servers label JSON
            ``text/plain``.
        site: for its own sentences.
    """
    text = body[:MAX_ERROR_BODY].decode("utf-8", "replace")
    found = read_error_body(text)
    page = bool(_HTML.match(text))
    meaning = _meaning(status, found, text, site, page)
    words = "a web page" if page else one_line(found.message)
    if 300 <= status < 400:
        words = f"redirect to {_address(headers.get('Location', ''))}"
    what = f"The site answered {status}" + (f" ({words})" if words else "")
    error = _error(meaning, what, status, text, stated_limits(headers, found.text))
    if isinstance(error, OverloadedError):
        # A 503 counts as a rejection only if it states a wait: a stray one that is taken for a rate
        # limit costs a lot of throughput for nothing (at one in 200, almost half). nginx sends its
        # own page for the requests above a limit: several of them are rejections.
        error.rejection = status == 529 or error.retry_after is not None
        error.possible_rejection = status == 503 and page and bool(_NGINX_PAGE.search(text))
    return error


def error_in_body(text: str, headers: Mapping[str, str], site: Site) -> APIStatusError | None:
    """The error that a complete body with status 200 stands for; ``None`` for an answer."""
    refusals = site.refusals if site.looks_for("refusals") else None
    if refusals is None or not text.strip():
        return None
    text = text.strip()
    begin, thrown = _BEFORE_OBJECT.match(text), thrown_error(text)
    found = None
    if thrown and thrown == text and names(text.partition(":")[2], "explains"):
        return None
    if thrown:
        found = read_error_body(thrown)
    elif begin:
        found = read_error_body(text[begin.end() :])
        if found.value and not (begin[0] or _may_be_error(found)):
            return None
    name = meaning_of_body(text, refusals)
    meaning, words = MEANINGS.get(name or ""), text
    if meaning is None:
        if found is None or not (thrown or (found.value and _tells_of_error(found))):
            return None
        words = found.message
        name = None if found.status else meaning_of_body(words, {}, may_be_label=False)
        meaning = MEANINGS.get(name or "") or _meaning(
            found.status or 500, found, text, site, page=False
        )
    error = _error(
        meaning,
        f"The site sent an error in place of an answer ({one_line(words)})",
        200,
        text,
        stated_limits(headers, text),
    )
    return error if isinstance(error, APIStatusError) else None


def notice_error(notice: str, has_text: bool, site: Site) -> APIError:
    """The error for a notice of a failure at the end of a body."""
    what = f"The site reported a failure in its answer ({one_line(notice, 200)})"
    if has_text and "length" in read_error_body(notice).names:
        return stopped_early("length", notice)
    if has_text:
        return StreamInterruptedError(
            f"{what}: the answer is incomplete. Send it again.", body=notice
        )
    details = notice.partition("]")[2].strip() if notice.startswith("[") else notice
    found = read_error_body(details or notice)
    status = found.status or status_in(notice[:200]) or 500
    meaning = _meaning(status, found, notice, site, page=False, upstream=True)
    return _error(meaning, what, 200, notice, stated_limits({}, notice))


def stopped_early(reason: str, body: str | None = None) -> StreamInterruptedError:
    """The error for an answer that the model did not complete, for a reason such as ``length``."""
    return StreamInterruptedError(
        f"The model stopped early ({reason}): the answer is incomplete. Ask for a shorter one, "
        "or word the prompt differently.",
        body=body,
        retryable=False,
    )


def web_page_error(text: str, what: str = "a web page", status: int = 200) -> ProtocolError:
    """The error for a body with status 200 that is something else than an answer."""
    return ProtocolError(
        f"The site answered {status} with {what} where an answer should be. Check base_url= "
        "(AICHATFREE_BASE_URL): it is the part before /api/generate.",
        status_code=status,
        body=text or None,
    )


def not_an_answer(status: int, headers: Mapping[str, str]) -> ProtocolError | None:
    """The error for a successful response whose headers show that it is not an answer.

    An answer has the type ``text/plain`` or none, and is never compressed; a wrong URL, or a login
    or challenge page, gives a web page or JSON.
    """
    kind = content_type(headers)
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
    return web_page_error("", what, status)


def content_type(headers: Mapping[str, str]) -> str:
    """The media type of a response, without its parameters, in lower case."""
    return headers.get("Content-Type", "").partition(";")[0].strip().lower()


def redact(error: APIError, *secrets: str | None) -> None:
    """Remove secrets that the site has repeated; shorter ones may be ordinary words."""
    for secret in secrets:
        if secret and len(secret) >= 8:
            error.message = error.message.replace(secret, "***")
            error.body = error.body and error.body.replace(secret, "***")
    error.args = (error.message, *error.args[1:])


def one_line(text: str, limit: int = 300) -> str:
    """The text on one line, without control characters, cut to ``limit`` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _error(
    meaning: Meaning, what: str, status: int, body: str, limits: StatedLimits
) -> APIStatusError | ProtocolError:
    advice = meaning.advice
    if not (limits.wait or limits.period) and _is_of_a_day(meaning, body):
        limits = dataclasses.replace(limits, period=_DAY)
    if meaning.error is not RateLimitError:
        limits = dataclasses.replace(limits, exhausted_until=None)  # that is about quotas
    if limits.exhausted_until is not None:
        until = datetime.fromtimestamp(limits.exhausted_until, UTC)
        advice = (
            f"The site's quota is used up until {until:%Y-%m-%d %H:%M} UTC: try again "
            "then, or use another site."
        )
    elif limits.wait and not stated_limits({}, what).wait:
        what += f" and asks to wait {format_duration(limits.wait)}"
    error = meaning.error(
        f"{what}. {advice}",
        status_code=status,
        body=body,
        retryable=meaning.retryable,
        fatal=meaning.fatal,
        limits=limits if limits else None,
    )
    if meaning.fatal:
        error.rejection = False  # sending less does not help
    return error


def _is_of_a_day(meaning: Meaning, text: str) -> bool:
    """Whether a limit that is exceeded is that of a day."""
    if meaning is MEANINGS["quota"]:
        return names(text, "per_day")
    # Others may say "Too many requests. Upgrade today!".
    return meaning is MEANINGS["rate"] and names(text, "tomorrow")


def _meaning(
    status: int, found: ErrorBody, text: str, site: Site, page: bool, upstream: bool = False
) -> Meaning:
    """What an error response means: by a known phrase in it, else by the innermost status."""
    meant = found.status or status
    if site.looks_for("error_words"):
        words = " ".join([*found.names, found.text])
        name = meaning_in_error(meant, words, found.message, site.refusals)
        if name is not None:
            return MEANINGS.get(name, MEANINGS["failed"])
    if status == 500 and not text.strip():
        return EMPTY_500
    standard = page or not text.strip() or _STANDARD_WORDS.fullmatch(found.message.strip())
    if meant == 405 and not standard:
        return SITES_WORDS
    return meaning_of_status(meant, upstream=upstream or found.nested)


def _may_be_error(found: ErrorBody) -> bool:
    """Whether a JSON object has no keys but those of errors, or is one whatever else it has."""
    return ERROR_KEYS.issuperset(map(str.lower, found.value)) or found.is_error


def _tells_of_error(found: ErrorBody) -> bool:
    """Whether a JSON object names an error: its status, itself as one, or one in its message."""
    errors = [found.value[key] for key in ERRORS if key in found.value]
    return bool(
        (found.status and not found.is_data)
        or found.value.get("type") == "error"
        or any(error is True or isinstance(error, dict) for error in errors)
        or found.is_error
        or meaning_of_body(found.message, {}, may_be_label=False)
    )


def _address(location: str) -> str:
    """The target of a redirect, without a password or a token that may be in it."""
    try:
        parts = urlsplit(location)
    except ValueError:
        return "an invalid address"
    host = parts.netloc.rpartition("@")[2]
    return one_line(f"{parts.scheme}://{host}{parts.path}" if host else parts.path) or "?"
