"""Looks up what sites say in the tables ``phrases.toml`` and ``words.toml``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Set
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from .word_lists import WordLists

MAX_REFUSAL: Final = 500
"""Characters of the longest body with status 200 that is read as a refusal."""

MAX_SEARCHED: Final = 20_000
"""Characters of an error response that are searched for phrases."""

MAX_HELD: Final = 240
"""Characters of a body that are held back because of words that may be those of a refusal."""

MAX_FIRST_SENTENCE: Final = 120
"""Characters of a first sentence that are held back because it may be a refusal."""

MAX_NOTICE: Final = 200
"""Characters between the brackets of a notice."""

_SHORT_SENTENCE: Final = 8  # characters of a site's own sentence; a word after it is an answer
_BRIEF: Final = 50  # characters
_LONG: Final = 200  # characters
_LINES: Final = 3
_FIRST_SENTENCES: Final = 3
_FIRST_HELD: Final = 2  # sentences
_FIRST_WORDS: Final = 40  # characters after a notice that may explain it
_ENOUGH: Final = 4  # bytes of an opening that hold a body back; fewer begin too many answers

_SENTENCE: Final = re.compile(r".+?(?:[!?。！？\n]+|\.(?=\s|$)|$)", re.DOTALL)
_ERROR_PAGE: Final = re.compile(
    r"<(?:!doctype html|html)\b.{0,500}<(?:title|h1)\b[^<>]{0,80}>[^<>]{0,80}"
    r"(?:[45]\d\d|error|timed? ?-?out)",
    re.IGNORECASE | re.DOTALL,
)
_ITEM: Final = re.compile(r"[-*+•] |\d+[.)] |```|\|")
_FIGURE: Final = re.compile(
    r"(?<!\d)(?!20(?!00)[0-3]\d(?!\d)|1[5-9]\d\d(?!\d)|[45]\d\d(?!\d))\d{2}"
)
_YEAR: Final = re.compile(r"(?<![\d.,-])(?:1[5-9]\d\d|20[0-2][1-9])(?![\d.,]\d|\d|\W?\d\d\W)")
_QUESTION: Final = re.compile(r"[?？]\s*$")
_STATUS: Final = re.compile(r"(?<!\d)[45]\d\d(?!\d)")
_SECONDS: Final = re.compile(r"\d\s*(?:s\b|sec|秒|с\b|сек|sek|seg)")


def _folded(text: str) -> str:
    """In lower case, with ``not`` for ``n't`` and ``i`` for the Turkish ``ı`` and ``İ``."""
    lower = text.lower().replace("ı", "i").replace("i\u0307", "i")
    return lower.replace("’", "'").replace("can't", "cannot").replace("n't", " not")


@dataclass(frozen=True)
class _Refusal:
    """Something is the matter with a subject: the names of lists of words for both.

    The subject alone is enough if ``says`` is empty.
    """

    meaning: str
    statuses: frozenset[int]
    about: frozenset[str]
    says: frozenset[str]
    points: int

    @classmethod
    def of(cls, entry: Mapping[str, Any], points: int) -> _Refusal:
        """That of an entry in the table."""
        return cls(
            entry["meaning"],
            frozenset(entry.get("statuses", ())),
            frozenset(entry["about"]),
            frozenset(entry.get("says", ())),
            entry.get("points", points),
        )

    def is_in(self, lists: Set[str]) -> bool:
        """Whether it is said by a text with words of these lists."""
        return not self.about.isdisjoint(lists) and not (self.says and self.says.isdisjoint(lists))


@dataclass(frozen=True)
class _Table:
    """What ``phrases.toml`` and ``words.toml`` say."""

    phrases: list[_Refusal]
    refusals: list[_Refusal]
    words: WordLists
    """All lists; those of phrases too, by their numbers."""

    of_phrases: WordLists
    points: Mapping[str, int]
    quotes: re.Pattern[str]
    marks: re.Pattern[str]
    openings: Mapping[str, list[str]]  # by their first letter
    labels: re.Pattern[str]


