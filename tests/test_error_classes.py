from __future__ import annotations

import pickle
import socket
from collections.abc import Callable

import pytest

import aichatfree
from aichatfree import APIError, Timeout, errors
from aichatfree.testing import Answer, FakeSite, Raw
from helpers import ClientFor

#: For each class: what a site does to raise it, and a word of what to do next.
CASES: dict[str, tuple[Answer | Raw, str]] = {
    "BadRequestError": (Answer(status=400, body="No input text."), "Change"),
    "AuthenticationError": (
        Answer(status=401, body='{"error":{"message":"Invalid password."}}'),
        "AICHATFREE_PASSWORD",
    ),
    "PermissionDeniedError": (
        Answer(status=403, body="<!DOCTYPE html><title>Just a moment...</title>"),
        "another network",
    ),
    "NotFoundError": (Answer(status=404, body="Not found"), "AICHATFREE_BASE_URL"),
    "RateLimitError": (
        Answer(status=429, body="", headers={"Retry-After": "7"}),
        "max_requests_per_minute",
    ),
    "OverloadedError": (Answer(status=503, body=""), "again"),
    "ServerError": (Answer(status=502, body="<html>Bad gateway</html>"), "again"),
    "APIStatusError": (Answer(status=418, body=""), "check base_url="),
    "StreamInterruptedError": (Answer("half", end="cut"), "again"),
    "APITimeoutError": (Answer("half", end="stall"), "Timeout(read="),
    "APIConnectionError": (Raw(b"", end="reset"), "again"),
    "EmptyReplyError": (Answer(), "again"),
    "ReplyTooLargeError": (Answer("x" * 1001), "max_reply_bytes="),
    "ProtocolError": (Answer("<html>", content_type="text/html"), "AICHATFREE_BASE_URL"),
}


@pytest.mark.parametrize("name", CASES)
def test_every_error_can_be_raised_by_a_site_and_travels(client_for: ClientFor, name: str) -> None:
    """It is raised from a real reply, names the next step, and pickles to an equal error."""
    answer, next_step = CASES[name]
    with FakeSite([answer]) as site:
        client = client_for(
            site.url,
            retry=None,
            timeout=Timeout(read=0.3),
            secret="s3cret",
            max_reply_bytes=1000,
        )
        with pytest.raises(APIError) as caught:
            client.generate("prompt-words")
    error = caught.value
    assert type(error) is getattr(aichatfree, name)
    assert next_step in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.args, vars(again)) == (type(error), error.args, vars(error))
    assert "s3cret" not in repr(vars(error))
    assert "prompt-words" not in repr(vars(error))


def test_every_error_class_has_a_case() -> None:
    """No class of the tree is left without a way to meet it."""
    leaves = {
        name
        for name, cls in vars(errors).items()
        if isinstance(cls, type) and issubclass(cls, APIError) and cls is not APIError
    }
    assert leaves == set(CASES)


def closed_port() -> str:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{closed.getsockname()[1]}"


UNREACHABLE: dict[str, tuple[Callable[[], str], str]] = {
    "a dead port": (closed_port, "refused"),
    "no such host": (lambda: "http://no-such-host.invalid", "does not exist"),
}


@pytest.mark.parametrize("kind", UNREACHABLE)
def test_an_unreachable_site_is_told_in_plain_words(client_for: ClientFor, kind: str) -> None:
    """The message says what is wrong with the address and which setting to check."""
    url, words = UNREACHABLE[kind]
    with pytest.raises(aichatfree.APIConnectionError, match=words) as caught:
        client_for(url(), retry=None).generate("Hi")
    assert "AICHATFREE_BASE_URL" in str(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).message == caught.value.message


def test_https_to_a_site_without_tls_is_told(client_for: ClientFor) -> None:
    """A wrong scheme is a connection error that says so."""
    with FakeSite("Hello", idle_timeout=0.5) as site:
        client = client_for(site.url.replace("http:", "https:"), retry=None)
        with pytest.raises(aichatfree.APIConnectionError, match="secure connection"):
            client.generate("Hi")


def test_a_proxy_that_refuses_is_told(client_for: ClientFor) -> None:
    """A dead proxy is named as such."""
    client = client_for("http://site.example", proxies={"http": closed_port()}, retry=None)
    with pytest.raises(aichatfree.APIConnectionError, match="proxy"):
        client.generate("Hi")
