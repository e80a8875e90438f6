"""One answer as it arrives: ``Stream``, and ``Reply`` when it is whole."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from types import TracebackType

from ._deadlines import Call
from ._output.notebook import in_notebook, show_arriving, to_html
from ._output.terminal import write_chunks
from ._protocol.decoding import ReplyDecoder
from ._protocol.responses import MAX_ERROR_BODY, error_from_reply, not_an_answer
from ._protocol.sites import Site
from ._wire.transport import Exchange
from .errors import APIError, StreamInterruptedError


@dataclass(frozen=True)
class Reply:
    """A whole answer; ``str(reply)`` is its text.

    >>> reply = client.generate("Name a river.")
    >>> print(reply)
    The Nile.
    >>> reply.attempts, reply.first_chunk <= reply.elapsed
    (1, True)

    Attributes:
        text: the answer.
        attempts: how often the request was sent.
        elapsed: seconds from the call to the end of the answer, retries and waits included.
        first_chunk: seconds from the call to the first text of the attempt that succeeded.
    """

    text: str
    attempts: int
    elapsed: float
    first_chunk: float

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str | None:
        return to_html(self.text)


def read_text(exchange: Exchange, site: Site) -> Iterator[str]:
    """The text of a reply, live and never empty.

    Raises:
        APIStatusError: the reply is an error, or says that the quota is used up.
        ProtocolError: it is no answer of this protocol.
        StreamInterruptedError: it broke off, or ended with the servers' failure tail.
        APITimeoutError: it was silent for too long, or the call's time is up.
        EmptyReplyError: it ended without any text.
    """
    if not 200 <= exchange.status < 300:
        body = exchange.read_up_to(MAX_ERROR_BODY)
        raise error_from_reply(exchange.status, exchange.headers, body, site)
    misfit = not_an_answer(exchange.status, exchange.headers)
    if misfit is not None:
        misfit.body = exchange.read_up_to(MAX_ERROR_BODY).decode("utf-8", "replace")
        raise misfit
    decoder = ReplyDecoder(framed=exchange.framed, quota_phrases=site.quota_phrases)
    with closing(exchange.pieces()) as pieces:
        for piece in pieces:
            text = decoder.feed(piece)
            if text:
                yield text
    text, failure = decoder.finish()
    if text:
        yield text
    if failure is not None:
        raise failure


class Stream(Iterator[str]):
    """An answer, chunk by chunk, as it arrives.

    The request is sent when the first chunk is asked for, and sent again only as long as nothing
    has been handed over. Iterating again replays what has arrived and goes on from there; it
    never sends anything. An answer that does not come to its end raises, every time it is read.

    >>> stream = client.stream("Name a river.")
    >>> next(stream), stream.complete
    ('The ', False)
    >>> stream.read(), stream.complete
    ('The Nile.', True)
    >>> list(stream)
    ['The ', 'Nile.']

    Use it as a context manager, or read it to its end: otherwise its connection stays open.
    """

    def __init__(
        self,
        send: Callable[[], Iterator[str]],
        call: Call,
        run: Callable[[Callable[[], None]], None],
        *,
        whole: bool = False,
        on_end: Callable[[Stream], None] | None = None,
    ) -> None:
        self._send = send
        self._call = call
        self._run = run
        self._whole = whole
        self._on_end = on_end
        self._lock = threading.Lock()
        self._source: Iterator[str] | None = None
        self._position = 0
        self._chunks: list[str] = []
        self._longest_partial = ""
        self._error: BaseException | None = None
        self._complete = False
        self._first_chunk: float | None = None
        self._elapsed: float | None = None

    @property
    def text(self) -> str:
        """What has arrived so far."""
        return "".join(self._chunks)

    @property
    def complete(self) -> bool:
        """Whether the answer came to a real end."""
        return self._complete

    @property
    def attempts(self) -> int:
        """How often the request was sent."""
        return self._call.attempts

    def __iter__(self) -> Iterator[str]:
        chunks = self._chunks
        index = 0
        while index < len(chunks) or self._pull(index):
            yield chunks[index]
            index += 1

    def __next__(self) -> str:
        index = self._position
        if index >= len(self._chunks) and not self._pull(index):
            raise StopIteration
        self._position = index + 1
        return self._chunks[index]

    def read(self) -> str:
        """Wait for the end of the answer, and return all of it.

        Raises:
            APIError: the answer did not come to its end; ``partial_text`` has what did.
        """
        for _ in self:
            pass
        return self.text

    def reply(self) -> Reply:
        """Wait for the end of the answer, and return it with its figures.

        Raises:
            APIError: as :meth:`read` does.
        """
        text = self.read()
        return Reply(text, self.attempts, self._elapsed or 0.0, self._first_chunk or 0.0)

    def show(self) -> Reply:
        """Show the answer while it arrives, and return it whole.

        In a notebook it is rendered as Markdown and updated in place, elsewhere it is text on
        standard output. (Without the extra ``notebook``, it is plain text in a notebook, too.)

        Raises:
            APIError: as :meth:`read` does; what has arrived stays on show.
        """
        with self:
            if in_notebook():
                show_arriving(self)
            else:
                write_chunks(self)
        return self.reply()

    def cancel(self) -> None:
        """Stop the answer at once, from any thread; who reads it gets StreamInterruptedError.

        Only a connection that is just being made is waited for, ``Timeout.connect`` at most.
        """
        self._call.cancel_token.set()

    def close(self) -> None:
        """Stop reading and close the connection; what has arrived stays readable."""
        if self._complete or not self._lock.acquire(blocking=False):
            # Another thread is reading: it closes what it reads when it is told to stop.
            if not self._complete:
                self.cancel()
            return
        try:
            if self._error is None and not self._complete:
                self._call.cancel_token.set()
                self._finish(
                    StreamInterruptedError("The answer was closed before its end."),
                )
        finally:
            self._lock.release()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "complete" if self._complete else "failed" if self._error else "open"
        return f"<Stream {state}, {len(self._chunks)} chunks>"

    def _pull(self, index: int) -> bool:
        """Get one more chunk; whether there is one at this index now."""
        with self._lock:
            if index < len(self._chunks):
                return True
            if self._error is not None:
                raise self._error
            if self._complete:
                return False
            try:
                if self._source is None:
                    self._call.start()
                    self._run(self._attempt)
                else:
                    for chunk in self._source:
                        self._chunks.append(chunk)
                        return True
                    self._complete = True
            except APIError as error:
                self._finish(error)
                raise
            except BaseException:
                self._finish(StreamInterruptedError("The reading of the answer was interrupted."))
                raise
            if self._complete:
                self._finish(None)
            return index < len(self._chunks)

    def _attempt(self) -> None:
        """Send the request, and read what the retries are responsible for."""
        self._chunks.clear()
        try:
            self._source = self._send()
            for chunk in self._source:
                if not self._chunks:
                    self._first_chunk = time.monotonic() - self._call.started
                self._chunks.append(chunk)
                if not self._whole:
                    return
            self._complete = True
        except APIError as error:
            self._longest_partial = max(self._longest_partial, self.text, key=len)
            error.attempts = self.attempts
            raise

    def _finish(self, error: APIError | None) -> None:
        """The answer is over: well if there is no error, and for good in any case."""
        # First of all: whatever interrupts the rest must not make the answer look whole.
        self._error = error
        self._elapsed = time.monotonic() - self._call.started
        if error is not None:
            error.attempts = self.attempts
            error.partial_text = max(self._longest_partial, self.text, key=len)
            if self._whole:
                self._chunks[:] = [error.partial_text]
        if isinstance(self._source, Generator):
            self._source.close()
        if self._on_end is not None:
            self._on_end(self)
