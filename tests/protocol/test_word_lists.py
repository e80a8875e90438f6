"""Lists of words: how words are written, where they are found, and at what cost."""

from __future__ import annotations

import re
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

#: How much longer than in proportion a search may take: what is quadratic takes eight times that.
AT_MOST: Final = 3
#: Seconds of CPU time below which clocks are too coarse to compare.
SMALLEST: Final = 0.001


def table(name: str) -> dict[str, object]:
    package = resources.files("aichatfree._protocol")
    return tomllib.loads((package / name).read_text("utf-8"))


def single_words(name: str) -> set[str]:
    """The words of a list that are only letters."""
    lists = table("words.toml")
    words = re.split(r" \| |\n", str(lists[name]).strip())
    return {word for word in (word.removesuffix(r"\b") for word in words) if word.isalpha()}


LISTS_OF_A_REFUSAL: Final = {
    (about, says)
    for refusal in table("phrases.toml")["refusal"]  # type: ignore[attr-defined]
    for about in refusal["about"]
    for says in refusal.get("says", ())
}


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


@pytest.mark.parametrize(
    "words", ["is (?:loading|starting)| warming up", "one |two", "(?:a(?:b|c))|d"]
)
def test_a_bar_between_words_has_spaces_around_it(words: str) -> None:
    """A bar without a space on one side is refused, since the words beside it would be one."""
    with pytest.raises(ValueError, match="a bar without spaces"):
        WordLists({"list": words})


def test_a_bar_inside_a_group_is_part_of_a_word() -> None:
    """Choices in a word, also one inside another and in a class, need no spaces."""
    lists = WordLists({"list": r"(?:new|old) (?:site(?: is|s are)|app) (?:down|[|]) | x\b"})
    assert lists.found_in("the old sites are down") == {"list"}


def test_all_lists_are_used() -> None:
    """Each list of words has a use, and each list that is named exists."""
    phrases = table("phrases.toml")
    named = {
        "addressed",
        "advice",
        "explains",
        "explains_before",
        "conditional",
        "per_day",
        "tomorrow",
        "sources",
        "failures",
    }
    for refusal in phrases["refusal"]:  # type: ignore[attr-defined]
        named.update(refusal["about"], refusal.get("says", ()))
    named.update(phrases["body"]["not_in_labels"])  # type: ignore[index]
    assert named == table("words.toml").keys()


@pytest.mark.parametrize("name", sorted(LISTS_OF_A_REFUSAL))
def test_no_single_word_is_a_refusal(name: tuple[str, str]) -> None:
    """No word is both a subject and what is the matter with it: it would decide alone."""
    about, says = (single_words(which) for which in name)
    assert {word for word in about if word.startswith(tuple(says))} == set()


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
def test_the_time_is_in_proportion_to_the_length(words: str) -> None:
    """A text of repeated words that is eight times as long takes about eight times as long."""
    short, long = (seconds_for(words, length) for length in (MAX_SEARCHED // 8, MAX_SEARCHED))
    assert long < 8 * AT_MOST * max(short, SMALLEST)


def seconds_for(words: str, length: int) -> float:
    """The least CPU time of three searches of a text of that length, in seconds."""
    text = (words * length)[:length]
    times = []
    for _ in range(3):
        begin = time.process_time()
        meaning_in_error(500, text, text, {})
        meaning_of_body(text[:MAX_REFUSAL], {})
        times.append(time.process_time() - begin)
    return min(times)
