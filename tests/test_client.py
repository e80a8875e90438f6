"""One prompt to a site: what is sent, what comes back, and what cannot be sent."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from aichatfree._signing_clock import SigningClock
from aichatfree.testing import Answer, FakeSite
from helpers import ClientFor, is_signed, run_python


def test_a_reply_prints_as_its_text(client_for: ClientFor) -> None:
    """str(reply) is the text of the answer; its other attributes are numbers about it."""
    with FakeSite([Answer("Hi", " there", gap=0.05)]) as site:
        reply = client_for(site.url).generate("Hello")
        assert str(reply) == reply.text == "Hi there"
        assert reply.attempts == 1
        assert 0 < reply.time_to_first_chunk < reply.elapsed


def test_messages_can_be_streamed(client_for: ClientFor) -> None:
    """A list of messages is sent signed, and its answer is returned chunk by chunk."""
    messages = [{"role": "user", "content": "Hello, how are you?"}]
    with FakeSite(Answer("I am", " fine")) as site:
        assert list(client_for(site.url).stream(messages)) == ["I am", " fine"]
        assert is_signed(site.requests[0])


@pytest.mark.parametrize("dialect", ["gemini", "openai"])
def test_a_conversation_is_sent_in_the_sites_dialect(client_for: ClientFor, dialect: str) -> None:
    """A conversation is sent, and signed, in the form of the site's dialect."""
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
        assert is_signed(site.requests[0], "s3")


def test_the_temperature_is_sent_where_the_dialect_has_one(client_for: ClientFor) -> None:
    """A temperature is sent in the openai dialect, and is a ValueError in the gemini dialect."""
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
def test_a_prompt_that_cannot_be_sent_is_rejected(
    client_for: ClientFor, kind: str, method: str
) -> None:
    """A prompt that cannot be sent is an error of the call itself, and nothing is sent."""
    prompt, error, words = BAD_PROMPTS[kind]
    with FakeSite("Hello") as site:
        with pytest.raises(error, match=words):
            getattr(client_for(site.url), method)(prompt)
        assert site.requests == []


def test_a_lone_surrogate_is_replaced_before_signing(client_for: ClientFor) -> None:
    """A lone surrogate is sent and signed as U+FFFD, so that the site accepts the signature."""
    with FakeSite("Hello", verify=True) as site:
        assert client_for(site.url).generate("a\ud800b \ud83d\ude00").text == "Hello"
        assert site.requests[0].text == "a\ufffdb 😀"


def test_no_two_requests_have_the_same_time(client_for: ClientFor) -> None:
    """Equal prompts of many threads have different times, so that no site sees a replay."""
    with FakeSite("Hello") as fake:
        client = client_for(fake.url)
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda _: client.with_options().generate("Again"), range(200)))
        times = [request.json["time"] for request in fake.requests]
    assert len(set(times)) == 200
    assert abs(max(times) / 1000 - time.time()) < 60


def test_the_time_of_many_requests_stays_near_the_clock() -> None:
    """The time of a request is at most a second ahead, even with 10,000 requests at once."""
    clock = SigningClock()
    assert max(clock.now() for _ in range(10_000)) < time.time() + 1.01


def test_showing_an_answer_in_a_script_needs_no_notebook_library() -> None:
    """show() and a progress bar import IPython and ipywidgets only in a notebook."""
    code = """
        import sys, aichatfree
        from aichatfree.testing import FakeSite
        with FakeSite("Hello") as site, aichatfree.Client(site.url) as client:
            client.stream("Hi").show()
            client.batch(["Hi"], progress=True).run()
        print(*{"IPython", "ipywidgets", "tqdm.notebook"} & set(sys.modules))
    """
    done = run_python(code)
    assert done.stdout == "Hello\n\n"


@pytest.mark.parametrize("module", ["aichatfree", "aichatfree._cli.main"])
def test_importing_needs_no_network_library(module: str) -> None:
    """requests, urllib3, tenacity and IPython are not imported with the package or the CLI."""
    heavy = {"requests", "urllib3", "tenacity", "IPython"}
    code = f"import sys, {module}; print(*{heavy} & set(sys.modules))"
    done = run_python(code)
    assert done.stdout == "\n"
