from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aichatfree._protocol.dialects import DIALECTS, GEMINI, OPENAI, Dialect
from aichatfree._protocol.messages import Message, Prompt, check_messages, replace_surrogates
from aichatfree._protocol.prompts import decode_messages, messages_from
from aichatfree._protocol.signing import generate_signature, request_body
from aichatfree._protocol.sites import Site, check_base_url

steady = settings(derandomize=True, deadline=None, max_examples=150)

MS = Site()
SECONDS = Site(time_unit="s")
OPENAI_SITE = Site(dialect=OPENAI)
NOW = 1700000000.5

TRICKY_TEXTS = [
    "Hello, how are you?",
    "  spaces\tand newlines stay \r\n",
    "Où est-ce? Кто ты? 你好 🙂",
    "cafe\u0301",  # decomposed
    "caf\u00e9",  # composed
    "\ufeffBOM",
    "line\u2028separator\x00NUL",
    'quote " backslash \\ colon:colon',
]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def user(content: str) -> Message:
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    return {"role": "assistant", "content": content}


def system(content: str) -> Message:
    return {"role": "system", "content": content}


def sent(site: Site, prompt: Prompt, **options: Any) -> dict[str, Any]:
    """The JSON object that a server reads."""
    messages = messages_from(prompt, options.pop("system", None), site.dialect)
    body = json.loads(request_body(site, messages, now=options.pop("now", NOW), **options))
    assert isinstance(body, dict)
    return body


def last_text(body: dict[str, Any]) -> str:
    """The text of the last message, read as the servers read it."""
    last = body["messages"][-1]
    return "".join(p["text"] for p in last["parts"]) if "parts" in last else str(last["content"])


# --- signature --------------------------------------------------------------------------------


def test_signature_known_vector() -> None:
    """The signature of a fixed request is a fixed value."""
    assert generate_signature(1700000000000, "Hello, how are you?", "s3cret") == (
        "21553074a543d517b7474e6ea784c05926cc415ee52b526995a1c5c0f76094b9"
    )


def test_signature_without_secret_ends_with_a_colon() -> None:
    """Without a secret, the signed string still has its second colon."""
    assert generate_signature(1, "a") == hashlib.sha256(b"1:a:").hexdigest()


@pytest.mark.parametrize("text", TRICKY_TEXTS)
def test_signature_is_over_the_text_as_it_is(text: str) -> None:
    """The signature hashes time, text and secret with colons, each neither cut nor normalised."""
    assert generate_signature(1700000000000, text, " sé:cret ") == sha256(
        f"1700000000000:{text}: sé:cret "
    )


def test_signature_tells_composed_from_decomposed() -> None:
    """Two spellings of one accented letter have two signatures."""
    assert generate_signature(1, "e\u0301") != generate_signature(1, "\u00e9")


def test_signature_of_lone_surrogates() -> None:
    """A lone surrogate in the text or the secret is signed as U+FFFD, and does not raise."""
    assert generate_signature(7, "a\ud83db", "\udc00") == sha256("7:a\ufffdb:\ufffd")


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
    """Surrogate pairs are joined to one character; each lone one becomes one U+FFFD."""
    assert replace_surrogates(text) == expected


@steady
@given(st.text("aé🙂e\u0301\u212b\ufb01\r\n ", max_size=20) | st.text(st.characters(), max_size=20))
def test_surrogates_leave_valid_text_alone(text: str) -> None:
    """A text that UTF-8 can encode is returned as it is."""
    assert replace_surrogates(text) == text


@steady
@given(st.text(st.characters(categories=["Cs", "L", "So"]), max_size=12))
def test_surrogates_always_become_encodable(text: str) -> None:
    """Any text becomes one that UTF-8 can encode, and a second pass changes nothing."""
    clean = replace_surrogates(text)
    clean.encode("utf-8")
    assert replace_surrogates(clean) == clean


# --- dialects ---------------------------------------------------------------------------------


def test_dialects_by_name() -> None:
    """Each dialect is found under its own name."""
    assert dict(DIALECTS) == {"gemini": GEMINI, "openai": OPENAI}


def test_gemini_encoding() -> None:
    """The gemini dialect sends ``parts`` and calls the assistant ``model``."""
    assert GEMINI.encode([user("a"), assistant("b"), user("c")]) == [
        {"role": "user", "parts": [{"text": "a"}]},
        {"role": "model", "parts": [{"text": "b"}]},
        {"role": "user", "parts": [{"text": "c"}]},
    ]