@cache
def _table() -> _Table:
    """The table, read when the first response asks for it."""
    data, lists = (_read(name) for name in ("phrases.toml", "words.toml"))
    points, body = data["points"], data["body"]
    phrases = {str(number): phrase for number, phrase in enumerate(data["phrase"])}
    of_phrases = {number: phrase["words"] for number, phrase in phrases.items()}
    return _Table(
        phrases=[_Refusal.of(entry | {"about": [name]}, 0) for name, entry in phrases.items()],
        refusals=[_Refusal.of(entry, points["together"]) for entry in data["refusal"]],
        words=WordLists(lists | of_phrases),
        of_phrases=WordLists(of_phrases),
        points=points,
        quotes=re.compile("|".join(body["quotes"])),
        marks=re.compile("|".join(body["marks"]), re.IGNORECASE),
        openings={
            letter: list(group)
            for letter, group in groupby(sorted(body["openings"]), key=itemgetter(0))
        },
        labels=re.compile(rf"\W*(?:{body['labels']})\W*"),
    )


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((resources.files(__package__) / name).read_text("utf-8"))


def meaning_in_error(
    status: int, text: str, message: str, sentences: Mapping[str, str]
) -> str | None:
    """The meaning of a phrase in the text of an error response.

    Args:
        status: what the response's status means.
        text: all that it says.
        message: the innermost message in it.
        sentences: the site's own sentences and their meanings.
    """
    folded = _folded(text[:MAX_SEARCHED])
    for sentence, name in sentences.items():
        if sentence and _folded(sentence) in folded:
            return name
    table = _table()
    found = table.of_phrases.found_in(folded)
    for phrase in table.phrases:
        if (status in phrase.statuses or not phrase.statuses) and phrase.is_in(found):
            return phrase.meaning
    said = _said(message[:MAX_REFUSAL])[:_FIRST_SENTENCES]
    for refusal in table.refusals:
        if status in refusal.statuses and any(map(refusal.is_in, said)):
            return refusal.meaning
    return None


def meaning_of_body(text: str, sentences: Mapping[str, str]) -> str | None:
    """The meaning of a complete body with status 200 that is a refusal; ``None`` for an answer.

    It begins with one of the site's own sentences; or it is short, and what speaks for a refusal
    has enough points.
    """
    body = text.strip()
    for sentence, meaning in sentences.items():
        if sentence and _begins_with(body, sentence):
            return meaning
    return _meaning(body, _said(body), _table().points["enough"])


def _meaning(body: str, said: list[set[str]], enough: int) -> str | None:
    """The meaning of a body if what speaks for a refusal has enough points; else ``None``.

    Args:
        body: the body.
        said: the lists that have a word in each of its sentences.
        enough: the points that are enough.
    """
    table, points = _table(), _table().points
    everything = set[str]().union(*said)
    possible = [
        refusal
        for refusal in (*table.phrases, *table.refusals)
        if refusal.points and refusal.is_in(everything)
    ]
    if not possible:
        return None
    around = _points_around(body, everything)
    parts = list[tuple[Set[str], int]]()
    so_far = set[str]()
    for sentence in said[:_FIRST_SENTENCES]:
        so_far |= sentence
        parts.append((sentence, around + _points_against(so_far)))
    parts.append((everything, around + _points_against(everything) + points["apart"]))
    for refusal in possible:
        for lists, others in parts:
            if refusal.points + others >= enough and refusal.is_in(lists):
                return refusal.meaning
    return None


def _points_around(body: str, lists: Set[str]) -> int:
    """What speaks for a refusal (or, below 0, for an answer) apart from what the refusal says."""
    table = _table()
    facts = {
        "advice": "advice" in lists,
        "addressed": "addressed" in lists,
        "figures": bool(_FIGURE.search(body)),
        "year": bool(_YEAR.search(body)),
        "asks": bool(_QUESTION.search(body)),
        "lines": body.count("\n") >= _LINES,
        "quotes": bool(table.quotes.search(body)),
        "mark": bool(table.marks.search(body)),
        "brief": len(body) <= _BRIEF,
        "long": len(body) > _LONG,
    }
    return sum(table.points[name] for name, holds in facts.items() if holds)


