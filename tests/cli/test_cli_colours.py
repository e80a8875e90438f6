from __future__ import annotations

import pytest

from aichatfree.testing import Answer, FakeSite
from helpers import run, terminal

COLOURFUL = {"TERM": "xterm-256color"}
PLAIN = [{**COLOURFUL, "NO_COLOR": "1"}, {"TERM": "dumb"}]


def shown(*arguments: str, environment: dict[str, str]) -> str:
    """All that a terminal is sent when the site says no."""
    with (
        FakeSite(Answer(status=400, body="no such thing")) as site,
        terminal(*arguments, url=site.url, environment=environment) as session,
    ):
        before = session.wait_for("no such thing")
        assert session.finish() == 1
        return before


def test_an_error_stands_out_on_a_terminal() -> None:
    """Its first word is red, and what follows is not."""
    assert shown("ask", "Hi", environment=COLOURFUL).startswith("\x1b[31maichatfree:\x1b[0m ")


def test_what_check_found_is_told_by_colour_too() -> None:
    """Right is green and wrong is red."""
    marks = shown("check", environment=COLOURFUL)
    assert marks.startswith("\x1b[32mok\x1b[0m    url ")
    assert "\x1b[31mWRONG\x1b[0m answer " in marks


@pytest.mark.parametrize("environment", PLAIN, ids=["NO_COLOR", "a dumb terminal"])
@pytest.mark.parametrize("arguments", [["ask", "Hi"], ["check"]])
def test_colours_can_be_refused(arguments: list[str], environment: dict[str, str]) -> None:
    """Who asks for none, or whose terminal has none, gets none."""
    assert "\x1b" not in shown(*arguments, environment=environment)


@pytest.mark.parametrize("arguments", [["ask", "Hi"], ["check"], ["batch"], ["chat"], ["--help"]])
def test_no_colour_goes_into_a_pipe(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is printed, standard output and standard error are plain text there."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with FakeSite(Answer(status=400, body="no such thing")) as site:
        done = run(*arguments, url=site.url, stdin=b"Hi\n")
    assert done.stdout + done.stderr
    assert b"\x1b" not in done.stdout + done.stderr
