"""Durations and points in time, in all the forms in which servers write them, and in ours."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

_UNITS: Final = {
    r"ms|msecs?|millis|milliseconds?|毫秒|мс|миллисекунд\w*|millisekunden?|milisegundos?": 0.001,
    r"s|secs?|seconds?|秒[钟鐘]?|сек|секунд\w*|с|sek|sekunden?|segundos?|secondes?|초": 1.0,
    r"m|mins?|minutes?|分钟|分鐘|分|мин|минут\w*|minuten?|minutos?|minuti|분": 60.0,
    r"h|hrs?|hours?|小时|小時|時間|час\w*|ч|stunden?|std|horas?|heures?|ore|시간": 3600.0,
    r"d|days?|天|日|дн\w*|ден\w*|суток|сутки|tagen?|días?|dias?|jours?|giorni|일": 86400.0,
}
_SECONDS: Final = [
    (re.compile(pattern, re.IGNORECASE), seconds) for pattern, seconds in _UNITS.items()
]

_THOUSANDS: Final = re.compile(r"[1-9]\d{0,2},\d{3}")
_NUMBER: Final = r"(?<![\d.,-])\d{1,9}(?:[.,]\d{1,9})?"
_TERM: Final = rf"{_NUMBER}\s*(?:{'|'.join(_UNITS)})(?![^\W\d_])"
_CJK_TERM: Final = rf"{_NUMBER}\s*[个個]?(?:毫秒|秒|分|小时|小時|時間|天|초|분|시간)[钟鐘]?"
_ONE: Final = rf"(?:{_CJK_TERM}|{_TERM})"

DURATION: Final = rf"{_ONE}(?:(?:\s*,\s*|\s+(?:and|und|et|y|e|и)\s+|\s*){_ONE}){{0,3}}"
"""A pattern for a duration such as ``1m30s`` or ``2 hours``, to be compiled ignoring case."""

_ZONES: Final = dict.fromkeys(("utc", "gmt"), 0) | dict.fromkeys(("msk", "мск", "по москве"), 3)
_ZONES.update(
    dict.fromkeys(("北京时间", "北京時間"), 8) | dict.fromkeys(("jst", "日本時間", "kst"), 9)
)
"""Hours that the clocks of a zone are ahead of UTC."""

_ZONE: Final = rf"(?:{'|'.join(_ZONES)})(?:[+-](?:0?\d|1[0-4])(?::?00)?)?(?![\w:+-])"
_HOUR: Final = r"(?<![\d.:])(?:2[0-3]|[01]?\d)"
_INSTANT: Final = (
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)? ?(?:Z|UTC|GMT|[+-]\d\d:?\d\d)(?!\w)"
)
POINT: Final = (
    rf"{_INSTANT}|(?:{'|'.join(_ZONES)})\s*{_HOUR}:[0-5]\d|midnight\s*\(?{_ZONE}"
    rf"|{_HOUR}(?::[0-5]\d(?::\d\d)?\s*(?:[ap]m\b)?|\s*[ap]m\b)\s*\(?{_ZONE}"
)
"""A pattern for a point in time in a known zone, such as ``08:00 UTC``, ignoring case."""

_CLOCK: Final = re.compile(rf"({_HOUR})(?::(\d\d))?(?::\d\d)?\s*([ap]m)?|midnight", re.IGNORECASE)
_OF_ZONE: Final = re.compile(rf"({'|'.join(_ZONES)})([+-]\d{{1,2}})?", re.IGNORECASE)

_COMPLETE: Final = re.compile(rf"\s*{DURATION}\s*", re.IGNORECASE)
_PARTS: Final = re.compile(r"(\d+(?:[.,]\d+)?)\s*[个個]?([^\W\d_]+)")


def parse_duration(text: str) -> float | None:
    """The seconds of a duration such as ``41.5s``, ``1m30s`` or ``2 hours``; else ``None``."""
    if not _COMPLETE.fullmatch(text):
        return None
    return sum(_seconds(number, unit) for number, unit in _PARTS.findall(text))


def format_duration(seconds: float) -> str:
    """A duration with its two largest units."""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next(place for place, (number, _) in enumerate(parts) if number)
    return " ".join(f"{number} {unit}" for number, unit in parts[first : first + 2] if number)


def parse_seconds(text: str) -> float | None:
    """A plain number of seconds, 0 or more; else ``None``."""
    number = re.fullmatch(r"\s*(\d{1,10}(?:\.\d{1,9})?)\s*", text, re.ASCII)
    return float(number[1]) if number else None


def parse_http_date(text: str) -> datetime | None:
    """A date in any form that HTTP allows, in UTC where it names no zone; else ``None``."""
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def parse_point(text: str, now: float) -> float | None:
    """The next time, in seconds since the epoch, that a text of the form ``POINT`` names."""
    if re.fullmatch(_INSTANT, text, re.IGNORECASE):
        try:
            return datetime.fromisoformat(re.sub(" ?(?:UTC|GMT)$", "Z", text.upper())).timestamp()
        except (ValueError, OverflowError):
            return None
    clock, zone = _CLOCK.search(text), _OF_ZONE.search(text)
    if clock is None or zone is None:
        return None
    hour, minute = float(clock[1] or 0), float(clock[2] or 0)
    if half := clock[3]:
        hour = hour % 12 + 12 * (half.lower() == "pm")
    return next_time(now, hour + minute / 60, _ZONES[zone[1].lower()] + int(zone[2] or 0))


def next_time(now: float, hour: float, zone: int) -> float:
    """When the clocks of a zone, so many hours ahead of UTC, show that hour for the next time."""
    day, ahead = 86400, zone * 3600
    time = (now + ahead) // day * day + hour * 3600
    return time - ahead + (day if time <= now + ahead else 0)


def next_pacific_midnight(now: float) -> float:
    """When the next day begins in US Pacific time; both are seconds since the epoch.

    By the rule for daylight saving time (from the second Sunday of March to the first Sunday of
    November), because slim containers have no time zone database.
    """
    utc = datetime.fromtimestamp(now, UTC)
    today = (utc + _pacific_offset(utc)).replace(hour=0, minute=0, second=0, microsecond=0)
    tomorrow = today + timedelta(days=1)
    # Clocks change at 2:00, so midnight has the offset of the hours around it.
    return (tomorrow - _pacific_offset(tomorrow + timedelta(hours=8))).timestamp()


def _pacific_offset(utc: datetime) -> timedelta:
    begin = _sunday(utc.year, 3, 2).replace(hour=10)
    end = _sunday(utc.year, 11, 1).replace(hour=9)
    return timedelta(hours=-7 if begin <= utc < end else -8)


def _sunday(year: int, month: int, which: int) -> datetime:
    first = datetime(year, month, 1, tzinfo=UTC)
    return first + timedelta(days=(6 - first.weekday()) % 7 + 7 * (which - 1))


def _seconds(number: str, unit: str) -> float:
    # Of "5分钟后" the letters after the unit belong to the next word: the longest unit counts.
    found = [
        (len(match[0]), seconds) for pattern, seconds in _SECONDS if (match := pattern.match(unit))
    ]
    number = number.replace(",", "" if _THOUSANDS.fullmatch(number) else ".")
    return float(number) * (max(found)[1] if found else 0.0)
