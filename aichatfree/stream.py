"""One answer as it arrives: ``Stream``; and once it is complete: ``Reply``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Self

from ._call import Call
from ._output.notebook_display import in_notebook, show_arriving, to_html
from ._output.terminal import write_chunks
from .errors import APIError, StreamInterruptedError


@dataclass(frozen=True, eq=False, repr=False)
class Reply(str):
    """A complete answer: a ``str`` with its text, and figures such as how long it took.

    It compares, sorts and hashes as its text does, whatever its figures are. Results of ``str``
    operations, such as ``reply + "."``, are plain strings.

    >>> reply = client.generate("Name a river.")
    >>> print(reply)
    The Nile.
    >>> reply.upper(), reply == "The Nile."
    ('THE NILE.', True)
    >>> reply.attempts, reply.time_to_first_chunk <= reply.elapsed, reply.site
    (1, True, 'http://127.0.0.1:...')

    Attributes:
        text: the answer as a plain ``str``.
        attempts: requests sent.
        elapsed: seconds from the call to the end of the answer, including retries and waits.
        time_to_first_chunk: seconds from the call to the first text of the successful attempt.
        reasoning: the model's reasoning if the site sends it in front of the answer, or ``""``.
        site: the base URL of the site that answered.
    """

    text: str
    attempts: int
    elapsed: float
    time_to_first_chunk: float
    reasoning: str = ""
    site: str = ""

    def __new__(cls, text: str, *_: object, **__: object) -> Self:
        return super().__new__(cls, text)

    def __getnewargs__(self) -> tuple[str]:
        """What ``pickle`` and ``copy`` give to ``__new__``; the attributes follow as the state."""
        return (self.text,)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        shown = [
            f"{name}={round(value, 3) if isinstance(value, float) else value!r}"
            for name, value in vars(self).items()
            if value != "" and name != "text"
        ]
        return f"Reply({', '.join([repr(self.text), *shown])})"

    def _repr_html_(self) -> str | None:
        return to_html(self.text)


# Libraries such as Polars ask whether a value is a dataclass before they ask whether it is a str.
del Reply.__dataclass_fields__


class StreamState(Enum):
    """How far a :class:`Stream` is; it never goes back."""

    NEW = "new"
    """No request has been sent."""
    OPEN = "open"
    """A request has been sent and the answer is incomplete so far."""
    COMPLETE = "complete"
    """The answer ended as it should."""
    FAILED = "failed"
    """The answer will never be complete: reading it raises the stream's error."""


