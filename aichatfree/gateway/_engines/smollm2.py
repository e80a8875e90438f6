"""The built-in model: SmolLM2-135M-Instruct, in this process."""

from __future__ import annotations

import atexit
import os
import queue
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, Final

from ..._arguments import check_number
from ..._protocol.messages import Message
from .._dependencies import import_dependency
from .engine import Engine, EngineError, TokenLimitError, Usage
from .model_file import MODEL_FILE, download_model

POLL_INTERVAL: Final = 0.1
"""Seconds between two checks of ``cancelled`` while the model is silent."""

BATCH_TOKENS: Final = 32
"""Tokens of a prompt that are read at a time. The model checks only between two batches whether it
should stop: with 32 tokens every 0.3 s on a slow core. Larger batches are not read faster."""

# Measured: a repetition penalty makes so small a model forget how to count, and with no penalty it
# repeats itself endlessly. The DRY penalty stops only the repetitions.
SAMPLING: Final[dict[str, float]] = {
    "temperature": 0.0,
    "dry_multiplier": 0.8,
    "dry_allowed_length": 4,
}
SYSTEM: Final[Message] = {
    "role": "system",
    "content": "You are a helpful assistant. Answer briefly.",
}


class ModelState(Enum):
    """Whether the model can answer."""

    NEW = "new"
    """Nothing is loaded yet; the first question loads the model."""
    LOADED = "loaded"
    """The model is in memory, and its worker threads answer questions."""
    CLOSED = "closed"
    """The model is closed for good; questions are refused and running answers end."""


@dataclass
class _Job:
    """One question; ``chunks`` ends with ``None`` or with the error."""

    body: dict[str, Any]
    cancelled: threading.Event
    chunks: queue.SimpleQueue[str | Usage | EngineError | None] = field(
        default_factory=queue.SimpleQueue
    )
    abandoned: bool = False


