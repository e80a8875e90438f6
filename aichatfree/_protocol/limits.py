"""What a response says about the site's limits, in its headers and its body."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Final

from ..errors import StatedLimits
from .durations import (
    DURATION,
    POINT,
    next_pacific_midnight,
    next_time,
    parse_duration,
    parse_http_date,
    parse_point,
    parse_seconds,
)

_PERIODS: Final[Mapping[str, float]] = {
    "second": 1,
    "minute": 60,
    "min": 60,
    "hour": 3600,
    "day": 86400,
    "秒": 1,
    "分钟": 60,
    "分鐘": 60,
    "小时": 3600,
    "天": 86400,
    "日": 86400,
    "секунд": 1,
    "минут": 60,
    "час": 3600,
    "день": 86400,
    "сутки": 86400,
    "sekunde": 1,
    "stunde": 3600,
    "tag": 86400,
    "segundo": 1,
    "minuto": 60,
    "hora": 3600,
    "día": 86400,
    "seconde": 1,
    "heure": 3600,
    "jour": 86400,
}
_PERIOD: Final = "|".join(sorted(_PERIODS, key=len, reverse=True))
_TRY_AGAIN: Final = (
    r"try(?:ing)? again|retry|retries|wait|resets?|available again|come back|another|next"
    r"|重试|重試|再试|再試|等待|稍候|повтор|попробуйте|подождите|versuch|warten|wieder"
    r"|intent|intént|esper|réessay|attend|tent|aguard|riprov"
)
_WAIT: Final = re.compile(
    rf"(?<![a-z])(?:{_TRY_AGAIN})[^.!?。！？\n]{{0,40}}?({DURATION})"
    rf"|({DURATION})\s*(?:之?[后後]|から|あと|뒤|후|(?:later|from now)\b)",
    re.IGNORECASE,
)
_UNTIL: Final = re.compile(
    rf"(?<![a-z])(?:{_TRY_AGAIN}|until|back\b|renew|refresh|до\b|после|сброс|обновит|恢复|恢復|重置)"
    rf"[^.!?。！？\n]{{0,40}}?({POINT})|({POINT})\s*(?:之?[后後]|恢复|恢復|重置|刷新|再)",
    re.IGNORECASE,
)
_MIDNIGHT: Final = re.compile(
    r"(?:(明天|明日|次日|每[天日])|(翌日|毎日))\s*(?:凌晨|午前)?\s*(?:[0零]\s*[点點时時]|00:00)"
)
"""Midnight in China or Japan, whose words name the zone."""

_SHORTEST: Final = 5.0  # seconds; an earlier point in time is that of the response itself
_MOMENT: Final = 3600.0  # seconds; a used-up quota begins again later than that

_OPENAI: Final = re.compile(
    rf"requests per ({_PERIOD})[^:]{{0,12}}: Limit (\d{{1,9}})|Limit: (\d{{1,9}}) */ *({_PERIOD})",
    re.IGNORECASE,
)
_GOOGLE_QUOTA: Final = re.compile(
    r"Requests?Per(Second|Minute|Hour|Day)\w*(?:-\w+)?\"?(?:[^{}]|\{[^{}]*\}){0,300}?"
    r"\"quotaValue\"\s*:\s*\"?(\d{1,9})",
    re.IGNORECASE,
)
_GOOGLE_DAY: Final = re.compile(r"\"quotaId\"\s*:\s*\"[^\"]*PerDay", re.IGNORECASE)
_GOOGLE_LIMIT: Final = re.compile(
    r"(free_tier_)?requests[^\n]{0,20}, limit: (\d{1,9})\b", re.IGNORECASE
)
_MAX_FREE_PER_MINUTE: Final = 60
"""Google's free tiers allow up to 30 requests a minute; a higher number, without its period, is the
limit of a day."""
_PLAIN: Final = re.compile(
    rf"(\d{{1,9}}) *(?:req(?:uest)?s?|messages?|calls?|запрос\w*|anfragen|solicitudes|peticiones"
    rf"|requêtes) *(?:per|/|a|an|each|every|в|pro|por|par) *(?:one |1 )?({_PERIOD})"
    rf"|每({_PERIOD})[^\d。]{{0,10}}(\d{{1,9}}) *[次条個个]",
    re.IGNORECASE,
)


def stated_limits(
    headers: Mapping[str, str], body: str = "", *, now: float | None = None
) -> StatedLimits:
    """What the headers and the body of an error response say; headers are believed first.

    Args:
        headers: the response's.
        body: its text, with JSON inside JSON already unescaped or not.
        now: seconds since the epoch; by default the response's own ``Date``, else this machine's.
    """
    if now is None:
        date = parse_http_date(headers.get("Date", ""))
        now = time.time() if date is None else date.timestamp()
    text = body.replace("\\n", "\n").replace("\\", "")
    requests, period = _header_rate(headers)
    if requests is None:
        requests, period = _body_rate(text)
    is_day = _GOOGLE_DAY.search(text) or (period == 86400 and _GOOGLE_LIMIT.search(text))
    until = next_pacific_midnight(now) if is_day else None
    if until is not None:
        wait: float | None = until - now
    else:
        wait = _header_wait(headers, now)
        wait = _body_wait(text) if wait is None else wait
        point = _body_point(text, now) if wait is None else None
        if point is not None and point - now > _SHORTEST:
            wait = point - now
            until = point if wait > _MOMENT else None
    return StatedLimits(wait, requests, period, until)


def retry_after(headers: Mapping[str, str], body: str = "") -> float | None:
    """Seconds to wait that an error response states, or ``None``."""
    return stated_limits(headers, body).wait


def _body_wait(text: str) -> float | None:
    found = _WAIT.search(text)
    return parse_duration(found[1] or found[2]) if found else None


def _body_point(text: str, now: float) -> float | None:
    """The point in time until which to wait, in seconds since the epoch."""
    if found := _UNTIL.search(text):
        return parse_point(found[1] or found[2], now)
    if found := _MIDNIGHT.search(text):
        return next_time(now, 0, 8 if found[1] else 9)
    return None


def _body_rate(text: str) -> tuple[float | None, float | None]:
    """How many requests are allowed, and in how many seconds."""
    if found := _GOOGLE_QUOTA.search(text):
        return float(found[2]), float(_PERIODS[found[1].lower()])
    if found := _OPENAI.search(text):
        return float(found[2] or found[3]), float(_PERIODS[(found[1] or found[4]).lower()])
    if found := _PLAIN.search(text):
        return float(found[1] or found[4]), float(_PERIODS[(found[2] or found[3]).lower()])
    if found := _GOOGLE_LIMIT.search(text):
        requests = float(found[2])
        period = _PERIODS["minute" if requests <= _MAX_FREE_PER_MINUTE else "day"]
        return requests, period if found[1] else None
    return None, None


# --- headers ------------------------------------------------------------------------------------
# ``x-ratelimit-reset-requests`` is absent on purpose: it is the time until the bucket is full.


def _header_wait(headers: Mapping[str, str], now: float) -> float | None:
    milliseconds = parse_seconds(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("Retry-After", "")
    seconds = parse_seconds(value)
    if seconds is not None:
        return seconds
    if until := parse_http_date(value):
        return max(0.0, until.timestamp() - now)
    return _ratelimit_wait(headers, now)


def _ratelimit_wait(headers: Mapping[str, str], now: float) -> float | None:
    """The wait in IETF's ``RateLimit``, in its older headers or in those that came before it."""
    waits = [
        _number(item, "t", "reset")
        for item in _items(headers, "RateLimit")
        if not _number(item, "r", "remaining")
    ]
    for prefix in ("RateLimit", "X-RateLimit"):
        if not parse_seconds(headers.get(f"{prefix}-Remaining", "0")):
            waits.append(_reset(headers.get(f"{prefix}-Reset", ""), now))
    return max((wait for wait in waits if wait is not None), default=None)


