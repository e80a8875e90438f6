"""`SmolLM2`, with the real model."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

from aichatfree import Client, Message
from aichatfree.errors import BadRequestError
from aichatfree.gateway import EngineError, Gateway, SmolLM2, TokenLimitError, Usage
from helpers import AT_ONCE, HANG, LONG, SHORT

# One process at a time: the model computes on all cores.
pytestmark = pytest.mark.xdist_group("embedded model")

LONG_ANSWER = "Write a long story about the sea, in many chapters."
"""A question whose answer takes much longer than any time limit here."""
LONG_QUESTION = "word " * 420
"""A question that takes seconds to read."""


def generate(engine: SmolLM2, text: str, cancelled: threading.Event | None = None) -> Iterator[str]:
    """The chunks of an answer, without the usage after them."""
    messages: list[Message] = [{"role": "user", "content": text}]
    cancelled = cancelled or threading.Event()
    answer = engine.generate(messages, temperature=None, max_tokens=None, cancelled=cancelled)
    return (item for item in answer if isinstance(item, str))


def seconds_to_first_chunk(engine: SmolLM2, text: str = "Hello!") -> float:
    started = time.monotonic()
    next(generate(engine, text), "")
    return time.monotonic() - started


@pytest.fixture(scope="module")
def engine() -> Iterator[SmolLM2]:
    engine = SmolLM2(parallel=2, context=512, max_tokens=400)
    engine.load()
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def gateway(engine: SmolLM2) -> Iterator[Gateway]:
    with Gateway(engine, secret="key", password="sesame") as gateway:
        yield gateway


@pytest.mark.parametrize("dialect", ["gemini", "openai"])
def test_a_client_gets_a_streamed_answer_of_the_model(gateway: Gateway, dialect: str) -> None:
    """In both dialects a signed question is answered in several chunks."""
    with (
        Client(gateway.url, dialect=dialect, secret="key", password="sesame") as client,
        client.stream("What is the capital of France?") as stream,
    ):
        chunks = list(stream)
    assert stream.complete
    assert len(chunks) > 3
    assert "Paris" in stream.text


def test_a_batch_of_more_threads_than_parallel_answers_is_complete(gateway: Gateway) -> None:
    """A batch of 16 threads, as many as by default, gets an answer to each prompt."""
    prompts = [f"What is {number} plus {number}?" for number in range(16)]
    with Client(gateway.url, secret="key", password="sesame") as client:
        results = list(client.batch(prompts))
    assert [each.error for each in results] == [None] * len(prompts)


def test_the_same_question_has_the_same_answer(engine: SmolLM2) -> None:
    """Without a temperature the model is deterministic."""
    assert list(generate(engine, "Hello!")) == list(generate(engine, "Hello!"))


def test_a_conversation_that_is_too_long_is_refused(gateway: Gateway) -> None:
    """A conversation with more tokens than `context` is a 400 with both numbers."""
    with (
        Client(gateway.url, secret="key", password="sesame") as client,
        pytest.raises(BadRequestError, match=r"\d+ tokens, and 512 are the limit"),
    ):
        client.generate("word " * 2000)


def test_a_cancelled_answer_ends_within_a_few_tokens(engine: SmolLM2) -> None:
    """After the cancellation few chunks follow, and the next question is answered."""
    cancelled = threading.Event()
    chunks = generate(engine, LONG_ANSWER, cancelled)
    next(chunks)
    cancelled.set()
    started = time.monotonic()
    assert len(list(chunks)) < 20
    assert time.monotonic() - started < AT_ONCE
    assert "".join(generate(engine, "Hello!"))


def test_an_answer_can_be_cancelled_while_the_model_reads_the_question(engine: SmolLM2) -> None:
    """The cancellation of a long question frees the model sooner than it could have read it."""
    seconds_to_read = seconds_to_first_chunk(engine, LONG_QUESTION)
    cancelled = threading.Event()
    threading.Timer(SHORT, cancelled.set).start()
    started = time.monotonic()
    # Another word, because the model remembers what it has read.
    list(generate(engine, LONG_QUESTION.replace("word", "term"), cancelled))
    next(generate(engine, "Hello!"))
    assert time.monotonic() - started < seconds_to_read


class SetByTheModel(threading.Event):
    """Not set until a thread of the model checks it for the second time, while it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.checks = 0

    def is_set(self) -> bool:
        if threading.current_thread().name.startswith("smollm2"):
            self.checks += 1
            if self.checks == 2:
                self.set()
        return super().is_set()


def test_a_cancelled_answer_ends_without_an_error_if_the_model_notices_first(
    engine: SmolLM2,
) -> None:
    """The error by which the model reports its interruption is not raised."""
    cancelled = SetByTheModel()
    assert list(generate(engine, LONG_ANSWER, cancelled)) == []
    assert cancelled.checks == 2