def test_openai_encoding() -> None:
    """The openai dialect sends ``content``, and every role under its own name."""
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
    """System messages go in front of the next user message, in order, and into no other."""
    encoded = GEMINI.encode(messages)
    assert [(m["role"], m["parts"][0]["text"]) for m in encoded] == expected


@pytest.mark.parametrize("dialect", [GEMINI, OPENAI], ids=lambda d: d.name)
def test_encoding_leaves_the_messages_alone(dialect: Dialect) -> None:
    """Encoding does not change the list that it is given, nor the messages in it."""
    messages = [system("s"), user("a"), assistant("b"), user("c")]
    copy = [message.copy() for message in messages]
    dialect.encode(messages)
    assert messages == copy


def test_third_dialect_is_only_data() -> None:
    """A dialect of one's own mixes the known traits freely."""
    bot = Dialect(
        "bot", assistant="bot", parts=False, system=False, temperature=False, user_last=False
    )
    assert sent(Site(dialect=bot), [system("s"), user("a"), assistant("b")])["messages"] == [
        {"role": "user", "content": "s\n\na"},
        {"role": "bot", "content": "b"},
    ]


# --- request body -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("site", "expected"), [(MS, 1700000000500), (SECONDS, 1700000000)], ids=["ms", "s"]
)
def test_body_time_unit(site: Site, expected: int) -> None:
    """The time is an integer in the unit of the site, written without a fraction."""
    messages = messages_from("Hi", None, site.dialect)
    assert f'"time":{expected},'.encode() in request_body(site, messages, now=NOW)


def test_body_keys() -> None:
    """The body has the keys of the protocol and the model, and no others."""
    assert sorted(sent(MS, "Hi")) == ["messages", "model", "pass", "sign", "time"]


@pytest.mark.parametrize(
    ("password", "expected"),
    [(None, None), ("", ""), (" pä:ss ", " pä:ss "), ("\ud800", "\ufffd")],
)
def test_body_password(password: str | None, expected: str | None) -> None:
    """``pass`` is null without a password, and else the password as it is."""
    assert sent(MS, "Hi", password=password)["pass"] == expected


@pytest.mark.parametrize(
    ("model", "expected"), [(None, "gemini-1.5-pro"), ("other", "other"), ("\udfff", "\ufffd")]
)
def test_body_model(model: str | None, expected: str) -> None:
    """The model is the one that is asked for, or the default of the site."""
    assert sent(MS, "Hi", model=model)["model"] == expected


def test_body_temperature_only_if_given() -> None:
    """The temperature is in the body if it is given, 0 included, and else not at all."""
    assert "temperature" not in sent(OPENAI_SITE, "Hi")
    assert sent(OPENAI_SITE, "Hi", temperature=0.0)["temperature"] == 0


def test_body_does_not_hold_the_secret() -> None:
    """The secret goes into the signature and is not sent."""
    site = Site(secret="hunter2")
    assert b"hunter2" not in request_body(site, messages_from("Hi", None, GEMINI), now=NOW)


@pytest.mark.parametrize("site", [MS, SECONDS, OPENAI_SITE], ids=["ms", "s", "openai"])
@pytest.mark.parametrize("text", [*TRICKY_TEXTS, "lone \ud83d", "pair \ud83d\ude42"])
def test_sign_verifies_over_what_was_sent(site: Site, text: str) -> None:
    """A server that hashes the last message as it decoded it gets the signature it was sent."""
    site = dataclasses.replace(site, secret="k\u00e9y")
    body = sent(site, [user("before"), assistant("then"), user(text)])
    assert last_text(body) == replace_surrogates(text)
    assert body["sign"] == sha256(f"{body['time']}:{last_text(body)}:k\u00e9y")


def test_sign_covers_a_folded_system_prompt() -> None:
    """What is signed is the last message as sent, the system prompt folded into it included."""
    body = sent(MS, "Hi", system="Be brief.")
    assert last_text(body) == "Be brief.\n\nHi"
    assert body["sign"] == sha256(f"{body['time']}:Be brief.\n\nHi:")


def test_body_signed_anew_at_each_attempt() -> None:
    """Two bodies made at two times differ in time and signature only."""
    first, second = sent(MS, "Hi", now=NOW), sent(MS, "Hi", now=NOW + 1)
    changed = {key for key in first if first[key] != second[key]}
    assert changed == {"time", "sign"}


