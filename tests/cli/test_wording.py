"""Messages of the package as the command line shows them."""

from __future__ import annotations

import click
import pytest

from aichatfree._cli.main import cli
from aichatfree._cli.wording import for_command_line
from aichatfree.testing import Answer, FakeSite
from helpers import HANG, UNREACHABLE, run

WORDS = {
    "check base_url= (AICHATFREE_BASE_URL) and": "check --base-url (AICHATFREE_BASE_URL) and",
    "set password= (AICHATFREE_PASSWORD).": "set AICHATFREE_PASSWORD.",
    "allow more with timeout=Timeout(read=...).": "allow more with --timeout.",
    "set dialect='openai' (AICHATFREE_DIALECT)": "set --dialect openai (AICHATFREE_DIALECT)",
    "fewer at once (max_workers=).": "fewer at once (--max-workers).",
    "max_requests_per_minute= keeps to a limit": "--rpm keeps to a limit",
    "skip such rows with skip_empty=True": "skip such rows with --skip-empty",
    "the brace of template= does not": "the brace of --prompt does not",
    "max_workers must be at least 1": "--max-workers must be at least 1",
    "Timeout.total must be at least 1": "--timeout must be at least 1",
    "check proxies= (HTTPS_PROXY, NO_PROXY).": "check HTTPS_PROXY, NO_PROXY.",
    "allow more with max_reply_bytes=.": "allow more with max_reply_bytes= in Python.",
    "client.check() tries them": "aichatfree check tries them",
    "It said: model=x, a='b'c, base_url=http": "It said: model=x, a='b'c, base_url=http",
}


@pytest.mark.parametrize("message", WORDS)
def test_arguments_become_options(message: str) -> None:
    """An argument becomes the option of a command, or else the variables that set it."""
    with click.Context(cli):
        assert for_command_line(message) == WORDS[message]


# Seconds: enough for the second attempt (after 0.5 to 1 s), but not for the third (after 1.5).
TWO_ATTEMPTS = "1.4"


@pytest.mark.parametrize("command", ["ask", "batch", "chat", "check"])
def test_every_command_names_options(command: str) -> None:
    """Errors of each command name its options, whether they are printed or are its result."""
    arguments = [command, "Hi"] if command == "ask" else [command]
    done = run(*arguments, "--base-url", UNREACHABLE, "--timeout", TWO_ATTEMPTS, stdin=b"Hi\n")
    shown = (done.stdout if command == "check" else done.stderr).decode()
    assert "--base-url (AICHATFREE_BASE_URL)" in shown
    assert "base_url=" not in shown


def test_an_option_of_another_command_is_named_with_it() -> None:
    """Advice about batches that a single question gets says which command has the option."""
    with FakeSite([Answer(status=429, body="Too many requests")]) as site:
        done = run("ask", "--timeout", TWO_ATTEMPTS, "Hi", url=site.url)
    assert b"--rpm of aichatfree batch keeps to a limit" in done.stderr


def test_the_timeout_is_the_longest_silence_too() -> None:
    """--timeout limits the whole call, and so the silence that it allows."""
    with FakeSite(Answer("half", " and more", gap=HANG)) as site:
        done = run("ask", "--timeout", "0.5", "Hi", url=site.url)
    assert done.returncode == 1
    assert b"--timeout" in done.stderr
