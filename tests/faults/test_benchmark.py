"""The judgement of ``python -m benchmarks.faults``, with stubs in place of clients."""

from __future__ import annotations

import multiprocessing
import time

import pytest

from benchmarks.faults.judge import Outcome, Seen, judge
from benchmarks.faults.processes import ClientProcess, Question, Take
from benchmarks.faults.report import Row, report

from .cases import CASES, STORY, TAIL

CASE = {case.name: case for case in CASES}
ERROR = "SomeError: whatever"


@pytest.mark.parametrize(
    ("name", "seen", "outcome"),
    [
        ("characters split everywhere", Seen(STORY), Outcome.TRUE),
        ("characters split everywhere", Seen(STORY[1:]), Outcome.WRONG_TEXT),
        ("characters split everywhere", Seen(STORY, ERROR), Outcome.FALSE_ERROR),
        ("characters split everywhere", Seen(STORY, ended=False), Outcome.HANG),
        ("no last chunk", Seen("Hello", ERROR), Outcome.TRUE),
        ("no last chunk", Seen("Hello"), Outcome.FALSE_SUCCESS),
        ("no last chunk", Seen("Hello", ended=False), Outcome.HANG),
        ("the failure tail at the end", Seen(f"Hello{TAIL}"), Outcome.FALSE_SUCCESS),
        ("an empty 200", Seen(""), Outcome.FALSE_SUCCESS),
        ("gzip", Seen("Hello"), Outcome.TRUE),
        ("gzip", Seen("", ERROR), Outcome.TRUE),
        ("gzip", Seen("\x1f\ufffd"), Outcome.FALSE_SUCCESS),
        ("cut when nothing is missing but line ends", Seen("Hello"), Outcome.TRUE),
        ("cut when nothing is missing but line ends", Seen("Hello", ERROR), Outcome.TRUE),
        ("cut when nothing is missing but line ends", Seen("Hell"), Outcome.FALSE_SUCCESS),
    ],
)
def test_a_client_is_judged_by_what_its_caller_gets(
    name: str, seen: Seen, outcome: Outcome
) -> None:
    """A whole answer is due as it is, an error of any kind where none came, and an end in time."""
    assert judge(CASE[name], seen) is outcome


def play(question: Question, take: Take) -> None:
    """A stub that does what it is asked to."""
    take("Hel")
    if question.text == "fail":
        raise ConnectionError("cut")
    if question.text == "give bytes":
        take(b"lo")
    if question.text == "be silent":
        time.sleep(3600)
    while question.text == "go on for ever":
        take("x" * 1000)
    take("lo")


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("answer", Seen("Hello")),
        ("fail", Seen("Hel", "ConnectionError: cut")),
        ("give bytes", Seen("Hel", 'TypeError: can only concatenate str (not "bytes") to str')),
        ("go on for ever", Seen(ended=False)),
    ],
)
def test_what_a_client_does_is_seen(text: str, seen: Seen) -> None:
    """The text, the error and the want of an end come from the client's process as they are."""
    with ClientProcess(play, patience=60) as client:
        assert client.ask(Question(text, "")) == seen


def test_a_client_that_hangs_is_killed() -> None:
    """Nothing of it is left, and the next question is put to a new process."""
    with ClientProcess(play, patience=2) as client:
        assert client.ask(Question("be silent", "")) == Seen(ended=False)
        assert not multiprocessing.active_children()
        assert client.ask(Question("answer", "")) == Seen("Hello")
    assert not multiprocessing.active_children()


def test_what_no_client_can_know_is_not_counted() -> None:
    """Such a case is named with its reason; those that all clients get right are not listed."""
    rows = [
        Row("easy", "", [Outcome.TRUE, Outcome.TRUE]),
        Row("hard", "", [Outcome.TRUE, Outcome.HANG]),
        Row("riddle", "nobody knows", [Outcome.FALSE_SUCCESS, Outcome.FALSE_SUCCESS]),
    ]
    lines = list(report(["ours", "theirs"], rows, markdown=True))
    assert "| ours   | 2    | 0             | 0    | 0          | 0           |" in lines
    assert "| theirs | 1    | 0             | 1    | 0          | 0           |" in lines
    assert "| hard | ok   | hang   |" in lines
    assert "- riddle: nobody knows" in lines
    assert not [line for line in lines if "easy" in line]
