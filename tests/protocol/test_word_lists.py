"""Lists of words: how words are written, where they are found, and at what cost."""

from __future__ import annotations

import time
import tomllib
from importlib import resources
from typing import Final

import pytest

from aichatfree._protocol.phrases import (
    MAX_REFUSAL,
    MAX_SEARCHED,
    meaning_in_error,
    meaning_of_body,
)
from aichatfree._protocol.word_lists import WordLists

#: Seconds of CPU time in which a text of any words is searched: a hundred times what it takes.
AT_MOST: Final = 0.5


def table(name: str) -> dict[str, object]:
    package = resources.files("aichatfree._protocol")
    return tomllib.loads((package / name).read_text("utf-8"))


@pytest.mark.parametrize(
    ("words", "text", "found"),
    [
        ("limit", "the limits are", True),
        ("limit", "no delimiter", False),
        (r"limit\b", "the limits are", False),
        ("day | limit", "a limit", True),
        ("day\nlimit", "a limit", True),
        ("(?:daily|hourly) limit", "an hourly limit", True),
        ("requests?", "a request", True),
        ("限额", "今日限额已满", True),
        ("[输輸]入", "請輸入", True),
        (r"\d+ requests", "only 30 requests", True),
        (r"^\W*error", "... error", True),
        (r"^\W*error", "an error", False),
    ],
)
def test_where_a_word_is_found(words: str, text: str, found: bool) -> None:
    """A word begins where a word of the text does, or anywhere in scripts without spaces."""
    assert WordLists({"list": words}).found_in(text) == ({"list"} if found else set())


def test_a_part_of_a_text() -> None:
    """Only the part that is asked for is searched, and no word goes beyond it."""
    lists = WordLists({"a": "one", "b": "two three"})
    assert lists.found_in("one two three", 0, 7) == {"a"}
    assert lists.found_in("one two three", 4, 13) == {"b"}


def test_a_word_has_to_begin_with_something_known() -> None:
    """A word that could begin anywhere is refused, since it would be looked for everywhere."""
    with pytest.raises(ValueError, match="does not begin with a letter"):
        WordLists({"list": r"\w*limit"})


def test_all_lists_are_used() -> None:
    """Each list of words has a use, and each list that is named exists."""
    phrases = table("phrases.toml")
    named = {
        "addressed",
        "advice",
        "explains",
        "conditional",
        "per_day",
        "tomorrow",
        "sources",
        "failures",
    }
    for refusal in phrases["refusal"]:  # type: ignore[attr-defined]
        named.update(refusal["about"], refusal.get("says", ()))
    assert named == table("words.toml").keys()


@pytest.mark.parametrize(
    "words",
    [
        "exceed ",
        "too many ",
        "(",
        '"a b ',
        "error\n ",
        "a.",
        "限",
        "model x ",
        "超过",
        "no a a ",
        "**a",
        "'a ",
    ],
)
def test_no_text_takes_long(words: str) -> None:
    """A text of repeated words is searched in a time that is in proportion to its length."""
    begin = time.process_time()
    meaning_of_body((words * MAX_REFUSAL)[:MAX_REFUSAL], {})
    text = (words * MAX_SEARCHED)[:MAX_SEARCHED]
    meaning_in_error(500, text, text, {})
    assert time.process_time() - begin < AT_MOST
