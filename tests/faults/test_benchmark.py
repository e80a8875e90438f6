"""``python -m benchmarks.faults``: how it runs clients and judges them, with stubs as clients."""

from __future__ import annotations

import multiprocessing
import time

import pytest

from benchmarks.faults.judge import Outcome, Seen, judge
from benchmarks.faults.processes import ClientProcess, Question, Take
from benchmarks.faults.report import Row, report
from helpers import AT_ONCE, HANG, LONG

from .cases import CASES
from .in_reply import STORY, TAIL

CASE = {case.name: case for case in CASES}
ERROR = "SomeError: whatever"


@pytest.mark.parametrize(
    ("name", "seen", "outcome"),
    [
        ("every character split", Seen(STORY), Outcome.TRUE),
        ("every character split", Seen(STORY[1:]), Outcome.WRONG_TEXT),
        ("every character split", Seen(STORY, ERROR), Outcome.FALSE_ERROR),
        ("every character split", Seen(STORY, ended=False), Outcome.HANG),
        ("no last chunk", Seen("Hello", ERROR), Outcome.TRUE),
        ("no last chunk", Seen("Hello"), Outcome.FALSE_SUCCESS),
        ("no last chunk", Seen("Hello", ended=False), Outcome.HANG),
        ("the failure tail at the end", Seen(f"Hello{TAIL}"), Outcome.FALSE_SUCCESS),
        ("an empty 200", Seen(""), Outcome.FALSE_SUCCESS),
        ("gzip", Seen("Hello"), Outcome.TRUE),
        ("gzip", Seen("", ERROR), Outcome.TRUE),
        ("gzip", Seen("\x1f\ufffd"), Outcome.FALSE_SUCCESS),
        ("cut where only line ends are missing", Seen("Hello"), Outcome.TRUE),
        ("cut where only line ends are missing", Seen("Hello", ERROR), Outcome.TRUE),
        ("cut where only line ends are missing", Seen("Hell"), Outcome.FALSE_SUCCESS),
    ],
)
def test_a_client_is_judged_by_what_its_caller_receives(
    name: str, seen: Seen, outcome: Outcome
) -> None:
    """A client is right if it returns a complete answer unchanged and else raises, both in time."""
    assert judge(CASE[name], seen) is outcome


def play(question: Question, take: Take) -> None:
    """A client that behaves as the prompt says."""
    take("Hel")
    if question.text == "fail":
        raise ConnectionError("cut")
    if question.text == "give bytes":
        take(b"lo")
    if question.text == "hang":
        time.sleep(HANG)
    while question.text == "never end":
        take("x" * 1000)
    take("lo")


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("answer", Seen("Hello")),
        ("fail", Seen("Hel", "ConnectionError: cut")),
        ("give bytes", Seen("Hel", 'TypeError: can only concatenate str (not "bytes") to str')),
        ("never end", Seen(ended=False)),
    ],
)
def test_the_result_of_a_client_crosses_the_process_boundary(text: str, seen: Seen) -> None:
    """The text, the error and an answer without an end are reported by the client's process."""
    with ClientProcess(play, patience=LONG) as client:
        assert client.ask(Question(text, "")) == seen


def test_a_client_that_hangs_is_killed() -> None:
    """A client that exceeds its time limit is killed, and a new process gets the next prompt."""
    with ClientProcess(play, patience=AT_ONCE) as client:
        assert client.ask(Question("hang", "")) == Seen(ended=False)
        assert not multiprocessing.active_children()
        assert client.ask(Question("answer", "")) == Seen("Hello")
    assert not multiprocessing.active_children()


def test_undetectable_cases_are_not_counted() -> None:
    """The report excludes undetectable cases, and lists them with their reason."""
    rows = [
        Row("easy", "", [Outcome.TRUE, Outcome.TRUE]),
        Row("hard", "", [Outcome.TRUE, Outcome.HANG]),
        Row("impossible", "both look the same", [Outcome.FALSE_SUCCESS, Outcome.FALSE_SUCCESS]),
    ]
    lines = list(report(["ours", "theirs"], rows, markdown=True))
    assert "| ours   | 2    | 0             | 0    | 0          | 0           |" in lines
    assert "| theirs | 1    | 0             | 1    | 0          | 0           |" in lines
    assert "- impossible: both look the same" in lines


def test_cases_that_no_client_fails_are_not_listed() -> None:
    """The report's list of cases contains only those that at least one client gets wrong."""
    rows = [
        Row("easy", "", [Outcome.TRUE, Outcome.TRUE]),
        Row("hard", "", [Outcome.TRUE, Outcome.HANG]),
    ]
    lines = list(report(["ours", "theirs"], rows, markdown=True))
    assert "| hard | ok   | hang   |" in lines
    assert not [line for line in lines if "easy" in line]
