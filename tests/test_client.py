from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
import responses

import aichatfree
from aichatfree import OPENAI, Client, RateLimitError, Reply, RetryPolicy, Site, Timeout
from aichatfree._signing_clock import SigningClock
from aichatfree.testing import Answer, FakeSite, Request
from helpers import ClientFor


def signed(request: Request, secret: str = "") -> bool:
    text = f"{request.json['time']}:{request.text}:{secret}"
    return bool(request.json["sign"] == hashlib.sha256(text.encode()).hexdigest())


def test_a_reply_prints_as_its_text(client_for: ClientFor) -> None:
    """str(reply) is the answer; its figures are beside it."""
    with FakeSite([Answer("Hi", " there", gap=0.05)]) as site:
        reply = client_for(site.url).generate("Hello")
        assert str(reply) == reply.text == "Hi there"
        assert reply.attempts == 1
        assert 0 < reply.time_to_first_chunk < reply.elapsed


def test_the_seeds_example_made_synchronous_runs(client_for: ClientFor) -> None:
    """Messages in, chunks out, and RateLimitError on a quota reply."""
    messages = [{"role": "user", "content": "Hello, how are you?"}]
    with FakeSite([Answer("I am", " fine"), Answer(status=500, body="Quota exceeded")]) as site:
        client = client_for(site.url, model="gemini-1.5-pro", retry=None)
        assert list(client.stream(messages)) == ["I am", " fine"]
        with pytest.raises(RateLimitError):
            list(client.stream(messages))
        assert signed(site.requests[0])


@pytest.mark.parametrize("dialect", ["gemini", "openai"])
def test_a_conversation_is_sent_in_the_sites_dialect(client_for: ClientFor, dialect: str) -> None:
    """Roles and texts are spelled as the site's family spells them, and signed."""
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": "Tolstoy."},
        {"role": "user", "content": "When?"},
    ]
    wire = {
        "openai": messages,
        "gemini": [
            {"role": "user", "parts": [{"text": "Be brief.\n\nWho?"}]},
            {"role": "model", "parts": [{"text": "Tolstoy."}]},
            {"role": "user", "parts": [{"text": "When?"}]},
        ],
    }
    with FakeSite("1869", verify=True, secret="s3", password="p4") as site:
        client = client_for(site.url, dialect=dialect, secret="s3", password="p4")
        assert client.generate(messages).text == "1869"
        assert site.requests[0].json["messages"] == wire[dialect]
        assert signed(site.requests[0], "s3")


def test_settings_come_from_argument_then_environment_then_default(
    client_for: ClientFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An argument wins over the environment, which wins over the default."""
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
    assert signed(outside, "from outside")
    assert signed(argument, "")
    assert [r.json["pass"] for r in site.requests] == ["word", "other"]
    assert [r.json["model"] for r in site.requests] == ["m1", "m2"]
    assert "content" in outside.json["messages"][0]
    assert "parts" in argument.json["messages"][0]


def test_a_site_value_says_what_a_deployment_does_differently(client_for: ClientFor) -> None:
    """Unit of time, secret, dialect and quota phrases are the site's."""
    with FakeSite([Answer("Hello"), Answer("no more today")]) as fake:
        site = Site(fake.url, OPENAI, "s", secret="x", quota_phrases=("no more today",))
        client = client_for(site, retry=None)
        client.generate("Hi")
        assert len(str(fake.requests[0].json["time"])) == 10
        assert signed(fake.requests[0], "x")
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


def test_no_two_requests_have_the_same_time(client_for: ClientFor) -> None:
    """Equal questions of many threads are signed apart, so that no site takes them for replays."""
    with FakeSite("Hello") as fake:
        client = client_for(fake.url)
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda _: client.with_options().generate("Again"), range(200)))
        times = [request.json["time"] for request in fake.requests]
    assert len(set(times)) == 200
    assert abs(max(times) / 1000 - time.time()) < 60


def test_the_time_of_many_requests_stays_near_the_clock() -> None:
    """Beyond a thousand a second some have the same time, but none is far ahead of it."""
    clock = SigningClock()
    assert max(clock.now() for _ in range(10_000)) < time.time() + 1.01


@pytest.mark.parametrize("whose", SYSTEM_PROMPTS)
def test_the_closest_system_prompt_is_used(client_for: ClientFor, whose: str) -> None:
    """A call's system prompt replaces the client's, and so does one among the messages."""
    options, prompt, expected = SYSTEM_PROMPTS[whose]
    with FakeSite("A") as site:
        client_for(site.url, dialect="openai", system="from client").generate(prompt, **options)
        assert [m["content"] for m in site.requests[0].json["messages"]] == expected