class Stream(Iterator[str]):
    """An answer, chunk by chunk, as it arrives.

    The request is sent when the first chunk is asked for, and retried only until the first chunk
    has been returned. Iterating again yields the chunks that have arrived and then continues; it
    never sends another request. Every time an incomplete answer is read to its end, its error is
    raised. A model's reasoning is not among the chunks.

    >>> stream = client.stream("Name a river.")
    >>> next(stream), stream.complete
    ('The ', False)
    >>> stream.read(), stream.complete
    ('The Nile.', True)
    >>> list(stream)
    ['The ', 'Nile.']

    Use it as a context manager or read it to its end; otherwise its connection stays open.
    """

    def __init__(
        self,
        attempt: Callable[[], Iterator[str]],
        call: Call,
        run_attempts: Callable[[Callable[[], None]], None],
        *,
        buffered: bool = False,
        on_end: Callable[[Stream], None] | None = None,
        reasoning: Sequence[str] = (),
    ) -> None:
        self._attempt = attempt
        self._reasoning = reasoning
        self._call = call
        self._run_attempts = run_attempts
        self._buffered = buffered
        self._on_end = on_end
        # Guards all attributes below. The thread that reads from the site holds it while it waits,
        # so a method that must not wait, such as close(), only tries to acquire it.
        self._lock = threading.Lock()
        self._state = StreamState.NEW
        self._source: Iterator[str] | None = None
        self._reading = False
        self._position = 0
        self._chunks: list[str] = []
        self._longest_partial = ""
        self._error: APIError | None = None
        self._time_to_first_chunk = 0.0
        self._elapsed = 0.0

    @property
    def text(self) -> str:
        """The text that has arrived so far."""
        return "".join(self._chunks)

    @property
    def reasoning(self) -> str:
        """The model's reasoning, complete once the answer is; it is not among the chunks."""
        return "".join(self._reasoning)

    @property
    def complete(self) -> bool:
        """Whether the answer ended as it should."""
        return self._state is StreamState.COMPLETE

    @property
    def attempts(self) -> int:
        """Requests sent so far."""
        return self._call.attempts

    def __iter__(self) -> Iterator[str]:
        chunks = self._chunks
        index = 0
        while index < len(chunks) or self._read_chunk(index):
            yield chunks[index]
            index += 1

    def __next__(self) -> str:
        index = self._position
        if index >= len(self._chunks) and not self._read_chunk(index):
            raise StopIteration
        self._position = index + 1
        return self._chunks[index]

    def read(self) -> str:
        """Wait for the end of the answer and return its text.

        Raises:
            APIError: the answer is incomplete; ``partial_text`` has what arrived of it.
        """
        while self._read_chunk(len(self._chunks)):
            pass
        return self.text

    def reply(self) -> Reply:
        """Wait for the end of the answer and return it with its figures.

        Raises:
            APIError: as :meth:`read` does.
        """
        text = self.read()
        times = (self._elapsed, self._time_to_first_chunk)
        return Reply(text, self.attempts, *times, self.reasoning, self._call.site)

    def show(self) -> None:
        """Show the answer while it arrives; :meth:`reply` returns it afterwards.

        In a notebook it is formatted text that is updated in place (plain text without the extra
        ``notebook``), elsewhere text on standard output. It returns nothing, because a notebook
        would display a returned answer a second time.

        Raises:
            APIError: as :meth:`read` does; what has arrived stays visible.
        """
        with self:
            if in_notebook():
                show_arriving(self)
            else:
                write_chunks(self)

    def cancel(self) -> None:
        """Stop the answer at once, from any thread; its reader gets a StreamInterruptedError."""
        self._call.cancel_token.set()

    def close(self) -> None:
        """Stop reading and close the connection; what has arrived can still be read."""
        if self._state is StreamState.COMPLETE:
            return
        if not self._lock.acquire(blocking=False):
            # Another thread is reading; it closes the connection when its call is cancelled.
            self.cancel()
            return
        try:
            if self._state in (StreamState.NEW, StreamState.OPEN):
                self.cancel()
                self._fail(StreamInterruptedError("The answer was closed before its end."))
        finally:
            self._lock.release()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Stream {self._state.value}, {len(self._chunks)} chunks>"

    def _read_chunk(self, index: int) -> bool:
        """Read one more chunk from the site; returns whether there is one at this index now."""
        with self._lock:
            if index < len(self._chunks) or self._state is StreamState.COMPLETE:
                return index < len(self._chunks)
            if self._error is not None:
                raise self._error.with_traceback(None)
            try:
                if self._reading:  # Ctrl-C ended the last call, and another one this method
                    raise StreamInterruptedError("Reading the answer was interrupted.")
                self._reading = True
                self._advance()
                self._reading = False
            except APIError as error:
                self._fail(error)
                # Where in this package it was raised tells users nothing.
                raise error.with_traceback(None)  # noqa: B904
            except BaseException:
                self._fail(StreamInterruptedError("Reading the answer was interrupted."))
                raise
            return index < len(self._chunks)

    def _advance(self) -> None:
        if self._state is StreamState.NEW:
            self._enter(StreamState.OPEN)
            self._run_attempts(self._make_attempt)
            return
        assert self._source is not None
        for chunk in self._source:
            self._chunks.append(chunk)
            return
        self._enter(StreamState.COMPLETE)

    def _make_attempt(self) -> None:
        """Send the request and read as much of the answer as may still be retried."""
        self._chunks.clear()
        try:
            self._source = self._attempt()
            for chunk in self._source:
                if not self._chunks:
                    first = self._call.first_byte_at or time.monotonic()
                    self._time_to_first_chunk = first - self._call.started
                self._chunks.append(chunk)
                if not self._buffered:
                    return
        except APIError as error:
            self._longest_partial = max(self._longest_partial, self.text, key=len)
            self._call.last_failure = error.reason
            error.attempts = self.attempts
            raise
        self._enter(StreamState.COMPLETE)

    def _fail(self, error: APIError) -> None:
        # First of all: if the rest is interrupted, the answer must not look complete.
        self._error = error
        error.attempts = self.attempts
        error.partial_text = max(self._longest_partial, self.text, key=len)
        if self._buffered:
            self._chunks[:] = [error.partial_text]
        self._enter(StreamState.FAILED)

    def _enter(self, state: StreamState) -> None:
        """Enter a state; the only place that does."""
        self._state = state
        if state is StreamState.OPEN:
            self._call.start()
            return
        self._elapsed = time.monotonic() - self._call.started
        if isinstance(self._source, Generator):
            self._source.close()
        if self._on_end is not None:
            self._on_end(self)
