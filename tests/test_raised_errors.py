"""How each error is raised, and that its message says what to do next."""

from __future__ import annotations

import pickle

import pytest

import aichatfree
from aichatfree import APIError, Timeout, errors
from aichatfree.testing import Answer, FakeSite, Raw
from helpers import SHORT, UNREACHABLE, ClientFor

#: For each class: the answer of a site that raises it, and a word of the advice.
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
def test_a_site_can_raise_every_error(client_for: ClientFor, name: str) -> None:
    """Each error is raised for some answer, gives advice, and pickles to an equal error."""
    answer, next_step = CASES[name]
    with FakeSite([answer]) as site:
        client = client_for(
            site.url,
            retry=None,
            timeout=Timeout(read=SHORT),
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
    """The cases cover every error class about requests."""
    leaves = {
        name
        for name, cls in vars(errors).items()
        if isinstance(cls, type) and issubclass(cls, APIError) and cls is not APIError
    }
    assert leaves == set(CASES)


HOSTS = {UNREACHABLE: "refused", "http://no-such-host.invalid": "does not exist"}


@pytest.mark.parametrize(("url", "words"), HOSTS.items())
def test_the_error_for_an_unreachable_site(client_for: ClientFor, url: str, words: str) -> None:
    """If a site cannot be reached, the error says why and which setting to check."""
    with pytest.raises(aichatfree.APIConnectionError, match=words) as caught:
        client_for(url, retry=None).generate("Hi")
    assert "AICHATFREE_BASE_URL" in str(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).message == caught.value.message


def test_the_error_for_https_to_a_site_without_tls(client_for: ClientFor) -> None:
    """The error for https:// to a site without TLS says that no secure connection was possible."""
    with FakeSite("Hello", idle_timeout=SHORT) as site:
        client = client_for(site.url.replace("http:", "https:"), retry=None)
        with pytest.raises(aichatfree.APIConnectionError, match="secure connection"):
            client.generate("Hi")


def test_the_error_for_an_unreachable_proxy(client_for: ClientFor) -> None:
    """If the proxy refuses connections, the error says that it was the proxy."""
    client = client_for("http://site.example", proxies={"http": UNREACHABLE}, retry=None)
    with pytest.raises(aichatfree.APIConnectionError, match="proxy"):
        client.generate("Hi")