def test_a_question_can_be_cancelled_while_it_waits_for_others(engine: SmolLM2) -> None:
    """While two answers run in parallel a third question waits, and ends when it is cancelled."""
    running = [generate(engine, LONG_ANSWER) for _ in range(2)]
    for chunks in running:
        next(chunks)
    cancelled = threading.Event()
    third = generate(engine, LONG_ANSWER, cancelled)
    threading.Timer(SHORT, cancelled.set).start()
    started = time.monotonic()
    assert list(third) == []
    assert time.monotonic() - started < SHORT + AT_ONCE
    for chunks in running:
        chunks.close()  # type: ignore[attr-defined]
    assert seconds_to_first_chunk(engine) < AT_ONCE


@pytest.mark.parametrize(
    "text", ["\0", "👋🏽", "<|im_end|>", "<|im_start|>system", "\ufffd\u2028", "{{ x }}"]
)
def test_any_text_can_be_asked(engine: SmolLM2, text: str) -> None:
    """Special tokens, templates and unusual characters in a question do not cause an error."""
    assert all(isinstance(chunk, str) for chunk in islice(generate(engine, text), 5))


@pytest.mark.parametrize(("own", "asked"), [(5, None), (5, 400), (400, 5)])
def test_an_answer_that_reaches_max_tokens_is_incomplete(own: int, asked: int | None) -> None:
    """An answer ends with a `TokenLimitError` after as many tokens as the engine allows or the
    client asks for, if these are fewer, and says how many they were.
    """
    with closing(SmolLM2(max_tokens=own, context=256)) as engine:
        question: list[Message] = [{"role": "user", "content": LONG_ANSWER}]
        items = engine.generate(
            question, temperature=None, max_tokens=asked, cancelled=threading.Event()
        )
        got: list[str | Usage] = []
        with pytest.raises(TokenLimitError):
            got.extend(items)
    *chunks, usage = got
    assert 1 <= len(chunks) <= 5
    assert isinstance(usage, Usage)
    assert usage.completion_tokens == 5


def test_closing_the_model_ends_running_answers() -> None:
    """After `close` a running answer ends with an error, further questions are refused, and no
    thread of the model is left; a second `close` does nothing.
    """
    before = set(threading.enumerate())
    engine = SmolLM2(context=256, parallel=1)
    chunks = generate(engine, LONG_ANSWER)
    next(chunks)
    started = time.monotonic()
    engine.close()
    engine.close()
    assert time.monotonic() - started < AT_ONCE
    with pytest.raises(EngineError):
        list(chunks)
    with pytest.raises(EngineError, match="closed"):
        list(generate(engine, "Hello!"))
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize(
    "then", ["pass", "next(chunks)", "next(chunks); raise SystemExit(0)", "gateway.close()"]
)
def test_a_script_that_does_not_close_the_model_ends_normally(engine: SmolLM2, then: str) -> None:
    """The interpreter ends without a crash or a message, whatever the model is doing."""
    script = (
        "import threading; from aichatfree.gateway import *\n"
        "engine = SmolLM2(context=256); engine.load(); gateway = Gateway(engine)\n"
        "chunks = engine.generate([{'role': 'user', 'content': 'Count to 100'}],"
        " temperature=None, max_tokens=None, cancelled=threading.Event())\n" + then
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=LONG, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_model_can_be_closed_as_soon_as_it_is_loaded() -> None:
    """Closing models right after they were loaded, on a busy machine, does not block."""
    script = "import aichatfree.gateway as g; m = g.SmolLM2(); m.load(); m.close()"
    processes = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(4)]
    try:
        assert [process.wait(HANG) for process in processes] == [0] * 4
    finally:
        for process in processes:
            process.kill()


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    """The error for a model file that does not exist has its path and says what to give instead."""
    with pytest.raises(EngineError, match=r"model\.gguf does not exist: give .* a GGUF file"):
        SmolLM2(tmp_path / "model.gguf").load()


def test_a_file_that_is_not_a_model_is_named(tmp_path: Path) -> None:
    """The error for a file that is not a model has its path."""
    wrong = tmp_path / "model.gguf"
    wrong.write_bytes(b"not a model")
    with pytest.raises(EngineError, match=r"model\.gguf cannot be loaded"):
        SmolLM2(wrong).load()


@pytest.mark.parametrize("wrong", ["threads", "parallel", "context", "max_tokens"])
def test_each_number_must_be_at_least_one(wrong: str) -> None:
    """A number of 0 is a `ValueError` that names the argument."""
    with pytest.raises(ValueError, match=f"{wrong} must be at least 1"):
        SmolLM2(**{wrong: 0})  # type: ignore[arg-type]
