"""The built-in model: SmolLM2-135M-Instruct, in this process."""

from __future__ import annotations

import atexit
import os
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from ..._protocol.messages import Message
from .engine import EngineError
from .weights import fetch_weights, missing_extra

POLL: Final = 0.1
"""Seconds between two looks at ``cancelled`` while the model is silent."""

# Only after a batch of a long prompt does the model look whether it should stop: with 32 tokens
# that is every 0.3 s on a slow core, and reading is no slower than with larger batches.
BATCH_TOKENS: Final = 32

# Found by trying: with a repetition penalty so small a model forgets how to count; without
# anything it falls into loops. DRY breaks the loops only.
SAMPLING: Final[dict[str, float]] = {
    "temperature": 0.0,
    "dry_multiplier": 0.8,
    "dry_allowed_length": 4,
}
SYSTEM: Final[Message] = {
    "role": "system",
    "content": "You are a helpful assistant. Answer briefly.",
}


_SETTLING: Final = 0.3  # seconds until the server's own threads are sure to run


@dataclass
class _Job:
    """One answer to make; ``pieces`` ends with ``None`` or with the error."""

    body: dict[str, Any]
    cancelled: threading.Event
    pieces: queue.SimpleQueue[str | EngineError | None] = field(default_factory=queue.SimpleQueue)
    abandoned: bool = False


