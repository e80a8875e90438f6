"""The exit codes of the command line."""

from __future__ import annotations

import pytest

import aichatfree
from aichatfree.testing import Answer, FakeSite
from helpers import AT_ONCE, HANG, run, terminal

WRONG_USAGE = {
    "empty prompt": (["ask", ""], b"", b"empty"),
    "empty input": (["ask"], b"\n", b"empty"),
    "not UTF-8": (["ask"], b"caf\xe9", b"UTF-8"),
    "no scheme": (["ask", "--base-url", "x", "Hi"], b"", b"https://"),
    "unknown dialect": (["ask", "--dialect", "x", "Hi"], b"", b"gemini"),
    "negative time": (["ask", "--timeout", "-1", "Hi"], b"", b"--timeout must be"),
    "no quotes": (["ask", "Hello,", "how", "are", "you?"], b"", b"in quotes"),
    "two sites": (["ask", "--local", "--base-url", "http://x", "Hi"], b"", b"exclude"),
    "unknown command": (["aks"], b"", b"aks"),
}


@pytest.mark.parametrize("kind", WRONG_USAGE)
def test_wrong_usage_is_exit_code_2(kind: str) -> None:
    """Wrong usage gives exit code 2 and a message without a traceback, and nothing is sent."""
    arguments, stdin, words = WRONG_USAGE[kind]
    with FakeSite("Hello") as site:
        url = None if "--base-url" in arguments else site.url
        done = run(*arguments, url=url, stdin=stdin)
        assert site.requests == []
    assert done.returncode == 2
    assert words in done.stderr
    assert b"Traceback" not in done.stderr


def test_ctrl_c_is_exit_code_130() -> None:
    """Ctrl-C closes the connection and ends the command with exit code 130."""
    with FakeSite([Answer("half", " of it", gap=HANG)]) as site:
        with terminal("ask", "Hi", url=site.url) as session:
            session.wait_for("half")
            session.interrupt()
            assert session.finish() == 130
            assert "Traceback" not in session.seen
        assert site.requests[0].disconnected.wait(AT_ONCE)


def test_version_prints_the_version_of_the_package() -> None:
    """--version prints ``aichatfree.__version__``."""
    assert aichatfree.__version__ in run("--version").stdout.decode()
