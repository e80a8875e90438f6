"""How `OpenAIUpstream` tells a complete answer from an incomplete one, and what it counts."""

from __future__ import annotations

import pytest

from aichatfree.gateway import EngineError, TokenLimitError, Usage

from .openai_server import CHUNKED, DONE, OK, Server, event, generate, in_chunks, upstream


@pytest.mark.parametrize("end", [DONE, event(finish_reason="stop"), b"data: [DONE]"])
def test_an_answer_is_complete_after_a_finish_reason_or_done(end: bytes) -> None:
    """An answer is complete after a finish reason or `[DONE]`; not every server sends both."""
    with Server(OK, event("a"), end) as server, upstream(server.url) as engine:
        assert list(generate(engine)) == ["a"]


@pytest.mark.parametrize(
    ("reason", "error", "status"),
    [
        ("length", TokenLimitError, 502),
        ("content_filter", EngineError, 400),
        ("error", EngineError, 502),
    ],
)
def test_a_reason_that_means_an_incomplete_answer_is_an_error(
    reason: str, error: type[EngineError], status: int
) -> None:
    """An answer that stopped at a limit of tokens, or because of its content, ends with an error
    after what has arrived of it.
    """
    end = event(finish_reason=reason)
    with Server(OK, event("a"), end, DONE) as server, upstream(server.url) as engine:
        chunks = generate(engine)
        assert next(chunks) == "a"
        with pytest.raises(error) as caught:
            next(chunks)
    assert caught.value.status == status


def test_an_empty_finish_reason_does_not_end_an_answer() -> None:
    """Some servers send an empty finish reason with each chunk, which says nothing."""
    with (
        Server(OK, event("a", finish_reason="")) as server,
        upstream(server.url) as engine,
        pytest.raises(EngineError, match="before it was complete"),
    ):
        list(generate(engine))


@pytest.mark.parametrize(
    ("usage", "known"),
    [
        (b'{"prompt_tokens": 5, "completion_tokens": 2}', [Usage(5, 2)]),
        (b'{"prompt_tokens": null}', []),
        (b"null", []),
    ],
)
def test_the_usage_comes_after_the_last_chunk(usage: bytes, known: list[Usage]) -> None:
    """The tokens that a server counts are reported at the end of the answer, if it counts them."""
    counts = b'data: {"choices": [], "usage": ' + usage + b"}\n\n"
    end = event(finish_reason="stop")
    with Server(OK, event("a"), end, counts, DONE) as server, upstream(server.url) as engine:
        assert list(generate(engine)) == ["a", *known]


@pytest.mark.parametrize("chunked", [False, True])
def test_an_answer_without_either_mark_is_incomplete(chunked: bool) -> None:
    """If the response ends without a finish reason or `[DONE]`, the answer ends with an error."""
    parts = in_chunks([event("a")]) if chunked else [event("a")]
    with Server(CHUNKED if chunked else OK, *parts) as server, upstream(server.url) as engine:
        chunks = generate(engine)
        assert next(chunks) == "a"
        with pytest.raises(EngineError, match="before it was complete") as caught:
            next(chunks)
    assert caught.value.status == 502