class SmolLM2:
    """A model of 135 million parameters that runs in this process, on its processor.

    For demonstration and tests: it understands English only and is often wrong. It needs about
    350 MB of memory; its weights (93 MB) are fetched once, on first use.

    >>> from aichatfree.gateway import Gateway, SmolLM2
    >>> model = SmolLM2(max_tokens=64)
    >>> model.load()
    >>> with Gateway(model) as gateway:
    ...     reply = aichatfree.Client(gateway.url).generate("What is the capital of France?")
    >>> "Paris" in reply.text
    True
    >>> model.close()

    Args:
        path: a GGUF file of your own to use instead; a chat model.
        threads: processor threads for each answer; half of the processor's unless given.
        parallel: answers that are made at the same time; further ones wait their turn.
        context: tokens that one conversation may have, its answer included.
        max_tokens: tokens after which an answer ends.

    Raises:
        ImportError: the extra ``local`` is not installed.
        ValueError: a number is below 1.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        threads: int | None = None,
        parallel: int = 2,
        context: int = 2048,
        max_tokens: int = 1024,
    ) -> None:
        if find_spec("xllamacpp") is None:
            raise ImportError(missing_extra("xllamacpp"))
        if threads is None:
            # All of them at once collapses as soon as anything else runs.
            threads = max(1, (os.cpu_count() or 1) // 2)
        if min(threads, parallel, context, max_tokens) < 1:
            raise ValueError("threads, parallel, context and max_tokens must be at least 1")
        self._path = None if path is None else Path(path)
        self._threads = threads
        self._parallel = parallel
        self._context = context
        self._max_tokens = max_tokens
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._workers: list[threading.Thread] = []
        self._closed = False

    def load(self) -> None:
        """Fetch the weights if need be and load them; does nothing the second time.

        Raises:
            EngineError: the weights could not be fetched or loaded, or this was closed.
        """
        with self._lock:
            if self._closed:
                raise EngineError("The model was closed.", status=503)
            if self._workers:
                return
            server = self._server(fetch_weights() if self._path is None else self._path)
            # The library crashes if the interpreter ends before it.
            atexit.register(self.close)
            for number in range(self._parallel):
                worker = threading.Thread(
                    target=self._work, args=(server,), name=f"smollm2-{number}", daemon=True
                )
                self._workers.append(worker)
                worker.start()

    def _server(self, path: Path) -> Any:
        if not path.is_file():
            raise EngineError(f"There is no model at {path}: give SmolLM2(path=...) a GGUF file.")
        xllamacpp = import_module("xllamacpp")
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_parallel = self._parallel
        params.n_ctx = self._parallel * self._context
        params.n_batch = BATCH_TOKENS
        params.cpuparams.n_threads = self._threads
        params.cache_ram_mib = 0
        params.verbosity = -1
        params.ui = False
        # It always opens a port of its own on the loopback interface: nobody gets in there.
        params.api_keys = [secrets.token_hex(32)]
        try:
            return _made_elsewhere(lambda: xllamacpp.Server(params))
        except RuntimeError as error:
            raise EngineError(f"The model {path} cannot be loaded: is it a GGUF file?") from error

    def generate(
        self,
        messages: list[Message],
        *,
        temperature: float | None,
        cancelled: threading.Event,
    ) -> Iterator[str]:
        """The answer, piece by piece; see :class:`~aichatfree.gateway.Engine`."""
        self.load()
        job = _Job(self._body(messages, temperature), cancelled)
        self._jobs.put(job)
        try:
            while not cancelled.is_set():
                try:
                    piece = job.pieces.get(timeout=POLL)
                except queue.Empty:
                    if self._closed and not any(w.is_alive() for w in self._workers):
                        raise EngineError("The model was closed.", status=503) from None
                    continue
                # Cancelled meanwhile, the model did stop in the middle: as it was asked to.
                if piece is None or cancelled.is_set():
                    return
                if isinstance(piece, EngineError):
                    raise piece
                yield piece
        finally:
            job.abandoned = True

    def _body(self, messages: list[Message], temperature: float | None) -> dict[str, Any]:
        told = any(message["role"] == "system" for message in messages)
        body: dict[str, Any] = {
            **SAMPLING,
            "messages": [dict(m) for m in (messages if told else [SYSTEM, *messages])],
            "max_tokens": self._max_tokens,
            "stream": True,
            # Makes it call back after every batch of the prompt, so that reading can be stopped.
            "return_progress": True,
        }
        if temperature is not None:
            body["temperature"] = temperature
        return body

    def _work(self, server: Any) -> None:
        while (job := self._jobs.get()) is not None:
            if not self._unwanted(job):
                self._run(server, job)

    def _unwanted(self, job: _Job) -> bool:
        return self._closed or job.abandoned or job.cancelled.is_set()

    def _run(self, server: Any, job: _Job) -> None:
        ended: EngineError | None = EngineError("The model stopped in the middle of its answer.")

        def take(event: dict[str, Any]) -> bool:
            # An exception in here would vanish in the library.
            nonlocal ended
            if "error" in event:
                ended = _engine_error(event["error"])
                return True
            for choice in event.get("choices", ()):
                if text := choice.get("delta", {}).get("content"):
                    job.pieces.put(text)
                if choice.get("finish_reason"):
                    ended = None
            return self._unwanted(job)

        try:
            server.handle_chat_completions(job.body, take)
        except Exception as error:
            ended = EngineError(f"The model failed ({error}).")
        job.pieces.put(ended)

    def close(self) -> None:
        """Stop the running answers and give the memory back; does nothing the second time."""
        with self._lock:
            self._closed = True
            workers = self._workers
            for _ in workers:
                self._jobs.put(None)
        for worker in workers:
            worker.join()
        atexit.unregister(self.close)


def _engine_error(error: dict[str, Any]) -> EngineError:
    if error.get("type") == "exceed_context_size_error":
        return EngineError(
            f"The conversation is too long for this model: it has {error.get('n_prompt_tokens')} "
            f"tokens, and {error.get('n_ctx')} are the limit. Shorten it.",
            status=400,
            code="context_length_exceeded",
        )
    status = 400 if error.get("code") == 400 else 500
    return EngineError(f"The model refused: {error.get('message')}", status=status)


def _made_elsewhere(make: Callable[[], Any]) -> Any:
    """What ``make`` gives, made in another thread.

    Ctrl-C is raised in the main thread as soon as native code returns there. A server that was
    dropped in the very moment when it was made never ends; this one is let settle first.
    """
    made: list[Any] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            made.append(make())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="smollm2-load", daemon=True)
    thread.start()
    try:
        thread.join()
    except BaseException:
        thread.join()
        time.sleep(_SETTLING)
        raise
    if failed:
        raise failed[0]
    return made[0]