@steady
@given(
    text=st.text(st.characters(exclude_categories=[]), min_size=1).filter(str.strip),
    secret=st.text(st.characters(exclude_categories=[]), max_size=8),
    now=st.floats(1e9, 4e9),
    site=st.sampled_from([MS, SECONDS, OPENAI_SITE]),
)
def test_any_body_verifies(text: str, secret: str, now: float, site: Site) -> None:
    """Whatever the text, secret and time, the body is UTF-8 JSON whose signature verifies."""
    body = sent(dataclasses.replace(site, secret=secret), text, now=now)
    assert type(body["time"]) is int
    # What a JavaScript server holds as its secret cannot be anything but this.
    key = replace_surrogates(secret)
    assert body["sign"] == sha256(f"{body['time']}:{last_text(body)}:{key}")


# --- messages ---------------------------------------------------------------------------------


def test_prompt_as_text() -> None:
    """A text is one user message, as it is."""
    assert messages_from("  Hi\n", None, GEMINI) == [user("  Hi\n")]


@pytest.mark.parametrize("dialect", [GEMINI, OPENAI], ids=lambda d: d.name)
def test_prompt_with_system(dialect: Dialect) -> None:
    """The system prompt comes first, in front of those in the list."""
    assert messages_from([system("t"), user("a")], "s", dialect) == [
        system("s"),
        system("t"),
        user("a"),
    ]


def test_prompt_is_copied() -> None:
    """The messages are a copy: adding to them leaves the user's own list alone."""
    mine = [user("a")]
    messages_from(mine, "s", GEMINI)[-1]["content"] = "changed"
    assert mine == [user("a")]


def test_prompt_drops_unknown_keys() -> None:
    """Keys other than role and content, such as an id, are not sent."""
    prompt = [{"role": "user", "content": "a", "id": 7}]
    assert messages_from(prompt, None, GEMINI) == [user("a")]


def test_prompt_surrogates() -> None:
    """Lone surrogates in any message become U+FFFD."""
    prompt = [system("\ud800"), user("\udfff")]
    assert messages_from(prompt, "\ud801", OPENAI) == [
        system("\ufffd"),
        system("\ufffd"),
        user("\ufffd"),
    ]


def test_openai_may_end_with_the_assistant() -> None:
    """The openai dialect takes a conversation whose last message is from the assistant."""
    prompt = [user("a"), assistant("The answer is")]
    assert messages_from(prompt, None, OPENAI) == prompt


@pytest.mark.parametrize("prompt", ["", " \n\t", "\u3000", [user("")], [user("a"), user(" ")]])
def test_empty_prompt(prompt: Prompt) -> None:
    """A prompt, or a last message, without a visible character is refused."""
    with pytest.raises(ValueError, match="prompt is empty"):
        messages_from(prompt, "system", GEMINI)


@pytest.mark.parametrize("system_prompt", [None, "Be brief."])
def test_no_messages(system_prompt: str | None) -> None:
    """An empty list of messages is refused, with a system prompt too."""
    with pytest.raises(ValueError, match="no messages"):
        messages_from([], system_prompt, OPENAI)


@pytest.mark.parametrize("role", ["model", "User", "tool", "", None, 1, ["user"]])
def test_unknown_role(role: object) -> None:
    """A role that is none of the three is refused, and the three are named."""
    with pytest.raises(ValueError, match=r"unknown role .*'system', 'user', 'assistant'"):
        messages_from([{"role": role, "content": "a"}], None, OPENAI)


@pytest.mark.parametrize(
    ("last", "dialect"),
    [(assistant("b"), GEMINI), (system("s"), GEMINI), (system("s"), OPENAI)],
)
def test_wrong_last_message(last: Message, dialect: Dialect) -> None:
    """A conversation that ends with a role that the server cannot answer is refused."""
    with pytest.raises(ValueError, match=f"last message is from '{last['role']}'"):
        messages_from([user("a"), last], None, dialect)


@pytest.mark.parametrize("content", [None, 1, b"bytes", ["a"], {"text": "a"}])
def test_content_not_text(content: object) -> None:
    """Content that is not text is refused, and the message is named by its number from 1."""
    with pytest.raises(TypeError, match="content of message 2 must be a str, not "):
        messages_from([user("a"), {"role": "user", "content": content}], None, OPENAI)