class SmolLM2(Engine):
    """A model of 135 million parameters that runs in this process, on the CPU.

    It is for demonstrations and tests: it understands only English and is often wrong. It needs
    about 350 MB of memory. Its file (93 MB) is downloaded once, on first use. Any thread may use
    it.

    >>> from aichatfree.gateway import Gateway, SmolLM2
    >>> model = SmolLM2(max_tokens=64)
    >>> model.load()
    >>> with Gateway(model) as gateway:
    ...     reply = aichatfree.Client(gateway.url).generate("What is the capital of France?")
    >>> "Paris" in reply.text
    True
    >>> model.close()

    Args:
        path: the GGUF file of another chat model to use instead.
        threads: CPU threads for each answer; by default half as many as there are CPUs.
        parallel: answers that are produced at the same time; further questions wait.
        context: tokens that one conversation may have, including its answer.
        max_tokens: tokens after which an answer ends, incomplete.

    Raises:
        ImportError: the extra ``local`` is not installed, or a system library that it needs.
        TypeError, ValueError: a number is not an ``int``, or is below 1.
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
        if threads is None:
            # With all of them, the model becomes very slow as soon as anything else runs.
            threads = max(1, (os.cpu_count() or 1) // 2)
        check_number("threads", threads, min=1, integer=True)
        check_number("parallel", parallel, min=1, integer=True)
        check_number("context", context, min=1, integer=True, unit="tokens")
        check_number("max_tokens", max_tokens, min=1, integer=True, unit="tokens")
        # Imported here although it is needed later, so that users see at once if it is missing.
        self._library: Any = import_dependency("xllamacpp")
        self._path = None if path is None else Path(path)
        self.models: Sequence[str] = [Path(path or MODEL_FILE).name.partition(".")[0]]
        self._threads = threads
        self.max_streams = parallel
        self._context = context
        self._max_tokens = max_tokens
        # Guards changes of _state and _workers: the model is loaded once, and not after close().
        # Held while the model is downloaded and loaded, so that other questions wait for it. Never
        # wait for a worker while holding it.
        self._lock = threading.Lock()
        self._state = ModelState.NEW
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._workers: list[threading.Thread] = []

    def load(self) -> None:
        """Download the model if necessary, and load it; does nothing the second time.

        Raises:
            EngineError: the model could not be downloaded or loaded, or it was closed.
        """
        with self._lock:
            if self._state is ModelState.CLOSED:
                raise EngineError("The model was closed.", status=503)
            if self._state is ModelState.LOADED:
                return
            server = self._server(download_model() if self._path is None else self._path)
            # The library crashes if the interpreter ends while the model is loaded.
            atexit.register(self.close)
            self._state = ModelState.LOADED
            for number in range(self.max_streams):
                worker = threading.Thread(
                    target=self._work, args=(server,), name=f"smollm2-{number}", daemon=True
                )
                self._workers.append(worker)
                worker.start()

    def _server(self, path: Path) -> Any:
        if not path.is_file():
            raise EngineError(
                f"The model {path} does not exist: give SmolLM2(path=...) a GGUF file."
            )
        params = self._library.CommonParams()
        params.model.path = str(path)
        params.n_parallel = self.max_streams
        params.n_ctx = self.max_streams * self._context
        params.n_batch = BATCH_TOKENS
        params.cpuparams.n_threads = self._threads
        params.cache_ram_mib = 0
        params.verbosity = -1
        params.ui = False
        params.endpoint_metrics = True
        # It always opens a port on the loopback interface. With a random key nobody can use it.
        params.api_keys = [secrets.token_hex(32)]
        try:
            return _in_another_thread(partial(_running_server, self._library, params))
        except RuntimeError as error:
            raise EngineError(
                f"The model {path} cannot be loaded: check that it is a GGUF file."
            ) from error

    def generate(
        self,
        messages: list[Message],
        *,
        temperature: float | None,
        max_tokens: int | None,
        cancelled: threading.Event,
    ) -> Iterator[str | Usage]:
        """The answer, chunk by chunk; see :class:`~aichatfree.gateway.Engine`."""
        self.load()
        job = _Job(self._body(messages, temperature, max_tokens), cancelled)
        self._jobs.put(job)
        try:
            while not cancelled.is_set():
                try:
                    chunk = job.chunks.get(timeout=POLL_INTERVAL)
                except queue.Empty:
                    if not any(worker.is_alive() for worker in self._workers):
                        raise EngineError("The model was closed.", status=503) from None
                    continue
                # An error after the cancellation only says that the model was interrupted.
                if chunk is None or cancelled.is_set():
                    return
                if isinstance(chunk, EngineError):
                    raise chunk
                yield chunk
        finally:
            job.abandoned = True

    def _body(
        self, messages: list[Message], temperature: float | None, max_tokens: int | None
    ) -> dict[str, Any]:
        has_system = any(message["role"] == "system" for message in messages)
        body: dict[str, Any] = {
            **SAMPLING,
            "messages": [dict(m) for m in (messages if has_system else [SYSTEM, *messages])],
            "max_tokens": min(max_tokens or self._max_tokens, self._max_tokens),
            "stream": True,
            "stream_options": {"include_usage": True},
            # Makes it call back after every batch of the prompt, so that reading can be cancelled.
            "return_progress": True,
        }
        if temperature is not None:
            body["temperature"] = temperature
        return body

    def _work(self, server: Any) -> None:
        while (job := self._jobs.get()) is not None:
            if not self._is_unwanted(job):
                self._run(server, job)

    def _is_unwanted(self, job: _Job) -> bool:
        closed = self._state is ModelState.CLOSED
        return closed or job.abandoned or job.cancelled.is_set()

    def _run(self, server: Any, job: _Job) -> None:
        end: EngineError | None = EngineError("The model stopped before its answer was complete.")

        def on_event(event: dict[str, Any]) -> bool:
            """Take one event; whether to stop. The library ignores exceptions raised in here."""
            nonlocal end
            if "error" in event:
                end = _engine_error(event["error"])
                return True
            for choice in event.get("choices", ()):
                if text := choice.get("delta", {}).get("content"):
                    job.chunks.put(text)
                if reason := choice.get("finish_reason"):
                    end = TokenLimitError() if reason == "length" else None
            if usage := event.get("usage"):
                job.chunks.put(Usage(usage["prompt_tokens"], usage["completion_tokens"]))
            return self._is_unwanted(job)

        try:
            server.handle_chat_completions(job.body, on_event)
        except Exception as error:
            end = EngineError(f"The model failed ({error}).")
        job.chunks.put(end)

    def close(self) -> None:
        """End running answers and free the memory; does nothing the second time."""
        with self._lock:
            self._state = ModelState.CLOSED
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
    return EngineError(f"The model refused the question: {error.get('message')}", status=status)


def _running_server(library: Any, params: Any) -> Any:
    """A server whose threads run. One that is destroyed before they do blocks for ever."""
    server = library.Server(params)
    server.handle_metrics()  # answered by its main loop
    return server


def _in_another_thread(make: Callable[[], Any]) -> Any:
    """The result of ``make``, which is called in another thread.

    Ctrl-C interrupts only the main thread. ``make`` is completed before the interruption goes on.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="smollm2-load") as executor:
        future = executor.submit(make)
        try:
            return future.result()
        except BaseException:
            wait([future])
            raise
