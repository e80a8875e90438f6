"""``aichatfree chat``: conversations on a terminal and in a pipe."""

from __future__ import annotations

import time

from aichatfree.testing import Answer, FakeSite
from helpers import HANG, SHORT, echo, run, terminal


def test_piped_lines_are_one_conversation() -> None:
    """Each line that is piped in is a question, sent with the earlier ones and their answers."""
    with FakeSite([echo]) as site:
        done = run("chat", url=site.url, stdin=b"one\n\ntwo\n")
        assert done.stdout == b"echo one\necho two\n"
        assert [len(r.json["messages"]) for r in site.requests] == [1, 3]
    assert done.returncode == 0


def test_ctrl_c_stops_only_the_answer() -> None:
    """Ctrl-C ends an answer and keeps its text in the history; at the prompt it does nothing."""
    slow = Answer("half of it", " and the rest", gap=HANG)
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
            time.sleep(2 * SHORT)  # readline shows its prompt before it handles signals
            session.interrupt()
            session.wait_for("> ")
            session.type("three\n")
            session.wait_for("third answer")
            session.wait_for("> ")
            session.type("\x04")
            assert session.finish() == 0
        texts = [m["parts"][0]["text"] for m in site.requests[1].json["messages"]]
        assert texts == ["one", "half of it", "two"]


def test_an_error_does_not_end_the_conversation() -> None:
    """After an error, which is shown, the next question can be asked."""
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
