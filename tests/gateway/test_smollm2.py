"""The built-in model: the real one, with its real weights."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from aichatfree import Client
from aichatfree._protocol.messages import Message
from aichatfree.errors import BadRequestError
from aichatfree.gateway import EngineError, Gateway, SmolLM2


def asking(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]


def generate(engine: SmolLM2, text: str, cancelled: threading.Event | None = None) -> Iterator[str]:
    return engine.generate(asking(text), temperature=None, cancelled=cancelled or threading.Event())


def seconds_to_first_piece(engine: SmolLM2) -> float:
    started = time.monotonic()
    next(generate(engine, "Hello!"))
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


LONG = "Write a long story about the sea, in many chapters."


@pytest.mark.parametrize("dialect", ["gemini", "openai"])
def test_a_client_gets_an_answer_from_this_machine(gateway: Gateway, dialect: str) -> None:
    """Signed question in, streamed answer out, in both dialects."""
    with (
        Client(gateway.url, dialect=dialect, secret="key", password="sesame") as client,
        client.stream("What is the capital of France?") as stream,
    ):
        chunks = list(stream)
    assert stream.complete
    assert len(chunks) > 3
    assert "Paris" in stream.text


def test_the_same_question_has_the_same_answer(engine: SmolLM2) -> None:
    """Without a temperature nothing is left to chance."""
    assert list(generate(engine, "Hello!")) == list(generate(engine, "Hello!"))


def test_a_conversation_that_is_too_long_is_refused(gateway: Gateway) -> None:
    """It is a 400 that says how long it was and how long it may be."""
    with (
        Client(gateway.url, secret="key", password="sesame") as client,
        pytest.raises(BadRequestError, match=r"\d+ tokens, and 512 are the limit"),
    ):
        client.generate("word " * 2000)


def test_a_cancelled_answer_ends_soon(engine: SmolLM2) -> None:
    """It stops within a few tokens, and the next one is answered."""
    cancelled = threading.Event()
    pieces = generate(engine, LONG, cancelled)
    next(pieces)
    cancelled.set()
    started = time.monotonic()
    assert len(list(pieces)) < 20
    assert time.monotonic() - started < 0.5
    assert "".join(generate(engine, "Hello!"))


def test_an_answer_is_cancelled_while_the_question_is_read(engine: SmolLM2) -> None:
    """Giving up on a long question frees the model before it has read it."""
    cancelled = threading.Event()
    threading.Timer(0.2, cancelled.set).start()
    list(generate(engine, "word " * 420, cancelled))
    assert seconds_to_first_piece(engine) < 2


class SetBySecondLookOfTheModel(threading.Event):
    """Not set until the model looks at it for the second time, while it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def is_set(self) -> bool:
        if threading.current_thread().name.startswith("smollm2"):
            self.looks += 1
            if self.looks == 2:
                self.set()
        return super().is_set()


def test_the_model_may_notice_first_that_it_is_cancelled(engine: SmolLM2) -> None:
    """Whichever thread sees it first, a cancelled answer ends without an error."""
    cancelled = SetBySecondLookOfTheModel()
    assert list(generate(engine, LONG, cancelled)) == []
    assert cancelled.looks == 2


def test_a_turn_is_waited_for_and_can_be_given_up(engine: SmolLM2) -> None:
    """With both places taken a third answer waits; cancelled there, it never begins."""
    running = [generate(engine, LONG) for _ in range(2)]
    for pieces in running:
        next(pieces)
    cancelled = threading.Event()
    third = generate(engine, LONG, cancelled)
    threading.Timer(0.3, cancelled.set).start()
    started = time.monotonic()
    assert list(third) == []
    assert time.monotonic() - started < 0.8
    for pieces in running:
        pieces.close()  # type: ignore[attr-defined]
    assert seconds_to_first_piece(engine) < 2


@pytest.mark.parametrize(
    "text", ["\0", "👋🏽", "<|im_end|>", "<|im_start|>system", "\ufffd\u2028", "{{ x }}"]
)
def test_strange_texts_are_just_texts(engine: SmolLM2, text: str) -> None:
    """Special marks and characters do not disturb the model."""
    assert all(isinstance(piece, str) for piece in islice(generate(engine, text), 5))


def test_an_answer_ends_at_its_limit() -> None:
    """`max_tokens` is a limit and not an error."""
    engine = SmolLM2(max_tokens=5, context=256)
    try:
        assert 1 <= len(list(generate(engine, LONG))) <= 5
    finally:
        engine.close()


def test_closing_stops_running_answers() -> None:
    """An answer breaks with an error, later questions are refused, closing twice is closing."""
    before = set(threading.enumerate())
    engine = SmolLM2(context=256, parallel=1)
    pieces = generate(engine, LONG)
    next(pieces)
    started = time.monotonic()
    engine.close()
    engine.close()
    assert time.monotonic() - started < 1
    with pytest.raises(EngineError):
        list(pieces)
    with pytest.raises(EngineError, match="closed"):
        list(generate(engine, "Hello!"))
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize(
    "then", ["pass", "next(pieces)", "next(pieces); raise SystemExit(0)", "gateway.close()"]
)
def test_the_interpreter_ends_well_without_a_close(engine: SmolLM2, then: str) -> None:
    """A script that forgets to close the model does not crash at its end."""
    script = (
        "import threading; from aichatfree.gateway import *\n"
        "engine = SmolLM2(context=256); engine.load(); gateway = Gateway(engine)\n"
        "pieces = engine.generate([{'role': 'user', 'content': 'Count to 100'}],"
        " temperature=None, cancelled=threading.Event())\n" + then
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    """A missing file and a wrong one each give an error with the path."""
    wrong = tmp_path / "model.gguf"
    with pytest.raises(EngineError, match=r"no model at .*model\.gguf"):
        SmolLM2(wrong).load()
    wrong.write_bytes(b"not a model")
    with pytest.raises(EngineError, match=r"model\.gguf cannot be loaded"):
        SmolLM2(wrong).load()


@pytest.mark.parametrize("wrong", ["threads", "parallel", "context", "max_tokens"])
def test_a_limit_of_nothing_is_refused(wrong: str) -> None:
    """Every number must be at least 1."""
    with pytest.raises(ValueError, match="at least 1"):
        SmolLM2(**{wrong: 0})  # type: ignore[arg-type]
