"""Looks up what sites say in the table ``phrases.toml``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

MAX_REFUSAL: Final = 240
"""Characters of the longest body with status 200 that is read as a refusal."""

MAX_SEARCHED: Final = 20_000
"""Characters of an error response that are searched for phrases."""

MAX_FIRST_SENTENCE: Final = 120
MAX_NOTICE: Final = 200
_SHORT_SENTENCE: Final = 8
_ENOUGH: Final = 4  # bytes of an opening that hold a body back; fewer begin too many answers
_FEW_WORDS: Final = 24

_PLACEHOLDERS: Final = {
    "{words}": r"(?:[^\s.!?。！？]+\s+){0,7}?",
    "{few}": r"(?:\s+[^\s.!?。！？]+){0,6}?\s+",
    "{any}": r"(?:[^。！？!?\n\"“「『:：]|(?<=ip)[:：]){0,24}",
}
_SENTENCE_END: Final = r"(?=\s*(?:[.!。！,，;；:：(（\[\-—–~～…*_\]】」]|$|\n))"
_SENTENCE: Final = re.compile(r".*?(?:[!?。！？\n]|\.(?=\s|$))", re.DOTALL)
_STATUS: Final = re.compile(r"(?<!\d)[45]\d\d(?!\d)")
_SECONDS: Final = re.compile(r"\d\s*(?:s\b|sec|秒|с\b|сек|sek|seg)", re.IGNORECASE)


@dataclass(frozen=True)
class _Phrase:
    meaning: str
    place: str
    patterns: tuple[str, ...]
    statuses: frozenset[int]

    @cached_property
    def in_body(self) -> re.Pattern[str]:
        """Matches a first sentence that is the phrase; compiled when it is first needed."""
        return _any_of([rf"(?:{'|'.join(self.patterns)}){_SENTENCE_END}"])

    @cached_property
    def in_error(self) -> re.Pattern[str]:
        return _any_of(self.patterns)


@dataclass(frozen=True)
class _Table:
    """The table, compiled."""

    phrases: tuple[_Phrase, ...]
    lead_in: re.Pattern[str]
    advice: re.Pattern[str]
    explains: re.Pattern[str]
    quotes: re.Pattern[str]
    triggers: tuple[str, ...]
    openings: Mapping[str, list[str]]  # by their first letter
    sources: re.Pattern[str]
    failures: re.Pattern[str]


@cache
def _table() -> _Table:
    """The table, read when the first response asks for it."""
    text = (resources.files(__package__) / "phrases.toml").read_text("utf-8")
    data = tomllib.loads(text)
    body, ending = data["body"], data["ending"]
    return _Table(
        phrases=tuple(map(_phrase, data["phrase"])),
        lead_in=_any_of([rf"[^\w]*(?:(?:{'|'.join(body['lead_in'])})[\s\W]+){{0,3}}"]),
        advice=_any_of(body["advice"]),
        explains=_any_of(body["explains"]),
        quotes=re.compile(body["quotes"]),
        triggers=tuple(body["triggers"]),
        openings={
            letter: list(group)
            for letter, group in groupby(sorted(body["openings"]), key=itemgetter(0))
        },
        sources=_any_of(ending["sources"]),
        failures=_any_of(ending["failures"]),
    )


def _phrase(entry: Mapping[str, Any]) -> _Phrase:
    patterns = entry["patterns"]
    for name, meaning in _PLACEHOLDERS.items():
        patterns = [pattern.replace(name, meaning) for pattern in patterns]
    statuses = frozenset(entry.get("statuses", ()))
    return _Phrase(entry["meaning"], entry["place"], tuple(patterns), statuses)


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


def meaning_in_error(status: int, text: str, sentences: Mapping[str, str]) -> str | None:
    """The meaning of a phrase in the text of an error response.

    Args:
        status: what the response's status means.
        text: all that it says.
        sentences: the site's own sentences and their meanings.
    """
    folded = text.casefold()
    for sentence, meaning in sentences.items():
        if sentence and sentence.casefold() in folded:
            return meaning
    for phrase in _table().phrases:
        if (
            phrase.place != "body"
            and (status in phrase.statuses or not phrase.statuses)
            and phrase.in_error.search(text[:MAX_SEARCHED])
        ):
            return phrase.meaning
    return None


def meaning_of_body(text: str, sentences: Mapping[str, str]) -> str | None:
    """The meaning of a complete body with status 200 that is a refusal; ``None`` for an answer.

    It begins with one of the site's own sentences; or it is short, its first sentence is a phrase
    of the table, what follows is advice, and nothing in it explains or quotes the phrase.
    """
    body = text.strip()
    for sentence, meaning in sentences.items():
        if sentence and _begins_with(body, sentence):
            return meaning
    table = _table()
    if not body or len(body) > MAX_REFUSAL:
        return None
    folded = body.casefold()
    if not any(trigger in folded for trigger in table.triggers):
        return None
    if table.explains.search(body) or table.quotes.search(body):
        return None
    lead = table.lead_in.match(body)
    for begin in dict.fromkeys((lead.end() if lead else 0, 0)):
        for phrase in table.phrases:
            found = phrase.in_body.match(body, begin) if phrase.place != "error" else None
            if found and _is_advice(body[found.end() :]):
                return phrase.meaning
    return None


def may_be_refusal(text: str, sentences: Mapping[str, str]) -> bool:
    """Whether a body that begins like this may turn out to be a refusal."""
    body = text.lstrip().casefold()
    if len(body) > MAX_REFUSAL:
        return False
    for sentence in filter(None, sentences):
        known = sentence.casefold()
        if known.startswith(body) or _begins_with(body.rstrip(), sentence):
            return True
    if meaning_of_body(text, {}) is not None:
        return True
    openings = _table().openings.get(body[:1], ())
    known = len(body.encode()) >= _ENOUGH
    begins = (
        body.startswith(opening) or (known and opening.startswith(body)) for opening in openings
    )
    if not any(begins) or _table().explains.search(body):
        return False
    first = _SENTENCE.match(body)
    if first is None or first.end() == len(body):
        return len(body) <= MAX_FIRST_SENTENCE
    return meaning_of_body(first[0], {}) is not None


def is_notice(content: str, rest: str) -> bool:
    """Whether a bracket's content, and what follows it, tell of a failure behind the site."""
    table = _table()
    if len(content) > MAX_NOTICE or not table.failures.search(content):
        return False
    about = table.sources.search(content) or _STATUS.search(content) or _SECONDS.search(content)
    return bool(about) and not table.explains.search(content + " " + rest[:MAX_NOTICE])


def status_in(text: str) -> int | None:
    """The HTTP status of an error that a short text names, or ``None``."""
    found = _STATUS.search(text)
    return int(found[0]) if found else None


def _begins_with(body: str, sentence: str) -> bool:
    """Whether the body is the sentence, perhaps with advice or details after it."""
    length = len(sentence)
    if body[:length].casefold() != sentence.casefold():
        return False
    rest = body[length:]
    if not rest:
        return True
    if len(rest) > MAX_REFUSAL or _table().explains.search(rest):
        return False
    # A word may continue an answer: "Quit" is not "Quit smoking".
    if rest[0].isspace():
        return length >= _SHORT_SENTENCE and bool(_table().advice.search(rest))
    return not (rest[0].isalnum() and rest[0].isascii())


def _is_advice(rest: str) -> bool:
    words = rest.strip(" \t\r\n.!。！,，;；:：)）(（~～…*_-")
    return len(words) <= _FEW_WORDS or bool(_table().advice.search(words))
