"""Answers that stopped at a limit of tokens, in the chat sites' protocol, which cannot say so."""

from __future__ import annotations

import pytest

from aichatfree import Client
from aichatfree.errors import StreamInterruptedError
from aichatfree.gateway import Gateway, TokenLimitError
from helpers import signed_body

from .connections import read_to_end, send
from .engines import ScriptedEngine


@pytest.mark.parametrize("dialect", ["gemini", "openai"])
def test_an_answer_that_stopped_at_a_limit_of_tokens_is_incomplete(dialect: str) -> None:
    """By default the answer is cut off; a client is told why, and does not ask again in vain."""
    with (
        Gateway(ScriptedEngine("so far", error=TokenLimitError())) as gateway,
        Client(gateway.url, dialect=dialect) as client,
        pytest.raises(StreamInterruptedError, match=r"stopped early \(length\)") as caught,
    ):
        client.generate("Hello")
    assert (caught.value.partial_text, caught.value.attempts) == ("so far", 1)


def test_allow_truncated_makes_it_complete() -> None:
    """With `allow_truncated` clients get the text as a complete answer."""
    engine = ScriptedEngine("so far", error=TokenLimitError())
    with Gateway(engine, allow_truncated=True) as gateway, Client(gateway.url) as client:
        assert client.generate("Hello").text == "so far"


@pytest.mark.parametrize(("allow", "status"), [(False, b"500"), (True, b"200")])
def test_the_same_holds_for_a_client_that_gets_no_stream(allow: bool, status: bytes) -> None:
    """An HTTP/1.0 client gets an error, or the text if truncated answers are allowed."""
    engine = ScriptedEngine("so far", error=TokenLimitError())
    with Gateway(engine, allow_truncated=allow) as gateway:
        response = read_to_end(send(gateway, signed_body(), version="1.0"))
    assert response.split(b" ", 2)[1] == status
    assert (b"so far" in response) is allow