def test_with_options_shares_the_connections(client_for: ClientFor) -> None:
    """The other client has other settings and the same pool; the first one is unchanged."""
    with FakeSite("Hello") as site:
        client = client_for(site.url)
        other = client.with_options(
            password="p", secret="s", dialect="openai", timeout=5, retry=None
        )
        client.generate("Hi")
        other.generate("Hi")
        client.generate("Hi")
        assert [r.json["pass"] for r in site.requests] == [None, "p", None]
        assert signed(site.requests[1], "s")
        assert {r.connection for r in site.requests} == {1}


@pytest.mark.parametrize("name", ["base_url", "headers", "tmeout"])
def test_with_options_refuses_what_it_cannot_change(client_for: ClientFor, name: str) -> None:
    """Settings of the connections, and misspelled ones, are TypeErrors."""
    changes: Any = {name: "x"}
    with pytest.raises(TypeError, match=name):
        client_for("http://127.0.0.1:1").with_options(**changes)


def test_the_temperature_is_sent_where_it_is_known(client_for: ClientFor) -> None:
    """The openai dialect passes it on; the gemini one, which ignores it, refuses it at once."""
    with FakeSite("Hello") as site:
        client = client_for(site.url)
        client.with_options(dialect="openai").generate("Hi", temperature=0.5)
        assert site.requests[0].json["temperature"] == 0.5
        with pytest.raises(ValueError, match="ignore the temperature"):
            client.generate("Hi", temperature=0.5)
        assert len(site.requests) == 1


BAD_PROMPTS: dict[str, tuple[Any, type[Exception], str]] = {
    "empty": ("", ValueError, "empty"),
    "blank": (" \n", ValueError, "empty"),
    "no messages": ([], ValueError, "no messages"),
    "bytes": (b"Hi", TypeError, "decode"),
    "a number": (3, TypeError, "int"),
    "unknown role": ([{"role": "robot", "content": "x"}], ValueError, "robot"),
    "no content": ([{"role": "user"}], ValueError, "content"),
    "content not text": ([{"role": "user", "content": ["x"]}], TypeError, "list"),
    "not a message": (["x"], TypeError, "message 1"),
    "assistant last": (
        [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],
        ValueError,
        "last message",
    ),
}


@pytest.mark.parametrize("kind", BAD_PROMPTS)
@pytest.mark.parametrize("method", ["generate", "stream"])
def test_a_prompt_that_cannot_be_sent_is_refused_at_once(
    client_for: ClientFor, kind: str, method: str
) -> None:
    """The call itself raises, in plain words, and the site sees nothing."""
    prompt, error, words = BAD_PROMPTS[kind]
    with FakeSite("Hello") as site:
        with pytest.raises(error, match=words):
            getattr(client_for(site.url), method)(prompt)
        assert site.requests == []


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
def test_a_setting_that_cannot_be_used_is_refused_at_once(
    settings: dict[str, Any], error: type[Exception], words: str
) -> None:
    """Making the client raises, names the setting, and shows no secret."""
    with pytest.raises(error, match=words) as caught:
        Client(**settings)
    assert "secret@" not in str(caught.value)


def test_a_lone_surrogate_is_replaced_before_signing(client_for: ClientFor) -> None:
    """What the site hashes is what was hashed here."""
    with FakeSite("Hello", verify=True) as site:
        assert client_for(site.url).generate("a\ud800b \ud83d\ude00").text == "Hello"
        assert site.requests[0].text == "a\ufffdb 😀"


def test_secrets_are_in_no_repr(client_for: ClientFor) -> None:
    """Neither a client, its site, a stream nor a chat shows a secret, a password or a prompt."""
    client = client_for("http://127.0.0.1:1", secret="s3cret", password="passw0rd")
    chat = client.chat("prompt-words")
    shown = [client, vars(client), client.stream("prompt-words"), chat]
    for words in ("s3cret", "passw0rd", "prompt-words"):
        assert words not in " ".join(map(repr, shown))


def test_a_redirect_is_not_followed_with_the_password(client_for: ClientFor) -> None:
    """The other host gets nothing, and the error names the new address."""
    with FakeSite("Hello") as other:
        moved = Answer(status=307, body="", headers={"Location": f"{other.url}/api/generate"})
        with FakeSite([moved]) as site, pytest.raises(aichatfree.ProtocolError, match=other.url):
            client_for(site.url, password="p").generate("Hi")
        assert other.requests == []


