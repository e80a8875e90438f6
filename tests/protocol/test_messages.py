"""A user's prompt becomes checked messages; lone surrogates are replaced."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichatfree import GEMINI, OPENAI, Dialect, Message
from aichatfree._protocol.messages import Prompt, check_messages, replace_surrogates
from aichatfree._protocol.prompts import messages_from

from .bodies import assistant, steady, system, user

# --- surrogates -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\ud83d\ude42", "🙂"),
        ("\ud83d", "\ufffd"),
        ("\ude42.", "\ufffd."),
        ("\ude42\ud83d", "\ufffd\ufffd"),
        ("\ud83d\ud83d\ude42", "\ufffd🙂"),
        ("a\ud83d\ude42\ude42z", "a🙂\ufffdz"),
        ("\ud83d é", "\ufffd é"),
    ],
)
def test_surrogates_as_in_javascript(text: str, expected: str) -> None:
    """A surrogate pair is joined to one character, and each lone surrogate becomes U+FFFD."""
    assert replace_surrogates(text) == expected


@steady
@given(st.text("aé🙂e\u0301\u212b\ufb01\r\n ", max_size=20) | st.text(max_size=20))
def test_valid_text_is_not_changed(text: str) -> None:
    """Replacing surrogates does not change a text that can be encoded as UTF-8."""
    assert replace_surrogates(text) == text


@steady
@given(st.text(st.characters(categories=["Cs", "L", "So"]), max_size=12))
def test_any_text_becomes_encodable(text: str) -> None:
    """With surrogates replaced, any text can be encoded; replacing again changes nothing."""
    clean = replace_surrogates(text)
    clean.encode("utf-8")
    assert replace_surrogates(clean) == clean


# --- messages ---------------------------------------------------------------------------------


def test_prompt_as_text() -> None:
    """A prompt that is a str becomes one user message with the text unchanged."""
    assert messages_from("  Hi\n", None, GEMINI) == [user("  Hi\n")]


@pytest.mark.parametrize("dialect", [GEMINI, OPENAI], ids=lambda d: d.name)
def test_prompt_with_system(dialect: Dialect) -> None:
    """The system prompt comes first, before any system message in the list."""
    assert messages_from([system("t"), user("a")], "s", dialect) == [
        system("s"),
        system("t"),
        user("a"),
    ]


def test_prompt_is_copied() -> None:
    """Changing the checked messages does not change the caller's list."""
    mine = [user("a")]
    messages_from(mine, "s", GEMINI)[-1]["content"] = "changed"
    assert mine == [user("a")]


def test_prompt_drops_unknown_keys() -> None:
    """Keys of a message other than role and content, such as an id, are not sent."""
    prompt = [{"role": "user", "content": "a", "id": 7}]
    assert messages_from(prompt, None, GEMINI) == [user("a")]


def test_prompt_surrogates() -> None:
    """A lone surrogate in any message, also a system prompt, becomes U+FFFD."""
    prompt = [system("\ud800"), user("\udfff")]
    assert messages_from(prompt, "\ud801", OPENAI) == [
        system("\ufffd"),
        system("\ufffd"),
        user("\ufffd"),
    ]


def test_openai_may_end_with_the_assistant() -> None:
    """The openai dialect accepts a conversation whose last message is from the assistant."""
    prompt = [user("a"), assistant("The answer is")]
    assert messages_from(prompt, None, OPENAI) == prompt


@pytest.mark.parametrize("prompt", ["", " \n\t", "\u3000", [user("")], [user("a"), user(" ")]])
def test_empty_prompt(prompt: Prompt) -> None:
    """A prompt or a last message that is empty or only white space is a ValueError."""
    with pytest.raises(ValueError, match="prompt is empty"):
        messages_from(prompt, "system", GEMINI)


@pytest.mark.parametrize("system_prompt", [None, "Be brief."])
def test_no_messages(system_prompt: str | None) -> None:
    """An empty list of messages is a ValueError, also with a system prompt."""
    with pytest.raises(ValueError, match="no messages"):
        messages_from([], system_prompt, OPENAI)


@pytest.mark.parametrize("role", ["model", "User", "tool", "", None, 1, ["user"]])
def test_unknown_role(role: object) -> None:
    """An unknown role is a ValueError whose message names the three roles."""
    with pytest.raises(ValueError, match=r"unknown role .*'system', 'user', 'assistant'"):
        messages_from([{"role": role, "content": "a"}], None, OPENAI)


@pytest.mark.parametrize(
    ("last", "dialect"),
    [(assistant("b"), GEMINI), (system("s"), GEMINI), (system("s"), OPENAI)],
)
def test_wrong_last_message(last: Message, dialect: Dialect) -> None:
    """A conversation is a ValueError if the server cannot answer its last message."""
    with pytest.raises(ValueError, match=f"last message is from '{last['role']}'"):
        messages_from([user("a"), last], None, dialect)


@pytest.mark.parametrize("content", [None, 1, b"bytes", ["a"], {"text": "a"}])
def test_content_not_text(content: object) -> None:
    """Content that is not a str is a TypeError that names the message by its number from 1."""
    with pytest.raises(TypeError, match="content of message 2 must be a str, not "):
        messages_from([user("a"), {"role": "user", "content": content}], None, OPENAI)


@pytest.mark.parametrize("prompt", [b"Hi", bytearray(b"Hi")])
def test_prompt_of_bytes(prompt: Any) -> None:
    """A prompt of bytes is a TypeError that advises to decode it."""
    with pytest.raises(TypeError, match="decode it first"):
        messages_from(prompt, None, GEMINI)


@pytest.mark.parametrize("prompt", [None, 5, {"role": "user", "content": "a"}, iter([user("a")])])
def test_prompt_of_another_type(prompt: Any) -> None:
    """A prompt that is neither a str nor a list, such as a single message, is a TypeError."""
    with pytest.raises(TypeError, match="a str or a list of messages"):
        messages_from(prompt, None, GEMINI)


def test_system_not_text() -> None:
    """A system prompt that is not a str is a TypeError that names the argument."""
    wrong: Any = b"Be brief."
    with pytest.raises(TypeError, match="system must be a str, not bytes"):
        messages_from("Hi", wrong, GEMINI)


@pytest.mark.parametrize("item", ["Hi", None, 3, ["user", "Hi"]])
def test_message_not_a_mapping(item: object) -> None:
    """A message that is not a mapping is a TypeError that names it by its number from 1."""
    with pytest.raises(TypeError, match="message 2 must be "):
        check_messages([user("a"), item])


@pytest.mark.parametrize(
    ("item", "missing"), [({"content": "a"}, "role"), ({"role": "user"}, "content")]
)
def test_message_without_a_key(item: object, missing: str) -> None:
    """A message without a role or without content is a ValueError that names the key."""
    with pytest.raises(ValueError, match=f"message 1 has no '{missing}'"):
        check_messages([item])
