"""Settings of a client: arguments, environment variables and defaults."""

from __future__ import annotations

from typing import Any

import pytest

from aichatfree import OPENAI, Client, RateLimitError, RetryPolicy, Site, Timeout
from aichatfree.testing import Answer, FakeSite
from helpers import UNREACHABLE, ClientFor, is_signed


def test_settings_come_from_argument_then_environment_then_default(
    client_for: ClientFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An argument takes precedence over the environment, and that over the default."""
    assert repr(Client()) == "Client('https://aichatfree.info', dialect='gemini')"
    with FakeSite("Hello") as site:
        for name, value in {
            "BASE_URL": site.url,
            "DIALECT": "openai",
            "SECRET": "from outside",
            "PASSWORD": "word",
            "MODEL": "m1",
        }.items():
            monkeypatch.setenv(f"AICHATFREE_{name}", value)
        client_for().generate("Hi")
        client_for(dialect="gemini", secret="", password="other", model="m2").generate("Hi")
    outside, argument = site.requests
    assert is_signed(outside, "from outside")
    assert is_signed(argument, "")
    assert [r.json["pass"] for r in site.requests] == ["word", "other"]
    assert [r.json["model"] for r in site.requests] == ["m1", "m2"]
    assert "content" in outside.json["messages"][0]
    assert "parts" in argument.json["messages"][0]


def test_a_site_describes_how_a_deployment_differs(client_for: ClientFor) -> None:
    """A client uses the time unit, secret, dialect and quota phrases of its Site."""
    with FakeSite([Answer("Hello"), Answer("no more today")]) as fake:
        site = Site(fake.url, OPENAI, "s", secret="x", quota_phrases=("no more today",))
        client = client_for(site, retry=None)
        client.generate("Hi")
        assert len(str(fake.requests[0].json["time"])) == 10
        assert is_signed(fake.requests[0], "x")
        with pytest.raises(RateLimitError, match="no more today"):
            client.generate("Hi")


SYSTEM_PROMPTS: dict[str, tuple[dict[str, Any], Any, list[str]]] = {
    "the client's": ({}, "Q", ["from client", "Q"]),
    "the call's": ({"system": "from call"}, "Q", ["from call", "Q"]),
    "the messages' own": (
        {},
        [{"role": "system", "content": "own"}, {"role": "user", "content": "Q"}],
        ["own", "Q"],
    ),
}


@pytest.mark.parametrize("whose", SYSTEM_PROMPTS)
def test_the_most_specific_system_prompt_is_used(client_for: ClientFor, whose: str) -> None:
    """A system prompt of the call, or among its messages, replaces that of the client."""
    options, prompt, expected = SYSTEM_PROMPTS[whose]
    with FakeSite("A") as site:
        client_for(site.url, dialect="openai", system="from client").generate(prompt, **options)
        assert [m["content"] for m in site.requests[0].json["messages"]] == expected


def test_with_options_shares_the_connections(client_for: ClientFor) -> None:
    """with_options returns a client with other settings that shares the connections."""
    with FakeSite("Hello") as site:
        client = client_for(site.url)
        other = client.with_options(
            password="p", secret="s", dialect="openai", timeout=5, retry=None
        )
        client.generate("Hi")
        other.generate("Hi")
        client.generate("Hi")
        assert [r.json["pass"] for r in site.requests] == [None, "p", None]
        assert is_signed(site.requests[1], "s")
        assert {r.connection for r in site.requests} == {1}


@pytest.mark.parametrize("name", ["base_url", "headers", "tmeout"])
def test_with_options_rejects_what_it_cannot_change(client_for: ClientFor, name: str) -> None:
    """An option of the connections, or a misspelled one, is a TypeError of with_options."""
    changes: Any = {name: "x"}
    with pytest.raises(TypeError, match=name):
        client_for(UNREACHABLE).with_options(**changes)


BAD_SETTINGS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"base_url": "aichatfree.info"}, ValueError, "https://"),
    ({"base_url": "ftp://x"}, ValueError, "https://"),
    ({"base_url": 3}, TypeError, "base_url"),
    ({"base_url": "https://u:secret@x"}, ValueError, "headers"),
    ({"dialect": "klingon"}, ValueError, "klingon"),
    ({"timeout": -1}, ValueError, "connect"),
    ({"timeout": "5"}, TypeError, "timeout"),
    ({"secret": b"x"}, TypeError, "secret"),
    ({"password": 1}, TypeError, "password"),
    ({"system": 1}, TypeError, "system"),
    ({"max_connections": 0}, ValueError, "max_connections"),
    ({"max_connections": "4"}, TypeError, "max_connections"),
    ({"headers": {"X": "a\r\nb"}}, ValueError, "header"),
    ({"headers": {"X": 3}}, TypeError, "X"),
    ({"headers": {"Ж": "x"}}, ValueError, "header name"),
    ({"headers": {"A\nB": "x"}}, ValueError, "header name"),
]


@pytest.mark.parametrize(("settings", "error", "words"), BAD_SETTINGS)
def test_a_setting_that_cannot_be_used_is_rejected(
    settings: dict[str, Any], error: type[Exception], words: str
) -> None:
    """A bad setting is an error of the constructor that names it and shows no password."""
    with pytest.raises(error, match=words) as caught:
        Client(**settings)
    assert "secret@" not in str(caught.value)


def test_secrets_are_in_no_repr(client_for: ClientFor) -> None:
    """The repr of a client, a stream or a chat shows no secret, password or prompt."""
    client = client_for(UNREACHABLE, secret="s3cret", password="passw0rd")
    chat = client.chat("prompt-words")
    shown = [client, vars(client), client.stream("prompt-words"), chat]
    for words in ("s3cret", "passw0rd", "prompt-words"):
        assert words not in " ".join(map(repr, shown))


def test_the_default_timeouts_and_retries() -> None:
    """Defaults: 10 s to connect, 60 s of silence, 5 attempts within 300 s, no total limit."""
    assert Timeout() == Timeout(connect=10, read=60, total=None)
    assert (RetryPolicy().max_attempts, RetryPolicy().max_elapsed) == (5, 300)
