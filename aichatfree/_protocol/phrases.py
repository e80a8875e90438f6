"""Looks up what sites say in the table ``phrases.toml``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from itertools import groupby, islice
from operator import itemgetter
from typing import Final

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
_SECONDS: Final = re.compile(r"\d\s*(?:s\b|sec|秒|с\b|сек|sek|seg)", re.IGNORECASE)


class _Pattern:
    """Alternatives that are compiled when they are first searched for."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = patterns

    @cached_property
    def search(self) -> Callable[[str], re.Match[str] | None]:
        return re.compile("|".join(self._patterns), re.IGNORECASE).search


@dataclass(frozen=True)
class _Phrase:
    meaning: str
    pattern: _Pattern
    statuses: frozenset[int]

    def is_in(self, text: str) -> bool:
        return self.pattern.search(text) is not None


@dataclass(frozen=True)
class _Signal:
    meaning: str
    topics: _Pattern
    states: _Pattern
    statuses: frozenset[int]

    def is_in(self, text: str) -> bool:
        return bool(self.topics.search(text) and self.states.search(text))


@dataclass(frozen=True)
class _Table:
    """The table; the attributes are its keys."""

    phrases: tuple[_Phrase, ...]
    signals: tuple[_Signal, ...]
    addressed: _Pattern
    explains: _Pattern
    quotes: _Pattern
    openings: Mapping[str, list[str]]  # by their first letter
    labels: _Pattern
    sources: _Pattern
    failures: _Pattern


@cache
def _table() -> _Table:
    """The table, read when the first response asks for it."""
    text = (resources.files(__package__) / "phrases.toml").read_text("utf-8")
    data = tomllib.loads(text)
    body, ending = data["body"], data["ending"]
    return _Table(
        phrases=tuple(
            _Phrase(e["meaning"], _Pattern(e["patterns"]), frozenset(e.get("statuses", ())))
            for e in data["phrase"]
        ),
        signals=tuple(
            _Signal(
                e["meaning"], _Pattern(e["topics"]), _Pattern(e["states"]), frozenset(e["statuses"])
            )
            for e in data["signal"]
        ),
        addressed=_Pattern(body["addressed"]),
        explains=_Pattern(body["explains"]),
        quotes=_Pattern([body["quotes"]]),
        openings={
            letter: list(group)
            for letter, group in groupby(sorted(body["openings"]), key=itemgetter(0))
        },
        labels=_Pattern([rf"^\W*(?:{'|'.join(ending['labels'])})\W*$"]),
        sources=_Pattern(ending["sources"]),
        failures=_Pattern(ending["failures"]),
    )


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
    text = text[:MAX_SEARCHED]
    folded = text.casefold()
    for sentence, name in sentences.items():
        if sentence and sentence.casefold() in folded:
            return name
    table = _table()
    for phrase in table.phrases:
        if (status in phrase.statuses or not phrase.statuses) and phrase.is_in(text):
            return phrase.meaning
    first = _first_sentences(message[:MAX_SEARCHED])
    for signal in table.signals:
        if status in signal.statuses and any(map(signal.is_in, first)):
            return signal.meaning
    return None


def meaning_of_body(text: str, sentences: Mapping[str, str]) -> str | None:
    """The meaning of a complete body with status 200 that is a refusal; ``None`` for an answer.

    It begins with one of the site's own sentences; or it is short, one of its first sentences has
    the topic and the state of a signal, it says something to the reader, and nothing in it explains
    or quotes.
    """
    body = text.strip()
    for sentence, meaning in sentences.items():
        if sentence and _begins_with(body, sentence):
            return meaning
    if not body or len(body) > MAX_REFUSAL:
        return None
    table = _table()
    first = _first_sentences(body)
    for signal in table.signals:
        if any(map(signal.is_in, first)):
            addressed = len(body) <= _FEW_WORDS or table.addressed.search(body)
            talks_about_it = table.explains.search(body) or table.quotes.search(body)
            return signal.meaning if addressed and not talks_about_it else None
    return None


def _first_sentences(text: str) -> list[str]:
    return [found[0] for found in islice(_SENTENCE.finditer(text), 2)]


def may_be_refusal(text: str, sentences: Mapping[str, str]) -> bool:
    """Whether a body that begins like this may turn out to be a refusal."""
    body = text.lstrip().casefold()
    if len(body) > MAX_REFUSAL:
        return False
    for sentence in filter(None, sentences):
        known = sentence.casefold()
        if known.startswith(body) or _begins_with(body.rstrip(), sentence):
            return True
    enough = len(body.encode()) >= _ENOUGH
    if enough and meaning_of_body(text, {}) is not None:
        return True
    openings = _table().openings.get(body[:1], ())
    begins = (
        body.startswith(opening) or (enough and opening.startswith(body)) for opening in openings
    )
    if not any(begins) or _table().explains.search(body):
        return False
    sentences_so_far = _first_sentences(body)
    if len(sentences_so_far) < 2:
        return len(body) <= MAX_FIRST_SENTENCE
    return any(signal.is_in(said) for signal in _table().signals for said in sentences_so_far)


def is_label(content: str) -> bool:
    """Whether a bracket's content is a label, such as "error", of the notice that follows it."""
    return _table().labels.search(content) is not None


def is_notice(content: str, rest: str) -> bool:
    """Whether a bracket's content, and what follows it, tell of a failure behind the site."""
    table = _table()
    details = rest.strip()
    if is_label(content) and "\n" not in details:
        content, details = details, ""
    if len(content) > MAX_NOTICE or not table.failures.search(content):
        return False
    about = table.sources.search(content) or _STATUS.search(content) or _SECONDS.search(content)
    first_words = "" if details.startswith(("{", "<")) else details[:_FIRST_WORDS]
    return bool(about) and not table.explains.search(f"{content} {first_words}")


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
        return length >= _SHORT_SENTENCE and bool(_table().addressed.search(rest))
    return not (rest[0].isalnum() and rest[0].isascii())
