"""Answers that are large, or never end."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import Any

import pytest

from aichatfree import AuthenticationError, ReplyTooLargeError
from aichatfree.testing import Answer, FakeSite, Raw
from helpers import LONG, ClientFor

MEGABYTE = 1_000_000


@contextmanager
def memory_limit(size: int) -> Iterator[None]:
    """Fails if the block allocates more bytes than this at any time."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < size


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
def test_50_megabytes_need_the_memory_of_their_text(client_for: ClientFor, framing: Any) -> None:
    """Reading an answer of 50 MB takes no more memory than its text, which the stream keeps."""
    size = 50 * MEGABYTE
    answer = Answer(*["x" * 50_000] * (size // 50_000), framing=framing)
    with FakeSite(answer) as site:
        client = client_for(site.url, max_reply_bytes=size)
        with memory_limit(size + 5 * MEGABYTE), client.stream("Hi") as stream:
            received = sum(map(len, stream))
    assert received == size


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_an_endless_answer_ends_at_the_default_limit(client_for: ClientFor, framing: Any) -> None:
    """An answer is cancelled after 16 MiB by default; the error has the text up to there."""
    with FakeSite(Answer(stream=repeat("x" * 65_536), framing=framing)) as site:
        client = client_for(site.url)
        with pytest.raises(ReplyTooLargeError, match="16777216 bytes") as caught:
            client.generate("Hi")
        assert len(caught.value.partial_text) == 16 << 20
        assert len(site.requests) == 1
        assert site.requests[0].disconnected.wait(LONG)


def test_an_answer_may_be_exactly_as_long_as_the_limit(client_for: ClientFor) -> None:
    """An answer of max_reply_bytes is complete, and one more byte is an error."""
    with FakeSite([Answer("x" * 600, "y" * 400), Answer("x" * 600, "y" * 401)]) as site:
        client = client_for(site.url, max_reply_bytes=1000)
        assert len(client.generate("Hi").text) == 1000
        with pytest.raises(ReplyTooLargeError) as caught:
            client.generate("Hi")
        assert caught.value.partial_text == "x" * 600 + "y" * 400


def test_a_chunk_beyond_the_limit_is_not_read_into_memory(client_for: ClientFor) -> None:
    """Of a single chunk of 200 MB no more is held in memory than max_reply_bytes allows."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with FakeSite(Raw(head, b"bebc200\r\n", *[b"x" * 100_000] * 2000)) as site:
        client = client_for(site.url, max_reply_bytes=MEGABYTE)
        with memory_limit(5 * MEGABYTE), pytest.raises(ReplyTooLargeError):
            client.generate("Hi")


def test_max_reply_bytes_does_not_limit_error_bodies(client_for: ClientFor) -> None:
    """The message of an error response is read even if it is longer than max_reply_bytes."""
    refusal = Answer(status=401, body='{"error":{"message":"Invalid password."}}')
    with (
        FakeSite(refusal) as site,
        pytest.raises(AuthenticationError, match="Invalid password"),
    ):
        client_for(site.url, max_reply_bytes=20).generate("Hi")
