"""Finds which of many lists of words have a word in a text, in one pass over the text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from typing import Final

_SEPARATOR: Final = re.compile(r" \| |\n")
_INSIDE: Final = re.compile(r"\[[^]]*\]|\([^()]*\)|\\.")
"""What may have a bar in it: a class of characters, a group without groups in it."""
_BEGINNINGS: Final = re.compile(
    r"(?<![a-z\u00c0-\u0dff\u0f00-\u1fff])[a-z0-9\u00c0-\u0dff\u0f00-\u1fff]"
    r"|[\u0e00-\u0eff\u2e80-\U0010ffff]"
)
"""Where words begin: anywhere in the scripts without spaces, such as Chinese and Thai."""

_LITERAL: Final = re.compile(r"(?:[^\W_]|[ _'-])+(?![?*+{])")
_GROUP: Final = re.compile(r"\(\?:([^()]*)\)(\??)(?![*+{])(.*)")
_CLASS: Final = re.compile(r"\[([^]\\^-]*)\](?![?*+{])(.*)")
_LETTERS: Final = 4
"""Letters that words are looked up by.

With fewer, more words have to be tried at each place of a text; with more, more beginnings of
different lengths have to be looked up. Three to four cost the least.
"""

_BEGINNINGS_KEPT: Final = 10_000
"""Beginnings of words whose groups are remembered."""

_START: Final = "^"
_DIGIT: Final = r"\d"


class _Group:
    """The words that begin with the same letters, and their lists."""

    def __init__(self) -> None:
        self._words: dict[str, set[str]] = {}

    def add(self, word: str, name: str) -> None:
        self._words.setdefault(word, set()).add(name)

    @cached_property
    def _any(self) -> re.Pattern[str]:
        return re.compile("|".join(self._words))

    @cached_property
    def _each(self) -> list[tuple[re.Pattern[str], set[str]]]:
        return [(re.compile(word), names) for word, names in self._words.items()]

    def find(self, text: str, start: int, end: int, found: set[str]) -> None:
        """Add the names of the lists that have a word of the text there."""
        if self._any.match(text, start, end):
            for word, names in self._each:
                if not names <= found and word.match(text, start, end):
                    found |= names


class WordLists:
    """Lists of words: regular expressions in lower case, on lines or between bars with spaces.

    Each begins at the start of a word, unless its first letter is of a script that is written
    without spaces. ``^`` is the start of the text; other words begin with a digit, a letter, or
    a choice such as ``(?:daily|hourly)``. Words are looked up by their first letters, so that
    thousands of them cost no more than a few.

    Args:
        lists: the words of each list, by its name.
    """

    def __init__(self, lists: Mapping[str, str]) -> None:
        self._groups: dict[str, _Group] = {}
        for name, words in lists.items():
            for word in _SEPARATOR.split(words.strip()):
                if "|" in _without_groups(word):
                    raise ValueError(f"a bar without spaces around it in {word!r}")
                for form in _forms(word.strip()):
                    self._groups.setdefault(_first_letters(form), _Group()).add(form, name)
        self._lengths = sorted({len(key) for key in self._groups})
        self._groups_of = lru_cache(_BEGINNINGS_KEPT)(self._find_groups)

    def found_in(self, text: str, start: int = 0, end: int | None = None) -> set[str]:
        """The names of the lists that have a word in the text, or in a part of it."""
        end = len(text) if end is None else end
        found = set[str]()
        if group := self._groups.get(_START):
            group.find(text, start, end, found)
        for beginning in _BEGINNINGS.finditer(text, start, end):
            at = beginning.start()
            for group in self._groups_of(text[at : at + _LETTERS]):
                group.find(text, at, end, found)
        return found

    def _find_groups(self, letters: str) -> list[_Group]:
        """The groups of the words that may begin with these letters."""
        keys = [letters[:length] for length in self._lengths if length <= len(letters)]
        keys += [_DIGIT] if letters[0].isdigit() else []
        return [self._groups[key] for key in keys if key in self._groups]


def _first_letters(word: str) -> str:
    """What a word is looked up by."""
    for special in (_START, _DIGIT):
        if word.startswith(special):
            return special
    literal = _LITERAL.match(word)
    if literal is None:
        raise ValueError(f"{word!r} does not begin with a letter")
    return literal[0][:_LETTERS]


def _without_groups(word: str) -> str:
    """What is left of a word when its groups are removed, from the inside outwards."""
    rest = _INSIDE.sub("", word)
    return rest if rest == word else _without_groups(rest)


def _forms(word: str) -> Iterator[str]:
    """The word with each choice at its beginning written out, as in ``(?:daily|hourly) limit``."""
    group, letters = _GROUP.fullmatch(word), _CLASS.fullmatch(word)
    if group:
        for choice in group[1].split("|"):
            yield from _forms(choice + group[3])
        if group[2]:
            yield from _forms(group[3])
    elif letters:
        for letter in letters[1]:
            yield letter + letters[2]
    elif word:
        yield word