def test_headers_are_added_to_every_request(client_for: ClientFor) -> None:
    """Users' headers go out over the default ones; the origin matches the site."""
    with FakeSite("Hello") as site:
        client_for(site.url, headers={"X-Mine": "1", "User-Agent": "me"}).generate("Hi")
        headers = site.requests[0].headers
        assert (headers["X-Mine"], headers["User-Agent"]) == ("1", "me")
        assert headers["Origin"] == site.url
        assert headers["Accept-Encoding"] == "identity"


def test_a_proxy_of_the_environment_is_used(
    client_for: ClientFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP_PROXY is honoured, as it was when the client was made, and NO_PROXY too."""
    with FakeSite("through the proxy") as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        client = client_for("http://site.example")
        monkeypatch.delenv("HTTP_PROXY")
        assert client.generate("Hi").text == "through the proxy"
        assert proxy.requests[0].path == "http://site.example/api/generate"
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert client_for(proxy.url).generate("Hi").text == "through the proxy"


def test_a_proxy_that_is_given_is_used(client_for: ClientFor) -> None:
    """proxies= works as in requests."""
    with FakeSite("through the proxy") as proxy:
        client = client_for("http://site.example", proxies={"http": proxy.url})
        assert client.generate("Hi").text == "through the proxy"


def test_a_netrc_file_changes_nothing(
    client_for: ClientFor, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Credentials that happen to lie in the home folder are not sent to a chat site."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password mine")
    os.chmod(netrc, 0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with FakeSite("Hello") as site:
        client_for(site.url).generate("Hi")
        assert "Authorization" not in site.requests[0].headers


def test_a_session_of_the_users_own_is_used_and_not_closed(client_for: ClientFor) -> None:
    """Its headers go out, and it works on after the client is closed."""
    with FakeSite("Hello") as site, requests.Session() as session:
        session.headers["X-Session"] = "mine"
        client = client_for(site.url, session=session)
        assert client.generate("Hi").text == "Hello"
        client.close()
        assert session.get(site.url).status_code == 200
        assert site.requests[0].headers["X-Session"] == "mine"


@responses.activate
def test_users_can_test_with_responses(client_for: ClientFor) -> None:
    """The usual mock of requests works, for answers and for errors."""
    responses.post("https://site.example/api/generate", body="Привет", content_type="text/plain")
    responses.post("https://site.example/api/generate", status=429, body="slow down")
    client = client_for("https://site.example", retry=None)
    assert client.generate("Hi").text == "Привет"
    with pytest.raises(RateLimitError, match="slow down"):
        client.generate("Hi")
    assert responses.calls[0].request.headers["Origin"] == "https://site.example"


def test_the_default_limits_are_as_documented() -> None:
    """Ten seconds to connect, a minute of silence, five attempts in five minutes."""
    assert Timeout() == Timeout(connect=10, read=60, total=None)
    assert (RetryPolicy().max_attempts, RetryPolicy().max_elapsed) == (5, 300)


PUBLIC_NAMES = 31


def test_the_public_names_are_these() -> None:
    """Adding or removing a public name is a decision, not an accident."""
    assert len(aichatfree.__all__) == len(set(aichatfree.__all__)) == PUBLIC_NAMES
    assert sorted(aichatfree.__all__) == sorted(dir(aichatfree))
    for name in aichatfree.__all__:
        assert getattr(aichatfree, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        getattr(aichatfree, "nonsense")  # noqa: B009  (mypy would not allow it otherwise)


def test_showing_an_answer_in_a_script_needs_no_notebook_library() -> None:
    """IPython and tqdm's widgets are imported in a notebook only."""
    code = (
        "import sys, aichatfree; from aichatfree.testing import FakeSite\n"
        "with FakeSite('Hello') as site, aichatfree.Client(site.url) as client:\n"
        "    client.stream('Hi').show()\n"
        "    client.batch(['Hi'], progress=True).run()\n"
        "print(*{'IPython', 'ipywidgets', 'tqdm.notebook'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "Hello\n\n"


def test_a_reply_is_a_value() -> None:
    """Replies compare and cannot be changed."""
    make: Callable[[], Reply] = lambda: Reply("a", 1, 2.0, 1.0)  # noqa: E731
    assert make() == make()
    with pytest.raises(AttributeError):
        make().text = "b"  # type: ignore[misc]


@pytest.mark.parametrize("module", ["aichatfree", "aichatfree._cli.commands"])
def test_importing_needs_no_network_library(module: str) -> None:
    """They are imported when a client is made, so that a script and `--help` begin at once."""
    heavy = {"requests", "urllib3", "tenacity", "IPython"}
    code = f"import sys, {module}; print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
