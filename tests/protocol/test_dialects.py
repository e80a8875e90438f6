"""How messages are encoded for a site, and how a server's side decodes them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aichatfree import GEMINI, OPENAI, Dialect, Message, Site
from aichatfree._protocol.dialects import DIALECTS
from aichatfree._protocol.messages import check_messages
from aichatfree._protocol.prompts import decode_messages

from .bodies import assistant, sent, steady, system, user


def test_dialects_by_name() -> None:
    """Each dialect is listed under its name."""
    assert all(name == dialect.name for name, dialect in DIALECTS.items())
    assert DIALECTS["gemini"] is GEMINI
    assert DIALECTS["openai"] is OPENAI


def test_gemini_encoding() -> None:
    """The gemini dialect sends texts as ``parts`` and calls the assistant ``model``."""
    assert GEMINI.encode([user("a"), assistant("b"), user("c")]) == [
        {"role": "user", "parts": [{"text": "a"}]},
        {"role": "model", "parts": [{"text": "b"}]},
        {"role": "user", "parts": [{"text": "c"}]},
    ]


def test_openai_encoding() -> None:
    """The openai dialect sends texts as ``content`` and leaves the names of roles unchanged."""
    messages = [system("s"), user("a"), assistant("b"), user("c")]
    assert OPENAI.encode(messages) == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([system("s"), user("a")], [("user", "s\n\na")]),
        ([system("s"), system("t"), user("a")], [("user", "s\n\nt\n\na")]),
        (
            [system("s"), user("a"), assistant("b"), user("c")],
            [("user", "s\n\na"), ("model", "b"), ("user", "c")],
        ),
        (
            [user("a"), assistant("b"), system("s"), user("c")],
            [("user", "a"), ("model", "b"), ("user", "s\n\nc")],
        ),
        (
            [system("s"), assistant("b"), system("t"), user("c")],
            [("model", "b"), ("user", "s\n\nt\n\nc")],
        ),
    ],
)
def test_gemini_folds_system_messages(
    messages: list[Message], expected: list[tuple[str, str]]
) -> None:
    """The gemini dialect puts system messages, in order, in front of the next user message."""
    encoded = GEMINI.encode(messages)
    assert [(m["role"], m["parts"][0]["text"]) for m in encoded] == expected


@pytest.mark.parametrize("dialect", [GEMINI, OPENAI], ids=lambda d: d.name)
def test_encoding_does_not_change_the_messages(dialect: Dialect) -> None:
    """Encoding changes neither the list that it is given nor the messages in it."""
    messages = [system("s"), user("a"), assistant("b"), user("c")]
    copy = [message.copy() for message in messages]
    dialect.encode(messages)
    assert messages == copy


def test_a_new_dialect_is_only_data() -> None:
    """A new dialect combines the known properties of dialects in any way."""
    bot = Dialect(
        "bot", assistant="bot", parts=False, system=False, temperature=False, user_last=False
    )
    assert sent(Site(dialect=bot), [system("s"), user("a"), assistant("b")])["messages"] == [
        {"role": "user", "content": "s\n\na"},
        {"role": "bot", "content": "b"},
    ]


# --- decoding ---------------------------------------------------------------------------------


contents = st.text(max_size=8)
turns = st.lists(st.builds(user, contents) | st.builds(assistant, contents), max_size=4)
endings = st.builds(user, contents.filter(str.strip))


@steady
@given(turns, endings)
def test_gemini_round_trip(before: list[Message], last: Message) -> None:
    """Messages encoded in the gemini dialect are decoded to the same messages."""
    messages = [*before, last]
    assert decode_messages(GEMINI.encode(messages)) == (GEMINI, messages)


@steady
@given(st.lists(st.builds(system, contents), max_size=2), turns, endings)
def test_openai_round_trip(first: list[Message], before: list[Message], last: Message) -> None:
    """Messages encoded in the openai dialect are decoded to the same messages."""
    messages = [*first, *before, last]
    assert decode_messages(OPENAI.encode(messages)) == (OPENAI, messages)


def test_decode_joins_parts() -> None:
    """The text of a message is the text of all its parts, joined before surrogates are checked."""
    parts = [{"text": "a\ud83d"}, {"text": "\ude42b"}]
    assert decode_messages([{"role": "user", "parts": parts}]) == (GEMINI, [user("a🙂b")])


WRONG_MESSAGES: list[object] = [
    None,
    {},
    [],
    "Hi",
    [None],
    ["Hi"],
    [{}],
    [{"role": "user"}],
    [{"role": "user", "content": None}],
    [{"role": "user", "content": ["Hi"]}],
    [{"role": "user", "content": "  "}],
    [{"role": "model", "content": "Hi"}],
    [{"role": ["user"], "content": "Hi"}],
    [{"role": "user", "parts": []}],
    [{"role": "user", "parts": "Hi"}],
    [{"role": "user", "parts": 5}],
    [{"role": "user", "parts": ["Hi"]}],
    [{"role": "user", "parts": [{"text": "Hi"}, {"text": 1}]}],
    [{"role": "user", "parts": [{"text": ""}]}],
    [{"role": "model", "parts": [{"text": "Hi"}]}],
    [{"role": "system", "parts": [{"text": "Hi"}]}, {"role": "user", "parts": [{"text": "a"}]}],
    [{"role": "assistant", "parts": [{"text": "Hi"}]}, {"role": "user", "parts": [{"text": "a"}]}],
    [{"role": "user", "parts": [{"text": "Hi"}]}, {"role": "user", "content": "Hi"}],
    [{"role": "user", "content": "Hi"}, {"role": "user", "parts": [{"text": "Hi"}]}],
]


@pytest.mark.parametrize("value", WRONG_MESSAGES, ids=repr)
def test_decode_rejects(value: object) -> None:
    """Messages that are malformed, mix two dialects or lack a question are a ValueError."""
    with pytest.raises(ValueError, match=r"\.$"):
        decode_messages(value)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
near_parts = st.lists(
    st.dictionaries(st.just("text"), st.text(max_size=3) | json_values) | json_values, max_size=2
)
near_messages = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "role": st.sampled_from(["user", "model", "assistant", "system", None, 5, ["user"]]),
            "parts": near_parts | json_values,
            "content": st.text(max_size=3) | json_values,
        },
    )
    | json_values,
    max_size=3,
)


@settings(steady, max_examples=150)
@given(json_values | near_messages)
def test_decode_any_json(value: object) -> None:
    """Any JSON value is a ValueError or decodes to well-formed messages that end with a text."""
    try:
        dialect, messages = decode_messages(value)
    except ValueError:
        return
    assert dialect in (GEMINI, OPENAI)
    assert check_messages(messages) == messages
    assert messages[-1]["content"].strip()
