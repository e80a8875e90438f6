"""The questions of earlier conversations, which ``aichatfree chat`` brings back by arrow keys."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

import pytest

from aichatfree._cli.chat_history import MAX_LENGTH, MAX_QUESTIONS, History, open_history
from aichatfree.testing import FakeSite
from helpers import Terminal, terminal

UP = "\x1b[A"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the history in a directory for state that is empty so far."""
    monkeypatch.delenv("AICHATFREE_NO_HISTORY")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "aichatfree" / "chat_history.jsonl"


def type_and_leave(session: Terminal, *lines: str) -> None:
    """Type each line after the prompt, wait for its answer, and end the session."""
    for line in lines:
        session.wait_for("> ")
        session.type(f"{line}\n")
        session.wait_for("fine")
    session.wait_for("> ")
    session.type("exit\n")
    session.finish()


def converse(
    *lines: str,
    options: tuple[str, ...] = (),
    environment: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """Type these lines in a new session; returns the questions that were sent."""
    environment = {"TERM": "xterm", **environment}
    with FakeSite("fine") as site:
        with terminal("chat", *options, url=site.url, environment=environment) as session:
            type_and_leave(session, *lines)
        return [request.json["messages"][-1]["parts"][0]["text"] for request in site.requests]


def test_the_next_session_has_the_questions(path: Path) -> None:
    """The up arrow brings back a question of an earlier session, with all of its lines."""
    converse("one", "\x1b[200~two\nthree\x1b[201~")
    # The last line of that session was "exit", and the last of this one is its first question.
    assert converse(3 * UP, 3 * UP) == ["one", "two\nthree"]


def test_only_the_owner_can_read_the_history(path: Path) -> None:
    """The file has the mode 600, even if it had another one before."""
    History(path).add("one")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    History(path).add("two")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert History(path).load() == ["one", "two"]


@pytest.mark.parametrize("variable", ["AICHATFREE_PASSWORD", "AICHATFREE_SECRET"])
def test_a_password_is_not_in_the_history(
    path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """A question with the password or the secret of the environment in it is not kept."""
    monkeypatch.setenv(variable, "s3cret!")
    History(path).add("what is s3cret! for?")
    History(path).add("one")
    assert History(path).load() == ["one"]


@pytest.mark.parametrize("how", ["--sites", "AICHATFREE_SITES", "aichatfree.toml"])
def test_a_password_of_a_file_of_sites_is_not_in_the_history(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A question with a password in it is not kept, whatever its variable is called."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINE", "s3cret!")
    file = tmp_path / "aichatfree.toml"
    if how == "AICHATFREE_SITES":
        monkeypatch.setenv(how, str(file))
    with FakeSite("fine") as site:
        file.write_text(f'[[site]]\nbase_url = "{site.url}"\npassword_env = "MINE"\n')
        options = [how, str(file)] if how == "--sites" else []
        with terminal("chat", *options, url="") as session:
            type_and_leave(session, "what is s3cret! for?", "one")
    assert History(path).load() == ["one", "exit"]


def test_the_file_of_sites_may_be_a_pipe(path: Path, tmp_path: Path) -> None:
    """A conversation that keeps a history reads the file of sites once, so a pipe will do."""
    file = tmp_path / "sites.toml"
    os.mkfifo(file)
    with (
        FakeSite("fine") as site,
        ThreadPoolExecutor(1) as thread,
        terminal("chat", "--sites", str(file), url="") as session,
    ):
        thread.submit(file.write_text, f'[[site]]\nbase_url = "{site.url}"\n')
        type_and_leave(session, "one")
    assert History(path).load() == ["one", "exit"]


@pytest.mark.parametrize("how", ["option", "variable"])
def test_the_history_can_be_left_out(path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """--no-history, or AICHATFREE_NO_HISTORY, leaves no file behind."""
    if how == "variable":
        monkeypatch.setenv("AICHATFREE_NO_HISTORY", "1")
    converse("one", options=("--no-history",) if how == "option" else ())
    assert not path.exists()


def test_the_history_does_not_grow_without_limit(path: Path) -> None:
    """Long questions are not kept, and a long file is shortened to its last questions."""
    History(path).add("a" * (MAX_LENGTH + 1))
    assert not path.exists()
    for number in range(2 * MAX_QUESTIONS + 1):
        History(path).add(str(number))
    last = [str(number) for number in range(MAX_QUESTIONS + 1, 2 * MAX_QUESTIONS + 1)]
    assert History(path).load() == last
    assert len(path.read_text().splitlines()) == MAX_QUESTIONS
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_damaged_history_loses_only_its_damaged_lines(path: Path) -> None:
    """Lines that are no questions are ignored."""
    History(path).add("one")
    with path.open("ab") as file:
        file.write(b'{"half\n\xff\xfe\n[1]\n' + json.dumps("a\0b").encode() + b"\n")
    History(path).add("two")
    assert History(path).load() == ["one", "two"]


def test_a_history_that_cannot_be_written_is_no_failure(path: Path) -> None:
    """If there is a file in the place of the directory, the conversation goes on without."""
    path.parent.write_text("not a directory")
    assert converse("one") == ["one"]


def test_a_history_in_another_encoding_is_no_failure(path: Path) -> None:
    """Questions that the terminal's encoding does not have are left out."""
    History(path).add("один")
    History(path).add("one")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert converse(2 * UP, environment=ascii_only) == ["one"]


def test_a_user_without_a_home_has_no_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that is not absolute is not used: it would depend on where the command runs."""
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    monkeypatch.setenv("HOME", "home")
    assert open_history() is None
