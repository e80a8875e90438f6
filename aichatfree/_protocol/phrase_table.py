"""What ``phrases.toml`` and ``words.toml`` say: which words tell of which refusal."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Set
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import groupby
from operator import itemgetter
from typing import Any

from .word_lists import WordLists


@dataclass(frozen=True)
class Refusal:
    """Something is the matter with a subject: the names of lists of words for both.

    The subject alone is enough if ``says`` is empty.
    """

    meaning: str
    statuses: frozenset[int]
    about: frozenset[str]
    says: frozenset[str]
    points: int

    @classmethod
    def of(cls, entry: Mapping[str, Any], points: int) -> Refusal:
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
class PhraseTable:
    """What ``phrases.toml`` and ``words.toml`` say."""

    phrases: list[Refusal]
    refusals: list[Refusal]
    in_bodies: list[Refusal]
    """Those of both that count with status 200."""

    subjects: frozenset[str]
    """What they are about."""

    words_of_refusals: WordLists
    """The lists that refusals are made of; those of phrases too, by their numbers."""

    words_besides: WordLists
    """The other lists."""

    of_phrases: WordLists
    points: Mapping[str, int]
    answer_forms: re.Pattern[str]
    marks: re.Pattern[str]
    openings: Mapping[str, list[str]]  # by their first letter
    standard: frozenset[str]
    not_in_labels: frozenset[str]
    notice_labels: re.Pattern[str]
    glued: tuple[str, ...]


@cache
def phrase_table() -> PhraseTable:
    """The table, read when the first response asks for it."""
    data, lists = (_read(name) for name in ("phrases.toml", "words.toml"))
    points, body = data["points"], data["body"]
    phrases = {str(number): phrase for number, phrase in enumerate(data["phrase"])}
    of_phrases = {number: phrase["words"] for number, phrase in phrases.items()}
    everything = lists | of_phrases
    known = [Refusal.of(entry | {"about": [name]}, 0) for name, entry in phrases.items()]
    refusals = [Refusal.of(entry, points["together"]) for entry in data["refusal"]]
    in_bodies = [each for each in (*known, *refusals) if each.points]
    subjects = frozenset[str]().union(*(each.about for each in in_bodies))
    parts = subjects.union(*(each.says for each in in_bodies))
    return PhraseTable(
        phrases=known,
        refusals=refusals,
        in_bodies=in_bodies,
        subjects=subjects,
        words_of_refusals=WordLists({name: everything[name] for name in parts}),
        words_besides=WordLists({name: everything[name] for name in everything.keys() - parts}),
        of_phrases=WordLists(of_phrases),
        points=points,
        answer_forms=re.compile("|".join(body["answer_forms"])),
        marks=re.compile("|".join(body["marks"]), re.IGNORECASE),
        openings={
            letter: list(group)
            for letter, group in groupby(sorted(body["openings"]), key=itemgetter(0))
        },
        standard=frozenset(body["standard"]),
        not_in_labels=frozenset(body["not_in_labels"]),
        glued=(*body["glued"], *body["openings"]),
        notice_labels=re.compile(rf"\W*(?:{body['notice_labels']})\W*"),
    )


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((resources.files(__package__) / name).read_text("utf-8"))
