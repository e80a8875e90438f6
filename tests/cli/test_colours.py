"""Where the command line prints colours."""

from __future__ import annotations

import pytest

from aichatfree.testing import Answer, FakeSite
from helpers import run, terminal

COLOURFUL = {"TERM": "xterm-256color"}
PLAIN = [{**COLOURFUL, "NO_COLOR": "1"}, {"TERM": "dumb"}]


def shown(*arguments: str, environment: dict[str, str]) -> str:
    """What is written to a terminal before the message of a site that rejects the request."""
    with (
        FakeSite(Answer(status=400, body="no such thing")) as site,
        terminal(*arguments, url=site.url, environment=environment) as session,
    ):
        before = session.wait_for("no such thing")
        assert session.finish() == 1
        return before


def test_an_error_stands_out_on_a_terminal() -> None:
    """On a terminal the first word of an error is red, and the message has no colour."""
    assert shown("ask", "Hi", environment=COLOURFUL).startswith("\x1b[31maichatfree:\x1b[0m ")


def test_check_marks_right_and_wrong_settings_by_colour() -> None:
    """On a terminal ``check`` prints "ok" in green and "WRONG" in red."""
    marks = shown("check", environment=COLOURFUL)
    assert marks.startswith("\x1b[32mok\x1b[0m    url ")
    assert "\x1b[31mWRONG\x1b[0m answer " in marks


@pytest.mark.parametrize("environment", PLAIN, ids=["NO_COLOR", "a dumb terminal"])
@pytest.mark.parametrize("arguments", [["ask", "Hi"], ["check"]])
def test_colours_can_be_switched_off(arguments: list[str], environment: dict[str, str]) -> None:
    """There are no colours if NO_COLOR is set, or on a terminal without colours."""
    assert "\x1b" not in shown(*arguments, environment=environment)


@pytest.mark.parametrize("arguments", [["ask", "Hi"], ["check"], ["batch"], ["chat"], ["--help"]])
def test_a_pipe_gets_no_colours(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard output and standard error are plain text if they are pipes."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with FakeSite(Answer(status=400, body="no such thing")) as site:
        done = run(*arguments, url=site.url, stdin=b"Hi\n")
    assert done.stdout + done.stderr
    assert b"\x1b" not in done.stdout + done.stderr
