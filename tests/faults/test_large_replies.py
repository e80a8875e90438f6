"""Replies that are large, or do not end."""

from __future__ import annotations

import tracemalloc
from itertools import repeat
from typing import Any

import pytest

from aichatfree import AuthenticationError, ReplyTooLargeError
from aichatfree.testing import Answer, FakeSite, Raw
from helpers import ClientFor

MEGABYTE = 1_000_000


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
def test_50_megabytes_need_the_memory_of_their_text(client_for: ClientFor, framing: Any) -> None:
    """Nothing is held but the text, which the stream keeps to be read again."""
    size = 50 * MEGABYTE
    answer = Answer(*["x" * 50_000] * (size // 50_000), framing=framing)
    with FakeSite(answer) as site:
        client = client_for(site.url, max_reply_bytes=size)
        tracemalloc.start()
        try:
            with client.stream("Hi") as stream:
                received = sum(map(len, stream))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert received == size
    assert peak < size + 5 * MEGABYTE


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_an_endless_answer_ends_at_its_limit(client_for: ClientFor, framing: Any) -> None:
    """It is given up after 16 MiB unless told otherwise, with what came before."""
    with FakeSite(Answer(stream=repeat("x" * 65_536), framing=framing)) as site:
        client = client_for(site.url)
        with pytest.raises(ReplyTooLargeError, match="16777216 bytes") as caught:
            client.generate("Hi")
        assert len(caught.value.partial_text) == 16 << 20
        assert len(site.requests) == 1
        assert site.requests[0].disconnected.wait(5)


def test_an_answer_as_long_as_its_limit_is_whole(client_for: ClientFor) -> None:
    """The limit is what an answer may have; one byte more is too much."""
    with FakeSite([Answer("x" * 600, "y" * 400), Answer("x" * 600, "y" * 401)]) as site:
        client = client_for(site.url, max_reply_bytes=1000)
        assert len(client.generate("Hi").text) == 1000
        with pytest.raises(ReplyTooLargeError) as caught:
            client.generate("Hi")
        assert caught.value.partial_text == "x" * 600 + "y" * 400


def test_a_chunk_beyond_the_limit_is_not_read_to_its_end(client_for: ClientFor) -> None:
    """Its size is the site's word; only the limit is taken into memory."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with FakeSite(Raw(head, b"bebc200\r\n", *[b"x" * 100_000] * 2000)) as site:
        client = client_for(site.url, max_reply_bytes=MEGABYTE)
        tracemalloc.start()
        try:
            with pytest.raises(ReplyTooLargeError):
                client.generate("Hi")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 5 * MEGABYTE


def test_the_limit_is_for_answers_and_not_for_errors(client_for: ClientFor) -> None:
    """What an error reply says is read, however short an answer has to be."""
    refusal = Answer(status=401, body='{"error":{"message":"Invalid password."}}')
    with (
        FakeSite(refusal) as site,
        pytest.raises(AuthenticationError, match="Invalid password"),
    ):
        client_for(site.url, max_reply_bytes=20).generate("Hi")
