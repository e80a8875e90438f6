"""One request and its response, within the limits of the call that it belongs to."""

from __future__ import annotations

import contextlib
import logging
import math
import socket
import threading
import time
from collections import deque
from collections.abc import Generator, Mapping
from enum import Enum, IntEnum
from typing import Final, Protocol

from .._call import Call
from .._cancellation import cancelled_error
from ..errors import APIError, ReplyTooLargeError
from .connection_errors import (
    TRANSPORT_ERRORS,
    error_before_response,
    error_in_response,
    forget_request,
    innermost,
    silence_error,
)
from .foreign_responses import UrllibResponse
from .multiplexer import Multiplexer
from .parsing import BodyTooLongError, ResponseParser

log: Final = logging.getLogger("aichatfree.requests")

_MAX_UNREAD: Final = 256 * 1024
"""Bytes of a response that are read ahead of its reader."""

_MAX_ERROR_BODY: Final = 65536
"""Bytes of an error response that can be read, however short an answer has to be."""


class ExchangeState(IntEnum):
    """How far an :class:`Exchange` is; it never goes back."""

    CONNECTING = 0
    """A connection is being opened or taken from the pool."""
    SENDING = 1
    """The request is being sent or has been; the head of the response is incomplete."""
    READING = 2
    """The head of the response has arrived."""
    COMPLETE = 3
    """All of the response has arrived; parts of it may not have been read yet."""
    FAILED = 4
    """The rest of the response will never arrive."""
    CLOSED = 5
    """Nobody reads the response any longer."""


class _Need(Enum):
    """What the thread of an exchange waits for."""

    WRITABLE = "room for more of the request, or the head of the response"
    HEAD = "the head of the response"
    CHUNK = "the next chunk"
    END = "the end of the response"


class Carrier(Protocol):
    """The connection that carries an exchange."""

    def end_sending(self, exchange: Exchange, /) -> None:
        """The exchange's thread writes no more."""

    def abandon(self, *, written: bool) -> None:
        """The exchange does not need it any longer; whether its thread writes to it no more."""

    def resume(self) -> None:
        """Read on."""