@pytest.mark.parametrize("prompt", [b"Hi", bytearray(b"Hi")])
def test_prompt_of_bytes(prompt: Any) -> None:
    """A prompt of bytes is refused with the advice to decode it."""
    with pytest.raises(TypeError, match="decode it first"):
        messages_from(prompt, None, GEMINI)


@pytest.mark.parametrize("prompt", [None, 5, {"role": "user", "content": "a"}, iter([user("a")])])
def test_prompt_of_another_type(prompt: Any) -> None:
    """A prompt that is neither text nor a list, one bare message included, is refused."""
    with pytest.raises(TypeError, match="a str or a list of messages"):
        messages_from(prompt, None, GEMINI)


def test_system_not_text() -> None:
    """A system prompt that is not text is refused by name."""
    wrong: Any = b"Be brief."
    with pytest.raises(TypeError, match="system must be a str, not bytes"):
        messages_from("Hi", wrong, GEMINI)


@pytest.mark.parametrize("item", ["Hi", None, 3, ["user", "Hi"]])
def test_message_not_a_mapping(item: object) -> None:
    """An item that is not a mapping is refused, and named by its number from 1."""
    with pytest.raises(TypeError, match="message 2 must be "):
        check_messages([user("a"), item])


@pytest.mark.parametrize(
    ("item", "missing"), [({"content": "a"}, "role"), ({"role": "user"}, "content")]
)
def test_message_without_a_key(item: object, missing: str) -> None:
    """A message without a role or without content is refused, and the key is named."""
    with pytest.raises(ValueError, match=f"message 1 has no '{missing}'"):
        check_messages([item])


# --- messages read off the wire ---------------------------------------------------------------

contents = st.text(max_size=8)
turns = st.lists(st.builds(user, contents) | st.builds(assistant, contents), max_size=4)
endings = st.builds(user, contents.filter(str.strip))


@steady
@given(turns, endings)
def test_gemini_round_trip(before: list[Message], last: Message) -> None:
    """What the gemini dialect encodes is decoded to the same messages."""
    messages = [*before, last]
    assert decode_messages(GEMINI.encode(messages)) == (GEMINI, messages)


@steady
@given(st.lists(st.builds(system, contents), max_size=2), turns, endings)
def test_openai_round_trip(first: list[Message], before: list[Message], last: Message) -> None:
    """What the openai dialect encodes is decoded to the same messages."""
    messages = [*first, *before, last]
    assert decode_messages(OPENAI.encode(messages)) == (OPENAI, messages)


def test_decode_joins_parts() -> None:
    """The text of a message is all its parts, a surrogate pair split between two included."""
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
def test_decode_refuses(value: object) -> None:
    """Messages that are malformed, of two dialects, or without a question are refused."""
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
    """Any JSON value gives well-formed messages that end with a text, or ValueError."""
    try:
        dialect, messages = decode_messages(value)
    except ValueError:
        return
    assert dialect in (GEMINI, OPENAI)
    assert check_messages(messages) == messages
    assert messages[-1]["content"].strip()


# --- sites ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://aichatfree.info", "https://aichatfree.info"),
        ("https://aichatfree.info/", "https://aichatfree.info"),
        ("http://127.0.0.1:8080//", "http://127.0.0.1:8080"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("https://example.com/chat/", "https://example.com/chat"),
        ("https://example.com/@me", "https://example.com/@me"),
        ("https://example.com/api", "https://example.com/api"),
    ],
)
def test_base_url(url: str, expected: str) -> None:
    """A usable URL is kept, without the slashes at its end."""
    assert check_base_url(url) == expected
    assert Site(url).base_url == expected


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "needs http:// or https:// and a host"),
        ("example.com", "needs http:// or https:// and a host"),
        ("localhost:3000", "needs http:// or https:// and a host"),
        ("//example.com", "needs http:// or https:// and a host"),
        ("ftp://example.com", "needs http:// or https:// and a host"),
        ("https://", "needs http:// or https:// and a host"),
        ("https://:443", "needs http:// or https:// and a host"),
        ("http://example.com:0", "port 0"),
        ("http://example.com:65536", "not a URL"),
        ("http://example.com:http", "not a URL"),
        ("http://[::1", "not a URL"),
        ("https://example.com/?a=b", r"\? or # part"),
        ("https://example.com/#top", r"\? or # part"),
        ("https://example.com/a b", "space or control character"),
        (" https://example.com", "space or control character"),
        ("https://example.com\n", "space or control character"),
        ("https://example.com\x00", "space or control character"),
        ("https://example\u200b.com", "space or control character"),
        ("https://example.com/api/generate", "before /api/generate"),
        ("https://example.com/chat/api/generate/", "before /api/generate"),
    ],
)
def test_base_url_refused(url: str, message: str) -> None:
    """A URL that cannot be used is refused, and the message says why."""
    with pytest.raises(ValueError, match=message):
        Site(url)


