"""Looks up what sites say in the table ``phrases.toml``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, Final

MAX_REFUSAL: Final = 240
"""Characters of the longest body with status 200 that is read as a refusal."""

MAX_SEARCHED: Final = 20_000
"""Characters of an error response that are searched for phrases."""

MAX_FIRST_SENTENCE: Final = 120
"""Characters of a first sentence that are held back because it may be a refusal."""

MAX_NOTICE: Final = 200
"""Characters between the brackets of a notice."""

_SHORT_SENTENCE: Final = 8  # characters of a site's own sentence; a word after it is an answer
_FEW_WORDS: Final = 40  # characters of a refusal that need not say anything to the reader
_FIRST_WORDS: Final = 40  # characters after a notice that may explain it
_ENOUGH: Final = 4  # bytes of an opening that hold a body back; fewer begin too many answers

_SENTENCE: Final = re.compile(r".+?(?:[!?。！？\n]+|\.(?=\s|$)|$)", re.DOTALL)
_STATUS: Final = re.compile(r"(?<!\d)[45]\d\d(?!\d)")
_SECONDS: Final = re.compile(r"\d\s*(?:s\b|sec|秒|с\b|сек|sek|seg)")

_SEPARATOR: Final = re.compile(r" \| |\n")
_UNSPACED: Final = "\u2e80"
"""The first letter of the scripts without spaces between words, such as Chinese."""

_WORD_BEGINS: Final = r"(?<![a-z\u00c0-\u1fff])(?=[\0-\u1fff])"  # in other scripts


class _Pattern:
    """Alternatives that are looked for in folded texts; compiled when first used."""

    def __init__(self, *lists: str) -> None:
        self.alternatives = "\n".join(map(str.strip, lists))

    @cached_property
    def _searches(self) -> list[Callable[[str], re.Match[str] | None]]:
        alternatives = _SEPARATOR.split(self.alternatives)
        spaced = [words for words in alternatives if max(words) < _UNSPACED]
        unspaced = [words for words in alternatives if max(words) >= _UNSPACED]
        return [
            re.compile(f"{begins}(?:{_by_letter(words)})").search
            for begins, words in ((_WORD_BEGINS, spaced), ("", unspaced))
            if words
        ]

    def is_in(self, folded: str) -> bool:
        return any(search(folded) for search in self._searches)


def _by_letter(alternatives: Iterable[str]) -> str:
    """One pattern of all alternatives, several times as fast as a simple list of them."""
    groups: dict[str, list[str]] = {}
    for words in alternatives:
        letter = words[0] if words[0].isalnum() and words[1:2] not in tuple("?*+{") else ""
        groups.setdefault(letter, []).append(words[len(letter) :])
    return "|".join(f"{letter}(?:{'|'.join(rest)})" for letter, rest in groups.items())


def _folded(text: str) -> str:
    """In lower case, with ``not`` for ``n't`` and ``i`` for the Turkish ``ı`` and ``İ``."""
    lower = text.lower().replace("ı", "i").replace("i\u0307", "i")
    return lower.replace("’", "'").replace("can't", "cannot").replace("n't", " not")


@dataclass(frozen=True)
class _Entry:
    """A phrase, a signal or a hint: all of its parts have to be there."""

    meaning: str
    statuses: frozenset[int]
    parts: tuple[_Pattern, ...]

    def is_in(self, folded: str) -> bool:
        return all(part.is_in(folded) for part in self.parts)


@dataclass(frozen=True)
class _Table:
    """The table; the attributes are its keys."""

    phrases: list[_Entry]
    signals: list[_Entry]
    states: _Pattern
    """Those of all signals; the sentences of most answers have none."""

    hints: list[_Entry]
    addressed: _Pattern
    advice: _Pattern
    explains: _Pattern
    quotes: re.Pattern[str]
    openings: Mapping[str, list[str]]  # by their first letter
    labels: re.Pattern[str]
    sources: _Pattern
    failures: _Pattern


@cache
def _table() -> _Table:
    """The table, read when the first response asks for it."""
    text = (resources.files(__package__) / "phrases.toml").read_text("utf-8")
    data = tomllib.loads(text)
    body, ending = data["body"], data["ending"]
    signals = _entries(data["signal"], "states", "topics")
    return _Table(
        phrases=_entries(data["phrase"], "patterns"),
        signals=signals,
        states=_Pattern(*(signal.parts[0].alternatives for signal in signals)),
        hints=_entries(data["hint"], "states", "topics"),
        addressed=_Pattern(body["addressed"]),
        advice=_Pattern(body["advice"]),
        explains=_Pattern(body["explains"]),
        quotes=re.compile(body["quotes"]),
        openings={
            letter: list(group)
            for letter, group in groupby(sorted(body["openings"]), key=itemgetter(0))
        },
        labels=re.compile(rf"\W*(?:{ending['labels']})\W*"),
        sources=_Pattern(ending["sources"]),
        failures=_Pattern(ending["failures"]),
    )


