"""The signature of a request, and the body that it is in."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichatfree import GEMINI, Site
from aichatfree._protocol.messages import replace_surrogates
from aichatfree._protocol.prompts import messages_from
from aichatfree._protocol.signing import generate_signature, request_body
from helpers import signature

from .bodies import (
    MILLISECONDS,
    NOW,
    OPENAI_SITE,
    SECONDS,
    TRICKY_TEXTS,
    assistant,
    last_text,
    sent,
    steady,
    user,
)


def test_signature_known_vector() -> None:
    """The signature of a fixed request is a fixed value."""
    assert generate_signature(1700000000000, "Hello, how are you?", "s3cret") == (
        "21553074a543d517b7474e6ea784c05926cc415ee52b526995a1c5c0f76094b9"
    )


def test_signature_without_secret_ends_with_a_colon() -> None:
    """Without a secret the signed string ends with its second colon."""
    assert generate_signature(1, "a") == signature(1, "a", "")


@pytest.mark.parametrize("text", TRICKY_TEXTS)
def test_signature_covers_the_unchanged_text(text: str) -> None:
    """The signature covers time, text and secret, joined with colons and otherwise unchanged."""
    assert generate_signature(1700000000000, text, " sé:cret ") == signature(
        1700000000000, text, " sé:cret "
    )


def test_signature_does_not_normalise_unicode() -> None:
    """The composed and the decomposed form of an accented letter have different signatures."""
    assert generate_signature(1, "e\u0301") != generate_signature(1, "\u00e9")


def test_signature_of_lone_surrogates() -> None:
    """A lone surrogate in the text or the secret is signed as U+FFFD."""
    assert generate_signature(7, "a\ud83db", "\udc00") == signature(7, "a\ufffdb", "\ufffd")


# --- request body -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("site", "expected"), [(MILLISECONDS, 1700000000500), (SECONDS, 1700000000)], ids=["ms", "s"]
)
def test_body_time_unit(site: Site, expected: int) -> None:
    """The time is an integer in the unit that the site uses."""
    messages = messages_from("Hi", None, site.dialect)
    assert f'"time":{expected},'.encode() in request_body(site, messages, now=NOW)


def test_body_keys() -> None:
    """The body has the keys of the protocol and no others."""
    assert sorted(sent(MILLISECONDS, "Hi")) == ["messages", "pass", "sign", "time"]


@pytest.mark.parametrize(
    ("password", "expected"),
    [(None, None), ("", ""), (" pä:ss ", " pä:ss "), ("\ud800", "\ufffd")],
)
def test_body_password(password: str | None, expected: str | None) -> None:
    """``pass`` is the unchanged password, or null if there is none."""
    assert sent(MILLISECONDS, "Hi", password=password)["pass"] == expected


@pytest.mark.parametrize(("model", "expected"), [("other", "other"), ("\udfff", "\ufffd")])
def test_body_model(model: str, expected: str) -> None:
    """The model is the given one; without one, the server chooses."""
    assert sent(MILLISECONDS, "Hi", model=model)["model"] == expected
    assert "model" not in sent(MILLISECONDS, "Hi")


def test_body_temperature_only_if_given() -> None:
    """The body has a temperature only if one is given, which may be 0."""
    assert "temperature" not in sent(OPENAI_SITE, "Hi")
    assert sent(OPENAI_SITE, "Hi", temperature=0.0)["temperature"] == 0


def test_body_does_not_contain_the_secret() -> None:
    """The secret is part of what is signed, and is not sent."""
    site = Site(secret="hunter2")
    assert b"hunter2" not in request_body(site, messages_from("Hi", None, GEMINI), now=NOW)


@pytest.mark.parametrize("site", [MILLISECONDS, SECONDS, OPENAI_SITE], ids=["ms", "s", "openai"])
@pytest.mark.parametrize("text", [*TRICKY_TEXTS, "lone \ud83d", "pair \ud83d\ude42"])
def test_sign_verifies_over_the_decoded_body(site: Site, text: str) -> None:
    """A server that signs the last message as it decodes it gets the signature in the body."""
    site = dataclasses.replace(site, secret="k\u00e9y")
    body = sent(site, [user("before"), assistant("then"), user(text)])
    assert last_text(body) == replace_surrogates(text)
    assert body["sign"] == signature(body["time"], last_text(body), "k\u00e9y")


def test_sign_covers_a_folded_system_prompt() -> None:
    """The signature covers the last message with the system prompt that was folded into it."""
    body = sent(MILLISECONDS, "Hi", system="Be brief.")
    assert last_text(body) == "Be brief.\n\nHi"
    assert body["sign"] == signature(body["time"], "Be brief.\n\nHi")


def test_only_time_and_signature_change_between_attempts() -> None:
    """Two bodies of the same prompt at different times differ only in time and signature."""
    first, second = sent(MILLISECONDS, "Hi", now=NOW), sent(MILLISECONDS, "Hi", now=NOW + 1)
    changed = {key for key in first if first[key] != second[key]}
    assert changed == {"time", "sign"}


@steady
@given(
    text=st.text(st.characters(exclude_categories=[]), min_size=1).filter(str.strip),
    secret=st.text(st.characters(exclude_categories=[]), max_size=8),
    now=st.floats(1e9, 4e9),
    site=st.sampled_from([MILLISECONDS, SECONDS, OPENAI_SITE]),
)
def test_any_body_verifies(text: str, secret: str, now: float, site: Site) -> None:
    """For any text, secret and time, the body is JSON in UTF-8 whose signature verifies."""
    body = sent(dataclasses.replace(site, secret=secret), text, now=now)
    assert type(body["time"]) is int
    # A server written in JavaScript reads a secret with lone surrogates like this.
    key = replace_surrogates(secret)
    assert body["sign"] == signature(body["time"], last_text(body), key)
