"""Failures, events and reasoning that chunks divide in unusual places."""

from __future__ import annotations

import time

import pytest

from aichatfree._protocol.decoding import ReplyDecoder
from aichatfree.errors import APIError, RateLimitError, ServerError, StreamInterruptedError

EVENT = 'data: {"choices":[{"delta":{"content":"Hello"},"finish_reason":"stop"}]}\n\n'
REFUSAL = "Rate limit exceeded. Please try again later."
TRACE = (
    "Traceback (most recent call last):\n"
    + '  File "/app/server.py", line 12, in generate\n    reply = model.generate(prompt)\n' * 9
    + "ValueError: the list is empty"
)
PAGE = "<html><head><title>502 Bad Gateway</title></head><body>502</body></html>"


def decode(*chunks: str) -> tuple[str, type[APIError] | None]:
    """The text of the chunks of a framed body, and the class of the failure that it ends with."""
    decoder = ReplyDecoder(framed=True)
    text = "".join([decoder.feed(chunk.encode()) for chunk in chunks])
    rest, error = decoder.finish()
    return text + rest, None if error is None else type(error)


@pytest.mark.parametrize("length", range(1, 8))
def test_an_event_may_be_divided_anywhere(length: int) -> None:
    """The first event of an unlabelled stream is one, however short the first chunk is."""
    assert decode(EVENT[:length], EVENT[length:]) == ("Hello", None)


@pytest.mark.parametrize("chunks", [(" 1945.",), (" 1945", "."), (" 19", "45.")], ids=repr)
def test_a_number_at_the_end_of_a_chunk_does_not_end_a_list(chunks: tuple[str, ...]) -> None:
    """Whether an honest last paragraph is one does not depend on the chunks of the text before."""
    last = "\n\nThe queue was full."
    text = "The war ended in" + "".join(chunks) + last
    assert decode("The war ended in", *chunks, last) == (text, None)


def test_space_after_reasoning_is_not_text() -> None:
    """Empty lines between the reasoning and the answer are left out, also as chunks."""
    assert decode("<think>Hm.</think>", "\n\n", "The answer") == ("The answer", None)


def test_a_notice_after_empty_lines_is_the_whole_answer() -> None:
    """After nothing but empty lines, a notice has the class of what it says."""
    _, error = decode("\n\n", "[upstream error 429] Too many requests")
    assert error is RateLimitError


@pytest.mark.parametrize(
    ("before", "refusal"),
    [
        ("The river flows through", REFUSAL),
        ("长江流经", REFUSAL),
        ("Река течёт", "Слишком много запросов. Попробуйте позже."),
        ("It has three arms,", REFUSAL),
        ("The river flows through", PAGE),
    ],
)
def test_a_refusal_that_is_glued_to_a_long_answer_is_found(before: str, refusal: str) -> None:
    """A refusal right behind an unfinished sentence, in its own chunk, makes it incomplete."""
    long = "A sentence of an answer. " * 30
    assert decode(long, before, refusal) == (long + before, StreamInterruptedError)


def test_a_bare_stack_trace_is_an_error_and_no_text() -> None:
    """Of a long traceback in small chunks nothing is returned, since it may be a site's failure."""
    pieces = [TRACE[start : start + 7] for start in range(0, len(TRACE), 7)]
    assert decode(*pieces) == ("", ServerError)


@pytest.mark.parametrize("around", ["```\n{}\n```", "{}\n\nThe last line says why.", "So:\n{}"])
def test_a_stack_trace_with_an_explanation_or_a_fence_is_text(around: str) -> None:
    """A traceback that is fenced, or has words before or after it, is a part of an answer."""
    text = around.format(TRACE)
    pieces = [text[start : start + 7] for start in range(0, len(text), 7)]
    assert decode(*pieces) == (text, None)


@pytest.mark.parametrize("size", [3, 5, 11, 5000])
def test_a_failure_after_a_cut_sentence_is_found_in_chunks_of_any_size(size: int) -> None:
    """A proxy may merge a last paragraph that tells of a failure into the text before it."""
    long = (
        "A sentence of an answer. " * 30
        + "The towers of the cathedral were built by masons from the"
    )
    body = f"{long}\n\nThe upstream server closed the connection. Please try again later."
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    assert decode(*pieces) == (long, StreamInterruptedError)


def test_an_error_that_is_null_is_not_awaited() -> None:
    """A JSON object whose error is null is returned at once."""
    decoder = ReplyDecoder(framed=True)
    assert decoder.feed(b'{"error": null, ') == '{"error": null, '


@pytest.mark.parametrize("unit", ["[", "[ [", "\n\n["])
def test_many_marks_in_one_chunk_take_little_time(unit: str) -> None:
    """A chunk of 800 kB that could begin a notice at each place is looked at in a few seconds."""
    started = time.process_time()
    decode("x", unit * (800_000 // len(unit)))
    assert time.process_time() - started < 5