def _entries(tables: list[dict[str, Any]], *parts: str) -> list[_Entry]:
    return [
        _Entry(
            table["meaning"],
            frozenset(table.get("statuses", ())),
            tuple(_Pattern(table[part]) for part in parts if part in table),
        )
        for table in tables
    ]


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
    for phrase in table.phrases:
        if (status in phrase.statuses or not phrase.statuses) and phrase.is_in(folded):
            return phrase.meaning
    first = _first_sentences(_folded(message[:MAX_SEARCHED]))
    for signal in table.signals:
        if status in signal.statuses and any(map(signal.is_in, first)):
            return signal.meaning
    return None


def meaning_of_body(text: str, sentences: Mapping[str, str]) -> str | None:
    """The meaning of a complete body with status 200 that is a refusal; ``None`` for an answer.

    It begins with one of the site's own sentences; or it is short, nothing in it explains or
    quotes, and it says something to the reader and has a signal in one of its first sentences, or
    gives advice and has a hint.
    """
    body = text.strip()
    for sentence, meaning in sentences.items():
        if sentence and _begins_with(body, sentence):
            return meaning
    if not body or len(body) > MAX_REFUSAL:
        return None
    table, folded = _table(), _folded(body)
    said = [sentence for sentence in _first_sentences(folded) if table.states.is_in(sentence)]
    advises = table.advice.is_in(folded)
    if said and not (len(body) <= _FEW_WORDS or advises or table.addressed.is_in(folded)):
        said = []
    if not (said or advises) or table.quotes.search(body) or table.explains.is_in(folded):
        return None
    for signal in table.signals:
        if any(map(signal.is_in, said)):
            return signal.meaning
    return next((hint.meaning for hint in table.hints if advises and hint.is_in(folded)), None)


def _first_sentences(text: str) -> list[str]:
    return [found[0] for found in islice(_SENTENCE.finditer(text), 2)]


def may_be_refusal(text: str, sentences: Mapping[str, str]) -> bool:
    """Whether a body that begins like this may turn out to be a refusal."""
    body = _folded(text.lstrip())
    if len(body) > MAX_REFUSAL:
        return False
    for sentence in filter(None, sentences):
        if _folded(sentence).startswith(body) or _begins_with(body.rstrip(), sentence):
            return True
    enough = len(body.encode()) >= _ENOUGH
    if enough and meaning_of_body(text, {}) is not None:
        return True
    openings = _table().openings.get(body[:1], ())
    begins = (
        body.startswith(opening) or (enough and opening.startswith(body)) for opening in openings
    )
    if not any(begins) or _table().explains.is_in(body):
        return False
    sentences_so_far = _first_sentences(body)
    if len(sentences_so_far) < 2:
        return len(body) <= MAX_FIRST_SENTENCE
    return any(signal.is_in(said) for signal in _table().signals for said in sentences_so_far)


def is_label(content: str) -> bool:
    """Whether a bracket's content is a label, such as "error", of the notice that follows it."""
    return _table().labels.fullmatch(_folded(content)) is not None


def is_notice(content: str, rest: str) -> bool:
    """Whether a bracket's content, and what follows it, tell of a failure behind the site."""
    table = _table()
    details = _folded(rest.strip())
    content = _folded(content)
    if is_label(content) and "\n" not in details:
        content, details = details, ""
    if len(content) > MAX_NOTICE or not table.failures.is_in(content):
        return False
    about = table.sources.is_in(content) or _STATUS.search(content) or _SECONDS.search(content)
    first_words = "" if details.startswith(("{", "<")) else details[:_FIRST_WORDS]
    return bool(about) and not table.explains.is_in(f"{content} {first_words}")


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
    if len(rest) > MAX_REFUSAL or _table().explains.is_in(_folded(rest)):
        return False
    # A word may continue an answer: "Quit" is not "Quit smoking".
    if rest[0].isspace():
        return length >= _SHORT_SENTENCE and _table().addressed.is_in(_folded(rest))
    return not (rest[0].isalnum() and rest[0].isascii())