def _points_against(lists: Set[str]) -> int:
    points = _table().points
    return sum(points[name] for name in ("explains", "conditional") if name in lists)


def _said(text: str) -> list[set[str]]:
    """The lists that have a word in each sentence; none for a text that is too long."""
    if len(text) > MAX_REFUSAL:
        return []
    words, folded = _table().words, _folded(text)
    return [words.found_in(folded, *found.span()) for found in _SENTENCE.finditer(folded)]


def may_be_refusal(text: str, sentences: Mapping[str, str]) -> bool:
    """Whether a body that begins like this may turn out to be a refusal."""
    body = _folded(text.lstrip())
    if len(body) > MAX_REFUSAL:
        return False
    for sentence in filter(None, sentences):
        if _folded(sentence).startswith(body) or _begins_with(body.rstrip(), sentence):
            return True
    enough = len(body.encode()) >= _ENOUGH
    begins = any(
        body.startswith(opening) or (enough and opening.startswith(body))
        for opening in _table().openings.get(body[:1], ())
    )
    if not enough:
        return begins
    said = _said(body)
    if begins and len(body) <= MAX_HELD and not any("explains" in lists for lists in said):
        first = said[:_FIRST_HELD]
        if len(said) < _FIRST_HELD and len(body) <= MAX_FIRST_SENTENCE:
            return True
        strong = [r for r in _table().refusals if r.points >= _table().points["together"]]
        if any(refusal.is_in(lists) for refusal in strong for lists in first):
            return True
    return _meaning(text.strip(), said, _table().points["enough"]) is not None


def names(text: str, name: str) -> bool:
    """Whether a text has a word of a list in its beginning."""
    return _has(name, _folded(text[:MAX_REFUSAL]))


def is_label(content: str) -> bool:
    """Whether a bracket's content is a label, such as "error", of the notice that follows it."""
    return _table().labels.fullmatch(_folded(content)) is not None


def is_notice(content: str, rest: str) -> bool:
    """Whether a bracket's content, and what follows it, tell of a failure behind the site."""
    details = _folded(rest.strip())
    content = _folded(content)
    if is_label(content) and "\n" not in details:
        content, details = details, ""
    if len(content) > MAX_NOTICE:
        return False
    first_words = "" if details.startswith(("{", "<")) else details[:_FIRST_WORDS]
    words = _table().words
    lists = words.found_in(content)
    if "failures" not in lists or "explains" in words.found_in(f"{content} {first_words}"):
        return False
    return bool("sources" in lists or _STATUS.search(content) or _SECONDS.search(content))


def is_last_words(paragraph: str, cut_off: bool) -> bool:
    """Whether a paragraph after an answer is a refusal, such as "Rate limit exceeded, try later".

    Args:
        paragraph: its text.
        cut_off: whether the text before it ends in the middle of a sentence.
    """
    if cut_off and _ERROR_PAGE.match(paragraph):
        return True
    if _ITEM.match(paragraph):
        return False
    enough = _table().points["last words"]
    enough += _table().points["cut off"] if cut_off else 0
    paragraph = paragraph.strip("-*_>[]【】() \n\r\t")
    return _meaning(paragraph, _said(paragraph), enough) is not None


def _has(name: str, folded: str) -> bool:
    """Whether a word of a list is in a text."""
    return name in _table().words.found_in(folded)


def status_in(text: str) -> int | None:
    """The HTTP status of an error that a short text names, or ``None``."""
    found = _STATUS.search(text)
    return int(found[0]) if found else None


def _begins_with(body: str, sentence: str) -> bool:
    """Whether the body is the sentence, perhaps with advice or details after it."""
    length = len(sentence)
    if _folded(body[:length]) != _folded(sentence):
        return False
    rest = body[length:]
    if not rest:
        return True
    if len(rest) > MAX_REFUSAL or _has("explains", _folded(rest)):
        return False
    # A word may continue an answer: "Quit" is not "Quit smoking".
    if rest[0].isspace():
        return length >= _SHORT_SENTENCE and _has("addressed", _folded(rest))
    return not (rest[0].isalnum() and rest[0].isascii())
