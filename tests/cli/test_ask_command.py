"""``aichatfree ask``: what is read, sent and printed."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from aichatfree.testing import Answer, FakeSite
from helpers import COMMAND, LONG, SHORT, echo, run, terminal


def test_ask_prints_the_answer_and_nothing_else() -> None:
    """The answer goes to standard output with a newline at its end; the exit code is 0."""
    with FakeSite([Answer("Hi", " there")]) as site:
        done = run("ask", "Hello", url=site.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"Hi there\n", b"")


@pytest.mark.parametrize("arguments", [["ask"], ["ask", "-"]])
def test_ask_reads_standard_input(arguments: list[str]) -> None:
    """Without a prompt, or with "-", the prompt is read from standard input as UTF-8."""
    with FakeSite([echo]) as site:
        done = run(*arguments, url=site.url, stdin="Привет\n".encode())
    assert done.stdout.decode() == "echo Привет\n"


def test_ask_streams_into_a_pipe() -> None:
    """The first chunk can be read from a pipe before the site has sent the second."""
    with (
        FakeSite([Answer("first", " second", gap=5 * SHORT)]) as site,
        subprocess.Popen(
            [*COMMAND, "ask", "Hi", "--base-url", site.url], stdout=subprocess.PIPE
        ) as process,
    ):
        assert process.stdout is not None
        assert os.read(process.stdout.fileno(), 100) == b"first"
        assert process.poll() is None
        assert process.stdout.read() == b" second\n"
        assert process.wait(LONG) == 0


def test_ask_prints_json() -> None:
    """--json prints one object with the text, the number of attempts, the times and the site."""
    with FakeSite(["Привет"]) as site:
        done = run("ask", "--json", "Hi", url=site.url)
    result = json.loads(done.stdout)
    assert (result["text"], result["complete"], result["attempts"]) == ("Привет", True, 1)
    assert 0 <= result["time_to_first_chunk"] <= result["elapsed"]
    assert result["site"] == site.url


def test_ask_sends_the_system_prompt() -> None:
    """The text of --system is sent before the question."""
    with FakeSite([echo]) as site:
        done = run("ask", "--system", "Be brief.", "Hi", url=site.url)
    assert done.stdout == b"echo Be brief.\n\nHi\n"


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_an_incomplete_answer_is_a_failure(options: list[str]) -> None:
    """What arrived is printed, the error goes to standard error, and the exit code is 1."""
    with FakeSite([Answer("half", end="cut")]) as site:
        done = run("ask", *options, "Hi", url=site.url)
    assert done.returncode == 1
    assert b"half" in done.stdout
    assert done.stderr.startswith(b"aichatfree: The connection to 127.0.0.1")
    assert done.stderr.count(b"\n") == 1
    if options:
        result = json.loads(done.stdout)
        assert (result["complete"], result["error"]["type"]) == (False, "StreamInterruptedError")


def test_retries_are_shown_on_a_terminal_only() -> None:
    """A terminal shows why a request is retried; a pipe gets the answer alone."""
    with FakeSite([Answer(status=503, body=""), Answer("fine")] * 2) as site:
        with terminal("ask", "Hi", url=site.url) as session:
            session.wait_for("attempt 1 failed (503)")
            session.wait_for("fine")
        assert run("ask", "Hi", url=site.url).stderr == b""


def test_piped_text_and_the_prompt_are_joined() -> None:
    """Text that is piped in comes before the prompt of the command line, after an empty line."""
    with FakeSite("Hello") as site:
        done = run("ask", "Summarize this.", url=site.url, stdin=b"The Nile is long.\n")
        assert (done.returncode, done.stdout) == (0, b"Hello\n")
        assert site.requests[0].text == "The Nile is long.\n\nSummarize this."
