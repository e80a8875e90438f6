"""``aichatfree chat`` on a terminal: questions of several lines, commands, and how it ends."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aichatfree import Chat, Client
from aichatfree.testing import Answer, FakeSite, Request
from helpers import HANG, SHORT, Terminal, terminal

#: A terminal that marks where pasted text begins and ends, as readline knows (bracketed paste).
WITH_PASTE = {"TERM": "xterm"}
BEGIN_PASTE, END_PASTE = "\x1b[200~", "\x1b[201~"
CTRL_D = "\x04"


def messages_of(request: Request) -> list[str]:
    return [message["content"] for message in request.json["messages"]]


def echo_last(request: Request) -> str:
    """Answers with the last message only, however long the conversation is."""
    return f"echo {messages_of(request)[-1]}"


@contextmanager
def chat(site: FakeSite, *options: str, **settings: Any) -> Iterator[Terminal]:
    """The command at its first prompt."""
    arguments = ["chat", "--dialect", "openai", *options]
    with terminal(*arguments, url=site.url, **settings) as session:
        session.wait_for("> ")
        yield session


def ask(session: Terminal, line: str, answer: str) -> None:
    """Type a line, and wait for the answer and for the next prompt."""
    session.type(f"{line}\n")
    session.wait_for(f"\n{answer}")
    session.wait_for("> ")


def test_pasted_lines_are_one_question() -> None:
    """Lines that are pasted are one question, sent when the user presses Enter."""
    with FakeSite([echo_last]) as site, chat(site, environment=WITH_PASTE) as session:
        ask(session, f"{BEGIN_PASTE}one\ntwo{END_PASTE}", "echo one")
        assert [messages_of(request) for request in site.requests] == [["one\ntwo"]]


@pytest.mark.parametrize(
    ("lines", "question"),
    [
        (['"""', "one", "", "two", '"""'], "one\n\ntwo"),
        (['"""one', 'two"""'], "one\ntwo"),
        (['"""one"""'], "one"),
    ],
)
def test_marks_enclose_a_question_of_several_lines(lines: list[str], question: str) -> None:
    """What is typed between two marks of three quotes is one question, without the marks."""
    with FakeSite([echo_last]) as site, chat(site) as session:
        for line in lines[:-1]:
            session.type(f"{line}\n")
            session.wait_for("... ")
        ask(session, lines[-1], "echo one")
        assert messages_of(site.requests[0]) == [question]


@pytest.mark.parametrize("word", ["exit", "quit", "/exit", "/quit", CTRL_D])
def test_leaving(word: str) -> None:
    """These words, and Ctrl-D, end the conversation with exit code 0; nothing is sent."""
    with FakeSite([echo_last]) as site:
        with chat(site) as session:
            session.type(word if word == CTRL_D else f"{word}\n")
            assert session.finish() == 0
        assert site.requests == []


def test_ctrl_d_during_an_answer_ends_the_conversation_after_it() -> None:
    """A Ctrl-D that is typed while an answer arrives ends the conversation once it is complete."""
    with (
        FakeSite([Answer("first half", " second half", gap=5 * SHORT)]) as site,
        chat(site) as session,
    ):
        session.type("one\n")
        session.wait_for("first half")
        session.type(CTRL_D)
        session.wait_for("second half")
        assert session.finish() == 0


def test_help_lists_the_commands_within_the_width_of_the_terminal() -> None:
    """/help explains each command in lines that are not wider than the terminal."""
    width = {"COLUMNS": ""}  # if it is set, it overrides the terminal
    with FakeSite([echo_last]) as site, chat(site, columns=40, environment=width) as session:
        session.type("/help\n")
        shown = session.wait_for("> ").splitlines()
    for command in ("/help", "/clear", "/save", "/system", "/retry", "exit"):
        assert any(line.startswith(command) for line in shown)
    assert max(map(len, shown)) <= 40


def test_clear_forgets_the_conversation() -> None:
    """After /clear nothing but the system prompt is sent with the next question."""
    with FakeSite([echo_last]) as site, chat(site, "--system", "Brief.") as session:
        ask(session, "one", "echo one")
        ask(session, "/clear", "The conversation is empty")
        ask(session, "two", "echo two")
        assert messages_of(site.requests[1]) == ["Brief.", "two"]


def test_the_system_prompt_can_be_changed() -> None:
    """/system sets, replaces and removes the system prompt and keeps the conversation."""
    with FakeSite([echo_last]) as site, chat(site) as session:
        for number, line in enumerate(["/system First.", "/system Second one.", "/system"]):
            ask(session, line, "The" if number < 2 else "There")
            ask(session, str(number), f"echo {number}")
        assert [messages_of(request)[0] for request in site.requests] == [
            *("First.", "Second one.", "0"),
        ]
        assert messages_of(site.requests[2]) == ["0", "echo 0", "1", "echo 1", "2"]


def test_retry_asks_the_last_question_again() -> None:
    """/retry asks the last question again and puts the new answer in the place of the old one."""
    with FakeSite(["first", "second", "third"]) as site, chat(site) as session:
        ask(session, "/retry", "Nothing has been asked")
        ask(session, "one", "first")
        ask(session, "/retry", "second")
        ask(session, "two", "third")
        asked = [messages_of(request) for request in site.requests]
    assert asked == [["one"], ["one"], ["one", "second", "two"]]


def test_a_retry_that_fails_keeps_the_earlier_answer() -> None:
    """If /retry gets no answer, the conversation continues with the one that was there."""
    with FakeSite(["first", Answer(status=400, body="no"), "third"]) as site, chat(site) as session:
        ask(session, "one", "first")
        ask(session, "/retry", "aichatfree:")
        ask(session, "two", "third")
        assert messages_of(site.requests[2]) == ["one", "first", "two"]


def test_ctrl_c_stops_a_retry() -> None:
    """Ctrl-C during /retry stops the answer, keeps what has arrived, and shows the prompt."""
    slow = Answer("half of it", " and the rest", gap=HANG)
    with FakeSite(["first", slow, "third"]) as site, chat(site) as session:
        ask(session, "one", "first")
        session.type("/retry\n")
        session.wait_for("half of it")
        session.interrupt()
        session.wait_for("> ")
        ask(session, "two", "third")
        assert messages_of(site.requests[2]) == ["one", "half of it", "two"]


def test_a_conversation_can_be_saved(tmp_path: Path) -> None:
    """/save writes the conversation as JSON for ``Chat.from_dict``; it can be saved again."""
    path = tmp_path / "my talk.json"
    with FakeSite([echo_last]) as site, chat(site, "--system", "Brief.") as session:
        ask(session, f"/save {path}", "1 messages")
        ask(session, "one", "echo one")
        ask(session, f"/save {path}", "3 messages")
        with Client(site.url, dialect="openai") as client:
            saved = Chat.from_dict(json.loads(path.read_text(encoding="utf-8")), client)
    assert [message["content"] for message in saved.messages] == ["Brief.", "one", "echo one"]


def test_saving_replaces_no_other_file(tmp_path: Path) -> None:
    """/save refuses a file that exists, and a directory that does not; both are only reported."""
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with FakeSite([echo_last]) as site, chat(site) as session:
        ask(session, f"/save {path}", f"{path} exists")
        ask(session, f"/save {tmp_path / 'missing' / 'file'}", "aichatfree:")
        ask(session, "/save", "Name a file")
        ask(session, "one", "echo one")
    assert path.read_text() == "mine"


def test_an_unknown_command_is_not_sent() -> None:
    """A word after a slash that is no command is reported; after a space it is a question."""
    with FakeSite([echo_last]) as site, chat(site) as session:
        ask(session, "/retyr", "/retyr is not a command")
        ask(session, " /retyr", "echo  /retyr")
        ask(session, "/etc/hosts is empty", "echo /etc/hosts")
        assert [messages_of(request)[-1] for request in site.requests] == [
            *(" /retyr", "/etc/hosts is empty"),
        ]


def test_a_python_without_readline_has_the_prompt_too() -> None:
    """If readline cannot be imported, questions can be asked and Ctrl-D ends the conversation."""
    code = (
        "import sys; sys.modules['readline'] = None; from aichatfree.__main__ import main; main()"
    )
    command = [sys.executable, "-c", code]
    with FakeSite([echo_last]) as site, chat(site, command=command) as session:
        ask(session, "one", "echo one")
        session.type(CTRL_D)
        assert session.finish() == 0