@pytest.mark.parametrize("url", ["https://example.com?", "https://example.com/#"])
def test_base_url_with_an_empty_query(url: str) -> None:
    """A bare ``?`` or ``#`` at the end is refused: the path would become a part of it."""
    with pytest.raises(ValueError, match=r"\? or # part"):
        check_base_url(url)


@pytest.mark.parametrize("url", [b"https://example.com", None, 5])
def test_base_url_not_text(url: Any) -> None:
    """A base URL that is not text is refused."""
    with pytest.raises(TypeError, match="base_url must be a str"):
        Site(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://alice:hunter2@example.com",
        "https://hunter2@example.com",
        "https://:hunter2@example.com",
        "ftp://alice:hunter2@example.com",
        "https://alice:hunter2@example.com:0/?a#b",
        "https://alice:hunter2@example.com:bad",
        "//alice:hunter2@example.com",
        "alice:hunter2@example.com",
        "https:/alice:hunter2@example.com",
        "https://alice:hunter2/x@example.com",
        "https://alice:1?hunter2@example.com",
        "https://alice:hunter2@ex\u2100mple.com",
    ],
)
def test_base_url_with_credentials(url: str) -> None:
    """A URL with a user name or a password is refused by a message that does not show them."""
    with pytest.raises(ValueError, match="base_url") as caught:
        check_base_url(url)
    assert "hunter2" not in str(caught.value)
    # What a traceback prints has to be clean as well.
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://aichatfree.info", "https://aichatfree.info"),
        ("http://127.0.0.1:8080/chat", "http://127.0.0.1:8080"),
        ("http://[::1]:3000/", "http://[::1]:3000"),
    ],
)
def test_origin(url: str, origin: str) -> None:
    """The origin of a site is its scheme, host and port, without the path."""
    assert Site(url).origin == origin


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("HTTPS://Example.COM", "https://example.com"),
        ("https://example.com:443", "https://example.com"),
        ("http://example.com:80", "http://example.com"),
        ("https://пример.рф", "https://xn--e1afmkfd.xn--p1ai"),
    ],
)
def test_origin_as_a_browser_writes_it(url: str, origin: str) -> None:
    """The origin is written as a browser does: lower case, ASCII, no default port."""
    assert Site(url).origin == origin


@pytest.mark.parametrize("unit", ["", "us", "MS", "seconds", None])
def test_unknown_time_unit(unit: Any) -> None:
    """A unit of time that is neither ms nor s is refused."""
    with pytest.raises(ValueError, match='takes "ms" or "s"'):
        Site(time_unit=unit)


@pytest.mark.parametrize("dialect", ["gemini", None])
def test_site_dialect_is_a_dialect(dialect: Any) -> None:
    """The dialect of a site is a ``Dialect``, not its name."""
    with pytest.raises(TypeError, match="takes a Dialect"):
        Site(dialect=dialect)


def test_secret_not_text() -> None:
    """A secret that is not text is refused, without being shown."""
    secret: Any = b"hunter2"
    with pytest.raises(TypeError, match="must be a str, not bytes") as caught:
        Site(secret=secret)
    assert "hunter2" not in str(caught.value)


def test_site_shows_no_secret() -> None:
    """Neither ``repr`` nor ``str`` of a site shows its secret."""
    site = Site(secret="hunter2")
    assert "hunter2" not in f"{site!r} {site}"


def test_site_is_a_value() -> None:
    """A site cannot be changed, and pickles to an equal one, its secret included."""
    site = Site("http://127.0.0.1:1/", dialect=OPENAI, secret="k")
    with pytest.raises(dataclasses.FrozenInstanceError):
        site.secret = "other"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(site)) == site
    assert dataclasses.replace(site, secret="other") != site
