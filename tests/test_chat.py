"""Conversations: which turns are kept, and how they are sent and saved."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aichatfree import Chat, StreamInterruptedError
from aichatfree.testing import Answer, FakeSite
from helpers import HANG, UNREACHABLE, ClientFor, echo


def test_a_turn_is_added_to_the_history_once_complete(client_for: ClientFor) -> None:
    """Question and answer are added together, once, when the answer is complete."""
    with FakeSite([echo]) as site:
        chat = client_for(site.url).chat()
        assert chat.send("one").text == "echo one"
        stream = chat.stream("two")
        assert len(chat.messages) == 2
        assert list(stream) == list(stream)
        assert [m["content"] for m in chat.messages] == ["one", "echo one", "two", "echo two"]


def test_the_history_is_sent_with_each_question(client_for: ClientFor) -> None:
    """Each question is sent after the system prompt and all earlier turns."""
    with FakeSite([echo]) as site:
        chat = client_for(site.url, dialect="openai").chat("Be brief.")
        chat.send("one")
        chat.send("two")
        assert [m["role"] for m in site.requests[1].json["messages"]] == [
            "system",
            "user",
            "assistant",
            "user",
        ]
        assert [m["content"] for m in site.requests[1].json["messages"]] == [
            "Be brief.",
            "one",
            "echo one",
            "two",
        ]


@pytest.mark.parametrize(("on_partial", "kept"), [("drop", []), ("keep", ["Hi", "half"])])
@pytest.mark.parametrize("method", ["send", "stream"])
def test_on_partial_decides_about_incomplete_turns(
    client_for: ClientFor, on_partial: Any, kept: list[str], method: str
) -> None:
    """A turn whose answer is cut off is dropped or kept once, according to on_partial."""
    with FakeSite([Answer("half", end="cut")]) as site:
        chat = client_for(site.url, retry=None).chat(on_partial=on_partial)
        with pytest.raises(StreamInterruptedError):
            str(getattr(chat, method)("Hi").read() if method == "stream" else chat.send("Hi"))
        assert [m["content"] for m in chat.messages] == kept


def test_on_partial_applies_to_a_closed_stream(client_for: ClientFor) -> None:
    """With on_partial="keep", a turn is kept whose stream is closed before the end."""
    with FakeSite([Answer("half", " complete", gap=HANG), "next"]) as site:
        chat = client_for(site.url).chat(on_partial="keep")
        with chat.stream("Hi") as stream:
            next(stream)
        assert [m["content"] for m in chat.messages] == ["Hi", "half"]
        assert chat.send("Go on").text == "next"


def test_a_conversation_can_be_saved_as_json(client_for: ClientFor) -> None:
    """to_dict and from_dict restore a conversation through JSON, without the client's secret."""
    with FakeSite([echo], secret="s3cret", verify=True) as site:
        client = client_for(site.url, secret="s3cret", system="Be brief.")
        chat = client.chat(on_partial="keep")
        chat.send("one")
        data = json.dumps(chat.to_dict())
        assert "s3cret" not in data
        again = Chat.from_dict(json.loads(data), client)
        assert again.to_dict() == chat.to_dict()
        again.send("two")
        assert len(again.messages) == 5
        assert len(chat.messages) == 3


@pytest.mark.parametrize("data", [{}, [], {"messages": "x"}, {"messages": [{"role": "user"}]}])
def test_from_dict_rejects_what_is_not_a_conversation(client_for: ClientFor, data: Any) -> None:
    """Data that to_dict cannot have returned is a ValueError of from_dict."""
    with pytest.raises(ValueError, match=r"conversation|content"):
        Chat.from_dict(data, client_for(UNREACHABLE))


@pytest.mark.parametrize("bad", ["", " "])
def test_an_empty_question_is_rejected_and_not_kept(client_for: ClientFor, bad: str) -> None:
    """An empty question is a ValueError and does not change the history."""
    chat = client_for(UNREACHABLE).chat()
    with pytest.raises(ValueError, match="empty"):
        chat.send(bad)
    assert chat.messages == []


def test_bad_options_are_rejected(client_for: ClientFor) -> None:
    """A misspelled option, an unknown choice or a question of a wrong type is an error."""
    client = client_for(UNREACHABLE)
    with pytest.raises(TypeError, match="temprature"):
        client.chat().send("Hi", temprature=1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="on_partial"):
        client.chat(on_partial="maybe")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="str"):
        client.chat().send(3)  # type: ignore[arg-type]
