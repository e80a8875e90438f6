from __future__ import annotations

import json
from typing import Any

import pytest

from aichatfree import Chat, StreamInterruptedError
from aichatfree.testing import Answer, FakeSite, Request
from helpers import ClientFor


def echo(request: Request) -> str:
    return f"echo {request.text}"


def test_a_turn_enters_the_history_once_when_it_is_complete(client_for: ClientFor) -> None:
    """Question and answer are added together, whether sent or streamed, replayed or not."""
    with FakeSite([echo]) as site:
        chat = client_for(site.url).chat()
        assert chat.send("one").text == "echo one"
        stream = chat.stream("two")
        assert len(chat.messages) == 2
        assert list(stream) == list(stream)
        assert [m["content"] for m in chat.messages] == ["one", "echo one", "two", "echo two"]


def test_the_history_is_sent_with_each_question(client_for: ClientFor) -> None:
    """The site gets all turns, the system prompt first."""
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
def test_a_broken_turn_is_kept_or_dropped_as_asked(
    client_for: ClientFor, on_partial: Any, kept: list[str], method: str
) -> None:
    """on_partial decides, and what is kept is kept once."""
    with FakeSite([Answer("half", end="cut")]) as site:
        chat = client_for(site.url, retry=None).chat(on_partial=on_partial)
        with pytest.raises(StreamInterruptedError):
            str(getattr(chat, method)("Hi").read() if method == "stream" else chat.send("Hi"))
        assert [m["content"] for m in chat.messages] == kept


def test_a_closed_turn_is_kept_if_asked(client_for: ClientFor) -> None:
    """Leaving a stream early is a broken turn too."""
    with FakeSite([Answer("half", " whole", gap=30), "next"]) as site:
        chat = client_for(site.url).chat(on_partial="keep")
        with chat.stream("Hi") as stream:
            next(stream)
        assert [m["content"] for m in chat.messages] == ["Hi", "half"]
        assert chat.send("Go on").text == "next"


def test_a_conversation_goes_through_json(client_for: ClientFor) -> None:
    """to_dict and from_dict carry a conversation, and no setting of the client."""
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
def test_what_is_no_conversation_is_refused(client_for: ClientFor, data: Any) -> None:
    """from_dict checks what it is given."""
    with pytest.raises(ValueError, match=r"conversation|content"):
        Chat.from_dict(data, client_for("http://127.0.0.1:1"))


@pytest.mark.parametrize("bad", ["", " "])
def test_an_empty_question_is_refused_and_not_kept(client_for: ClientFor, bad: str) -> None:
    """Bad input changes nothing."""
    chat = client_for("http://127.0.0.1:1").chat()
    with pytest.raises(ValueError, match="empty"):
        chat.send(bad)
    assert chat.messages == []


def test_bad_options_are_refused(client_for: ClientFor) -> None:
    """Misspelled options and unknown choices are errors at once."""
    client = client_for("http://127.0.0.1:1")
    with pytest.raises(TypeError, match="temprature"):
        client.chat().send("Hi", temprature=1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="on_partial"):
        client.chat(on_partial="maybe")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="str"):
        client.chat().send(3)  # type: ignore[arg-type]