class Exchange:
    """One request and its response. Only the thread that sent it reads it; any may interrupt it.

    The multiplexer's leader feeds it with what arrives, while its own thread takes chunks from it.

    Attributes:
        state: changed by :meth:`_become` only, and so is ``ended``.
        ended: whether nothing more will arrive.
        status: the HTTP status.
        headers: the response's headers; names in any case.
        framed: whether each chunk is one HTTP chunk as the site sent it.
        received: bytes of the body that were read.
        parser: what arrived of the response.
        wake: see :class:`Waiter`; so is ``deadline``.
        carrier: its connection, as long as it needs it. Guarded by the multiplexer's lock.
        writable: whether there may be room for more of the request.
    """

    def __init__(
        self, call: Call, host: str, multiplexer: Multiplexer, max_bytes: float = math.inf
    ) -> None:
        self.state: ExchangeState = ExchangeState.CONNECTING
        self.ended: bool = False
        self.status: int = 0
        self.headers: Mapping[str, str] = {}
        self.framed: bool = False
        self.received: int = 0
        self.wake: threading.Lock = threading.Lock()
        self.wake.acquire()
        self.deadline: float = math.inf
        self.carrier: Carrier | None = None
        self.writable: bool = False
        self._call = call
        call.first_byte_at = None
        self._host = host
        self._multiplexer = multiplexer
        self._max_bytes = max_bytes
        self._max_silence = call.timeout.read or math.inf
        self.parser: ResponseParser = ResponseParser(max(max_bytes, _MAX_ERROR_BODY))
        self._chunks: deque[bytes] = self.parser.chunks
        self._need = _Need.HEAD
        self._begun = False
        self._interrupted = False
        self._error: Exception | None = None
        self._foreign: UrllibResponse | None = None
        # A duplicate of the socket that is being connected. Guarded by the multiplexer's lock.
        self._connecting: socket.socket | None = None
        self._started_at = time.monotonic()
        self._chunks_read = 0
        self._outcome = "given up"

    # The connection and the multiplexer's leader call these.

    @property
    def overfull(self) -> bool:
        """Whether nothing more should be read until its thread has taken what is there."""
        unread = self.parser.received - self.received
        return unread > _MAX_UNREAD and bool(self._chunks) and self._need is not _Need.END

    def is_ready(self) -> bool:
        """Whether what its thread waits for is there."""
        need = self._need
        if self.ended or self._interrupted:
            return True
        if need is _Need.CHUNK:
            return bool(self._chunks)
        if need is _Need.END:
            return False
        head = self.state is ExchangeState.READING
        return head or (self.writable and need is _Need.WRITABLE)

    def feed(self, data: bytes, now: float, *, clean_eof: bool = True) -> None:
        """Take what arrived at this time; no bytes are the end of the connection."""
        parser = self.parser
        progress = parser.progress
        try:
            if data:
                parser.feed(data)
            else:
                parser.feed_eof(clean=clean_eof)
        except TRANSPORT_ERRORS as error:
            self.fail(error)
            return
        finally:
            if not self._begun and parser.received:
                self._begun = True
                self._call.first_byte_at = now
        if parser.progress != progress:
            self.deadline = min(self._call.deadline, now + self._max_silence)
        if parser.complete:
            self._become(ExchangeState.COMPLETE)
        elif parser.status and self.state is not ExchangeState.READING:
            self._become(ExchangeState.READING)

    def fail(self, error: Exception) -> None:
        """Nothing more will arrive."""
        self._error = error
        self._become(ExchangeState.FAILED)

    def _become(self, state: ExchangeState) -> None:
        if state > self.state:
            self.state = state
        if state >= ExchangeState.COMPLETE:
            self.ended = True
            self.parser.close()

    # Any thread may call this.

    def interrupt(self) -> None:
        """Let the thread that waits for this exchange fail at once, and close the connection."""
        self._interrupted = True
        if self._foreign is not None:
            self._foreign.interrupt()
            return
        with self._multiplexer.lock:
            if self._connecting is not None:
                with contextlib.suppress(OSError):
                    self._connecting.shutdown(socket.SHUT_RDWR)
        self._multiplexer.interrupt(self)
        self._abandon_carrier(written=False)

    # The rest is called by the thread that sends it.

    def seconds_to_connect(self) -> float | None:
        """How long the next step of connecting may take.

        Raises:
            StreamInterruptedError: the call was cancelled.
            APITimeoutError: its deadline has passed.
        """
        if self._interrupted or self._call.deadline <= time.monotonic():
            raise self._reason_to_end()
        return self._call.seconds_for(self._call.timeout.connect)

    def hold_connecting(self, sock: socket.socket | None) -> None:
        """The socket that :meth:`interrupt` shuts down while urllib3 waits for it, or none."""
        with self._multiplexer.lock:
            if self._connecting is not None:
                self._connecting.close()
            self._connecting = sock
        if sock is not None and self._interrupted:
            raise self._reason_to_end()

    def begin_sending(self) -> None:
        """The request is about to be sent."""
        self._check()
        self._become(ExchangeState.SENDING)

    def wait_until_writable(self) -> None:
        """Wait for room for more of the request, or for the head of the response."""
        self._wait(_Need.WRITABLE)

    def wait_for_head(self) -> None:
        """Wait for the head of the response.

        Raises:
            Exception: none came.
        """
        self._wait(_Need.HEAD)
        parser = self.parser
        if not parser.status:
            raise self._error or ConnectionAbortedError()
        self.begin(parser.status, parser.headers, framed=parser.framed)

    def begin(self, status: int, headers: Mapping[str, str], *, framed: bool) -> None:
        """The head of the response has arrived."""
        self.status, self.headers, self.framed = status, headers, framed
        log.debug("%s answers %d after %.3f s", self._host, status, self._seconds())

    def adopt(self, response: UrllibResponse) -> None:
        """The response came in another way; it is read from this object."""
        self._foreign = response
        self._become(ExchangeState.READING)
        self.begin(response.status, response.headers, framed=response.framed)

    def chunks(self, *, complete: bool = False) -> Generator[list[bytes], None, None]:
        """The chunks of the body: HTTP chunks, or what each read returned.

        Args:
            complete: all at once, at the end of the body; then the thread is woken once. Otherwise
                each as soon as it has arrived.

        Raises:
            StreamInterruptedError: the response was cut off, or the call was cancelled.
            APITimeoutError: the site was silent for too long, or the call's deadline has passed.
            ReplyTooLargeError: the body is longer than ``max_bytes``.
        """
        try:
            if complete and self._foreign is None:
                self._wait(_Need.END)
            while chunks := self._next_chunks(complete):
                self._chunks_read += len(chunks)
                self.received += sum(map(len, chunks))
                if self.received > self._max_bytes:
                    yield [b"".join(chunks)[: int(self._max_bytes - self.received)]]
                    raise self._too_large()
                yield chunks
            self._outcome = "read to its end"
        except APIError as error:
            self._outcome = type(error).__name__
            raise
        except (*TRANSPORT_ERRORS, ValueError, OverflowError, MemoryError) as error:
            raise self.error(error, begun=True) from innermost(error)
        finally:
            self.close()

    def _next_chunks(self, complete: bool) -> list[bytes]:
        """Some more chunks; none at the end."""
        if self._foreign is not None:
            self._check()
            chunk = self._foreign.read_chunk()
            return [chunk] if chunk else []
        if self._chunks or self.ended:
            self._check()
        else:
            self._wait(_Need.CHUNK)
        state = self.state  # before looking for chunks: the last one comes before the end
        if self._chunks:
            return [self._chunks.popleft() for _ in range(len(self._chunks) if complete else 1)]
        if state is ExchangeState.COMPLETE:
            return []
        raise self._error or ConnectionAbortedError()

    def _check(self) -> None:
        if self._interrupted or (not self.ended and time.monotonic() >= self._call.deadline):
            raise self._reason_to_end()

    def _wait(self, need: _Need) -> None:
        self._need = need
        self.deadline = min(self._call.deadline, time.monotonic() + self._max_silence)
        if not self.is_ready():
            with self._multiplexer.lock:
                if self.carrier is not None:
                    self.carrier.resume()
            self._multiplexer.wait(self)
        if self._interrupted or not self.is_ready():
            error = self._reason_to_end()
            if need is not _Need.END or self._interrupted:
                raise error
            self.fail(error)  # which its reader gets after what arrived in time

    def read_up_to(self, limit: int) -> bytes:
        """The first bytes of the body, or what arrives of them before it is cut off or too slow."""
        body = b""
        self._max_bytes = limit
        enough = time.monotonic() + self._max_silence
        try:
            for chunks in self.chunks():
                body += b"".join(chunks)
                if len(body) >= limit or time.monotonic() >= enough:
                    break
        except APIError:
            # A part of an error response is an error response, unless nobody waits for it.
            if self._call.cancel_token.is_set():
                raise
        finally:
            self.close()
        return body[:limit]

    def close(self, error: BaseException | None = None) -> None:
        """Stop reading: close the connection, unless the response is complete; idempotent."""
        if self.state is ExchangeState.CLOSED:
            return
        if isinstance(error, APIError):
            self._outcome = type(error).__name__
        self._abandon_carrier(written=True)
        self._call.cancel_token.interrupts(None)
        self.hold_connecting(None)
        foreign, self._foreign = self._foreign, None
        if foreign is not None:
            foreign.close()
        self._become(ExchangeState.CLOSED)
        log.info(
            "%s %s, %d bytes in %d chunks, %.3f s, attempt %d, %s",
            self._host,
            self.status or "no reply",
            self.received,
            self._chunks_read,
            self._seconds(),
            max(1, self._call.attempts),
            self._outcome,
        )

    def error(self, error: Exception, *, begun: bool) -> APIError:
        """What a failure of the connection means for this exchange."""
        forget_request(error)
        if self._interrupted or time.monotonic() >= self._call.deadline:
            meaning = self._reason_to_end()
        elif isinstance(error, BodyTooLongError):
            meaning = self._too_large()
        else:
            explain = error_in_response if begun else error_before_response
            meaning = explain(error, host=self._host, timeout=self._call.timeout)
        self._outcome = type(meaning).__name__
        return meaning

    def _abandon_carrier(self, *, written: bool) -> None:
        with self._multiplexer.lock:
            if self.carrier is not None:
                self.carrier.abandon(written=written)

    def _reason_to_end(self) -> APIError:
        if self._interrupted:
            return cancelled_error()
        if time.monotonic() >= self._call.deadline:
            return self._call.deadline_error()
        return silence_error(self._host, self._call.timeout)

    def _too_large(self) -> APIError:
        return ReplyTooLargeError(
            f"The answer of {self._host} exceeded {self._max_bytes} bytes and was given up. If an "
            "answer may be that long, allow more with max_reply_bytes=."
        )

    def _seconds(self) -> float:
        return time.monotonic() - self._started_at
