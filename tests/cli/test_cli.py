from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aichatfree._output.terminal import without_control
from aichatfree.testing import Answer, FakeSite, Request
from helpers import COMMAND, run, terminal


def echo(request: Request) -> str:
    return f"echo {request.text}"


def test_ask_prints_the_answer_and_nothing_else() -> None:
    """The answer goes to standard output, with a newline at its end, and the exit code is 0."""
    with FakeSite([Answer("Hi", " there")]) as site:
        done = run("ask", "Hello", url=site.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"Hi there\n", b"")


@pytest.mark.parametrize("arguments", [["ask"], ["ask", "-"]])
def test_ask_reads_standard_input(arguments: list[str]) -> None:
    """A prompt can be piped in, as UTF-8."""
    with FakeSite([echo]) as site:
        done = run(*arguments, url=site.url, stdin="Привет\n".encode())
    assert done.stdout.decode() == "echo Привет\n"


def test_ask_streams_into_a_pipe() -> None:
    """The first chunk is in the pipe while the site is still writing."""
    with FakeSite([Answer("first", " second", gap=2)]) as site:
        process = subprocess.Popen(
            [*COMMAND, "ask", "Hi", "--base-url", site.url], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert os.read(process.stdout.fileno(), 100) == b"first"
        assert process.poll() is None
        assert process.stdout.read() == b" second\n"
        assert process.wait(10) == 0
        process.stdout.close()


def test_ask_gives_json() -> None:
    """--json prints one object with the text and the figures."""
    with FakeSite(["Привет"]) as site:
        done = run("ask", "--json", "Hi", url=site.url)
    result = json.loads(done.stdout)
    assert (result["text"], result["complete"], result["attempts"]) == ("Привет", True, 1)
    assert 0 <= result["time_to_first_chunk"] <= result["elapsed"]


def test_ask_passes_the_system_prompt() -> None:
    """--system goes out with the question."""
    with FakeSite([echo]) as site:
        done = run("ask", "--system", "Be brief.", "Hi", url=site.url)
    assert done.stdout == b"echo Be brief.\n\nHi\n"


@pytest.mark.parametrize("arguments", [["ask", "Hi"], ["ask", "--json", "Hi"]])
def test_a_broken_answer_is_a_failure(arguments: list[str]) -> None:
    """What arrived is printed, what happened goes to standard error, and the exit code is 1."""
    with FakeSite([Answer("half", end="cut")]) as site:
        done = run(*arguments, url=site.url)
    assert done.returncode == 1
    assert b"half" in done.stdout
    assert b"not whole" in done.stderr
    assert b"Traceback" not in done.stderr
    if "--json" in arguments:
        result = json.loads(done.stdout)
        assert (result["complete"], result["error"]["type"]) == (False, "StreamInterruptedError")


BAD_USAGE = {
    "empty prompt": (["ask", ""], b"", b"empty"),
    "empty input": (["ask"], b"\n", b"empty"),
    "not UTF-8": (["ask"], b"caf\xe9", b"UTF-8"),
    "no scheme": (["ask", "--base-url", "x", "Hi"], b"", b"https://"),
    "unknown dialect": (["ask", "--dialect", "x", "Hi"], b"", b"gemini"),
    "negative time": (["ask", "--timeout", "-1", "Hi"], b"", b"total"),
    "two sites": (["ask", "--local", "--base-url", "http://x", "Hi"], b"", b"exclude"),
    "unknown command": (["aks"], b"", b"aks"),
    "model without upstream": (["serve", "--model", "x"], b"", b"--upstream"),
    "open to the network": (["serve", "--host", "0.0.0.0"], b"", b"secret"),
}


@pytest.mark.parametrize("kind", BAD_USAGE)
def test_wrong_usage_is_exit_code_2(kind: str) -> None:
    """A mistake is named, without a traceback, before anything is sent."""
    arguments, stdin, words = BAD_USAGE[kind]
    with FakeSite("Hello") as site:
        url = None if "--base-url" in arguments else site.url
        done = run(*arguments, url=url, stdin=stdin)
        assert site.requests == []
    assert done.returncode == 2
    assert words in done.stderr
    assert b"Traceback" not in done.stderr


def test_ctrl_c_is_exit_code_130() -> None:
    """An interrupted command keeps what was printed and says nothing more."""
    with FakeSite([Answer("half", " whole", gap=30)]) as site:
        with terminal("ask", "Hi", url=site.url) as session:
            session.wait_for("half")
            session.interrupt()
            assert session.finish() == 130
        assert site.requests[0].disconnected.wait(2)


def test_a_reader_that_leaves_is_no_traceback() -> None:
    """`aichatfree ask | head -1` ends quietly."""
    with FakeSite([Answer(*["line\n"] * 50, gap=0.02)]) as site:
        done = subprocess.run(
            f"{sys.executable} -m aichatfree ask Hi --base-url {site.url} | head -1",
            shell=True,
            capture_output=True,
            timeout=60,
        )
    assert done.stdout == b"line\n"
    assert done.stderr == b""


EVIL = "\x1b]0;owned\x07\x1b[2Jred\r\x9b31m\u202etxt"


def test_control_characters_do_not_reach_a_terminal() -> None:
    """What steers a terminal is made visible there, and left as it is in a pipe."""
    with FakeSite([Answer(EVIL)]) as site:
        with terminal("ask", "Hi", url=site.url) as session:
            session.wait_for("txt")
            session.finish()
            session.wait_for("\n")
        assert run("ask", "Hi", url=site.url).stdout.decode() == EVIL + "\n"
    shown = without_control(EVIL)
    assert not any(c in shown for c in "\x1b\x07\r\x9b\u202e")
    assert without_control("a\tb\nПривет 👋🏽 שלום") == "a\tb\nПривет 👋🏽 שלום"


def test_an_error_of_a_site_cannot_steer_a_terminal() -> None:
    """Words of an error reply are cleaned like an answer."""
    with FakeSite([Answer(status=400, body=EVIL)]) as site:
        done = run("ask", "Hi", url=site.url)
    assert done.returncode == 1
    assert b"\x1b" not in done.stderr


def test_chat_keeps_the_conversation() -> None:
    """Lines piped in are turns of one conversation."""
    with FakeSite([echo]) as site:
        done = run("chat", url=site.url, stdin=b"one\n\ntwo\n")
        assert done.stdout == b"echo one\necho two\n"
        assert [len(r.json["messages"]) for r in site.requests] == [1, 3]
    assert done.returncode == 0


def test_ctrl_c_in_chat_stops_the_answer_only() -> None:
    """The conversation goes on after it, with what had arrived in its history."""
    slow = Answer("half of it", " and the rest", gap=30)
    with FakeSite([slow, "second answer", "third answer"]) as site:
        with terminal("chat", url=site.url) as session:
            session.wait_for("> ")
            session.type("one\n")
            session.wait_for("half of it")
            session.interrupt()
            session.wait_for("> ")
            session.type("two\n")
            session.wait_for("second answer")
            session.wait_for("> ")
            time.sleep(0.5)  # readline shows its prompt before it listens for signals
            session.interrupt()
            session.wait_for("> ")
            session.type("three\n")
            session.wait_for("third answer")
            session.wait_for("> ")
            session.type("\x04")
            assert session.finish() == 0
        texts = [m["parts"][0]["text"] for m in site.requests[1].json["messages"]]
        assert texts == ["one", "half of it", "two"]


def test_an_error_in_chat_does_not_end_it() -> None:
    """A failed turn is told, and the next one is asked."""
    with (
        FakeSite([Answer(status=400, body="no"), "second answer"]) as site,
        terminal("chat", url=site.url) as session,
    ):
        session.wait_for("> ")
        session.type("one\n")
        session.wait_for("400")
        session.wait_for("> ")
        session.type("two\n")
        session.wait_for("second answer")


def test_check_lists_what_is_right_and_what_to_change() -> None:
    """One line for each thing, exit code 0 or 1."""
    with FakeSite("Hello", verify=True, secret="s") as site:
        right = run("check", url=site.url, SECRET="s")
        wrong = run("check", "--base-url", site.url, SECRET="x")
    assert right.returncode == 0
    assert right.stdout.count(b"\n") == 5
    assert wrong.returncode == 1
    assert b"WRONG signature" in wrong.stdout
    assert b"AICHATFREE_SECRET" in wrong.stdout


def test_retries_are_told_on_a_terminal_only() -> None:
    """Who waits sees why; a pipe stays clean."""
    with FakeSite([Answer(status=503, body=""), Answer("fine")] * 2) as site:
        with terminal("ask", "Hi", url=site.url) as session:
            session.wait_for("OverloadedError")
            session.wait_for("fine")
        assert run("ask", "Hi", url=site.url).stderr == b""


def test_the_version_is_the_packages() -> None:
    """--version tells which one is installed."""
    import aichatfree

    assert aichatfree.__version__ in run("--version").stdout.decode()


@pytest.mark.parametrize("closed", ["2>&-", "<&-", ">&-"])
def test_a_closed_stream_is_no_reason_to_fail(closed: str) -> None:
    """Daemons start programs without standard streams; those that are there work."""
    with FakeSite("Hello") as site:
        done = subprocess.run(
            f"{sys.executable} -m aichatfree ask Hi --base-url {site.url} {closed}",
            shell=True,
            capture_output=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (b"" if closed == ">&-" else b"Hello\n")


def test_a_full_disk_is_one_line() -> None:
    """What cannot be written is told without a traceback."""
    with FakeSite("Hello") as site:
        done = subprocess.run(
            f"{sys.executable} -m aichatfree ask Hi --base-url {site.url} > /dev/full",
            shell=True,
            capture_output=True,
            timeout=60,
        )
    assert done.returncode == 1
    assert b"No space left" in done.stderr
    assert b"Traceback" not in done.stderr


def test_batch_reads_and_writes_pipes() -> None:
    """Lines in, JSON lines out in order, a summary on standard error, exit code 1 for failures."""

    def answer(request: Request) -> Answer:
        if request.text == "two":
            return Answer(status=400, body="no such thing")
        return Answer(echo(request))

    with FakeSite([answer]) as site:
        done = run("batch", url=site.url, stdin="one\n\ntwo\nПривет\n".encode())
        rows = [json.loads(line) for line in done.stdout.decode().splitlines()]
        again = run("batch", url=site.url, stdin=b'{"custom_id": "a", "prompt": "one"}\n')
    assert [row.get("text") for row in rows] == ["echo one", None, "echo Привет"]
    assert rows[1]["error"]["type"] == "BadRequestError"
    assert done.returncode == 1
    assert b"2 answered, 1 failed" in done.stderr
    assert b"no such thing" in done.stderr
    assert (again.returncode, json.loads(again.stdout)["custom_id"]) == (0, "a")


def test_batch_shows_a_bar_on_a_terminal_only(tmp_path: Path) -> None:
    """Done, failed and the rate are drawn where somebody watches, and nothing else is."""
    (tmp_path / "p.txt").write_text("one\ntwo\n")
    command = ["batch", str(tmp_path / "p.txt"), "-o", str(tmp_path / "a.jsonl")]
    with FakeSite([echo]) as site:
        with terminal(*command, url=site.url) as session:
            session.wait_for("2/2")
            session.wait_for("2 answered")
            assert session.finish() == 0
        quiet = run(*command, url=site.url)
    assert quiet.stdout == b""
    assert quiet.stderr.startswith(b"0 answered, 0 failed, 2 reused")


@pytest.mark.parametrize("columns", [40, 80])
def test_the_bar_fits_on_the_terminal(columns: int, tmp_path: Path) -> None:
    """No count is cut off, and ^C has room behind it."""
    (tmp_path / "p.txt").write_text("one\ntwo\n")
    command = ["batch", str(tmp_path / "p.txt"), "-o", str(tmp_path / "a.jsonl")]
    with (
        FakeSite(Answer(status=400, body="no")) as site,
        terminal(*command, url=site.url, columns=columns) as session,
    ):
        drawn = session.wait_for("failed=2]")
        assert session.finish() == 1
    assert "2/2" in drawn
    assert max(map(len, re.split("[\r\n]", f"{drawn}failed=2]"))) <= columns - len("^C")


def test_answers_on_a_terminal_have_lines_of_their_own(tmp_path: Path) -> None:
    """No bar gets between them."""
    (tmp_path / "p.txt").write_text("one\ntwo\n")
    with (
        FakeSite([echo]) as site,
        terminal("batch", str(tmp_path / "p.txt"), url=site.url) as session,
    ):
        answers = session.wait_for("2 answered").splitlines()
        assert session.finish() == 0
    assert [json.loads(line)["text"] for line in answers] == ["echo one", "echo two"]


BATCH_OPTIONS = {
    "--column": (["--column", "q"], 0),
    "--rpm": (["--column", "q", "--rpm", "6000"], 0),
    "--max-errors": (["--column", "q", "--max-errors", "0"], 0),
    "a missing column": ([], 2),
    "no workers": (["--column", "q", "--workers", "0"], 2),
    "a limit that is none": (["--column", "q", "--rpm", "0"], 2),
    "a folder that is not there": (["--column", "q", "-o", "no/such/folder.jsonl"], 2),
}


@pytest.mark.parametrize("kind", BATCH_OPTIONS)
def test_batch_options(kind: str, tmp_path: Path) -> None:
    """Each option does what it says, or is refused with exit code 2 before anything is sent."""
    arguments, code = BATCH_OPTIONS[kind]
    (tmp_path / "p.csv").write_text("q\none\ntwo\n")
    with FakeSite([echo]) as site:
        done = run("batch", str(tmp_path / "p.csv"), *arguments, url=site.url)
        assert done.returncode == code, done.stderr
        assert len(site.requests) == (0 if code else 2)
    assert b"Traceback" not in done.stderr


def test_an_output_of_other_prompts_is_wrong_usage(tmp_path: Path) -> None:
    """What has changed is told in one line."""
    prompts, output = tmp_path / "p.txt", str(tmp_path / "a.jsonl")
    with FakeSite([echo]) as site:
        prompts.write_text("one\n")
        assert run("batch", str(prompts), "-o", output, url=site.url).returncode == 0
        prompts.write_text("other\n")
        done = run("batch", str(prompts), "-o", output, url=site.url)
        assert (done.returncode, len(site.requests)) == (2, 1)
    assert b"input has changed" in done.stderr
    assert b"Traceback" not in done.stderr