def _reset(value: str, now: float) -> float | None:
    found = re.fullmatch(r"\s*(\d{1,13})(\.\d{1,9})?\s*", value, re.ASCII)
    if not found:
        return None
    seconds = float(found[0])
    if seconds > 1e11:
        seconds /= 1000
    # Some sites state a time since the epoch instead of a number of seconds.
    return seconds if seconds < 1e9 else max(0.0, seconds - now)


def _header_rate(headers: Mapping[str, str]) -> tuple[float | None, float | None]:
    """The limit and its period in seconds; of several policies, the one that is used up."""
    used_up = {item[0] for item in _items(headers, "RateLimit") if not _number(item, "r")}
    policies = _items(headers, "RateLimit-Policy")
    for item in sorted(policies, key=lambda item: item[0] not in used_up):
        requests = _number(item, "q")
        requests = parse_seconds(item[0]) if requests is None else requests
        if requests:
            return requests, _number(item, "w")
    limit, *parameters = headers.get("RateLimit-Limit", "").split(",")[-1].split(";")
    requests = parse_seconds(limit)
    return (requests, _number(["", *parameters], "w")) if requests else (None, None)


def _items(headers: Mapping[str, str], name: str) -> list[list[str]]:
    """The items of a structured header: of each its name and its parameters."""
    value = headers.get(name, "")[:1000]
    if "=" in value.partition(",")[0] and ";" not in value:
        return [["", *value.split(",")]]  # drafts before the seventh: limit=10, reset=50
    return [
        [part.strip().strip('"') for part in item.split(";")]
        for item in value.split(",")
        if item.strip()
    ]


def _number(item: list[str], *names: str) -> float | None:
    for parameter in item[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() in names:
            return parse_seconds(value)
    return None
