"""Standard streams that are closed, missing, full or a terminal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aichatfree.testing import Answer, FakeSite
from helpers import LONG, run, terminal

#: Sets the title of a terminal, clears it, changes colours, and reverses the text that follows.
HOSTILE = "\x1b]0;owned\x07\x1b[2Jred\r\x9b31m\u202etxt"


def ask_in_shell(site: FakeSite, redirection: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        f"{sys.executable} -m aichatfree ask Hi --base-url {site.url} {redirection}",
        shell=True,
        capture_output=True,
        timeout=LONG,
        check=False,
    )


def test_a_closed_pipe_ends_the_command_silently() -> None:
    """``aichatfree ask | head -1`` prints one line and no error."""
    with FakeSite([Answer(*["line\n"] * 50, gap=0.02)]) as site:
        done = ask_in_shell(site, "| head -1")
    assert (done.stdout, done.stderr) == (b"line\n", b"")


@pytest.mark.parametrize("closed", ["2>&-", "<&-", ">&-"])
def test_a_missing_standard_stream_is_not_an_error(closed: str) -> None:
    """If a standard stream is closed, as under a daemon, the others work as usual."""
    with FakeSite("Hello") as site:
        done = ask_in_shell(site, closed)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (b"" if closed == ">&-" else b"Hello\n")


def test_a_full_disk_is_reported_in_one_line() -> None:
    """If the output cannot be written, the exit code is 1, and there is no traceback."""
    with FakeSite("Hello") as site:
        done = ask_in_shell(site, "> /dev/full")
    assert done.returncode == 1
    assert b"No space left" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_an_answer_cannot_control_a_terminal() -> None:
    """Control characters are replaced on a terminal, and unchanged in a pipe."""
    with FakeSite([Answer(HOSTILE)]) as site:
        with terminal("ask", "Hi", url=site.url) as session:
            shown = session.wait_for("txt")
            assert not set(shown) & set("\x1b\x07\x9b\u202e")
            session.finish()
        assert run("ask", "Hi", url=site.url).stdout.decode() == HOSTILE + "\n"


def test_an_error_of_a_site_cannot_control_a_terminal() -> None:
    """Control characters in a site's error message are replaced."""
    with FakeSite([Answer(status=400, body=HOSTILE)]) as site:
        done = run("ask", "Hi", url=site.url)
    assert done.returncode == 1
    assert b"\x1b" not in done.stderr


@pytest.mark.parametrize("command", ["ask", "batch"])
def test_json_on_a_terminal_has_no_control_characters(command: str, tmp_path: Path) -> None:
    """JSON escapes control and bidirectional characters on a terminal, and only there."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("Hi\n")
    arguments = ["ask", "--json", "Hi"] if command == "ask" else ["batch", str(prompts)]
    with FakeSite([Answer(HOSTILE)]) as site:
        with terminal(*arguments, url=site.url) as session:
            shown = session.wait_for("}")
            session.finish()
        piped = run(*arguments, url=site.url).stdout.decode()
    assert not set(shown) & set("\x1b\x07\x9b\u202e")
    assert "\\u009b31m\\u202etxt" in shown
    assert "\x9b31m\u202etxt" in piped
    assert json.loads(piped)["text"] == json.loads(shown + "}")["text"] == HOSTILE
