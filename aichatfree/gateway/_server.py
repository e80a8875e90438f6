"""The HTTP server: waitress, with a stop that cuts off streams, and limits for idle clients."""

from __future__ import annotations

import errno
import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from waitress.adjustments import Adjustments
from waitress.buffers import OverflowableBuffer
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError, TransferEncodingNotImplemented
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher

SPARE_THREADS: Final = 4
"""Threads beyond those for streams, so that refusals do not wait for answers to end."""
MAX_IDLE_CONNECTIONS: Final = 500
"""Connections beyond one for each stream."""
CLIENT_TIMEOUT: Final = 30.0
"""Seconds that a client may take for a complete request, or to read the next part of a response."""
MIN_CLIENT_TIMEOUT: Final = 1.0
"""Seconds that it may always take, even when other clients need its connection."""
MAX_DISCARDED_BYTES: Final = 16 << 20
"""Bytes beyond ``max_body`` that are still received and discarded. A client that is cut off while
it sends would only see a broken connection, and not the refusal."""
MAX_UNSENT_BYTES: Final = 256 << 10
"""Bytes that may wait for a slow client before the engine has to wait too."""
STOP_TIMEOUT: Final = 5.0
"""Seconds that each thread of the server may take for each step of :meth:`WSGIServer.stop`."""
POLL_INTERVAL: Final = 0.02
"""Seconds between two checks whether all responses have been sent."""


class WSGIServer:
    """Serves ``app`` on a listening socket, in its own threads, until :meth:`stop`."""

    def __init__(
        self, app: Any, listener: socket.socket, *, max_streams: int, max_body: int
    ) -> None:
        self._workers = _Workers()
        self._workers.set_thread_count(max_streams + SPARE_THREADS)
        settings = Adjustments(
            sockets=[listener],
            ident="aichatfree",
            max_request_body_size=max_body + MAX_DISCARDED_BYTES,
            max_request_header_size=32 << 10,
            outbuf_high_watermark=MAX_UNSENT_BYTES,
            channel_request_lookahead=1,
            connection_limit=max_streams + MAX_IDLE_CONNECTIONS,
            cleanup_interval=1,
            asyncore_use_poll=True,
            # A client that disconnects is not worth a warning, nor is a stream that the app aborts.
            log_socket_errors=False,
        )
        self._server = _Server(
            app,
            {},
            _sock=listener,
            bind_socket=False,
            sockinfo=(listener.family, listener.type, listener.proto, listener.getsockname()),
            dispatcher=self._workers,
            adj=settings,
        )
        self._loop = threading.Thread(
            target=self._server.run, name="aichatfree-gateway", daemon=True
        )
        self._loop.start()

    def stop(self, grace: float) -> None:
        """Stop serving; responses that are not complete after ``grace`` seconds are cut off."""
        self._in_loop(self._stop_listening)
        self._wait_until_idle(grace)
        # Without its last chunk, a chunked body is visibly incomplete.
        self._in_loop(self._close_connections)
        self._workers.shutdown()
        self._in_loop(self._server.trigger.close)
        self._loop.join()

    def _wait_until_idle(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and any(
            each.requests or each.total_outbufs_len for each in self._connections()
        ):
            time.sleep(POLL_INTERVAL)

    def _connections(self) -> list[Any]:
        return list(self._server.active_channels.values())

    def _in_loop(self, action: Callable[[], None]) -> None:
        # waitress does not lock its connections: only its own thread may close them.
        done = threading.Event()

        def act() -> None:
            try:
                action()
            finally:
                done.set()

        self._server.trigger.pull_trigger(act)
        done.wait(STOP_TIMEOUT)

    def _stop_listening(self) -> None:
        self._server.del_channel()
        self._server.socket.close()

    def _close_connections(self) -> None:
        for connection in self._connections():
            connection.handle_close()


class _Workers(ThreadedTaskDispatcher):
    """The threads of waitress; they have ended when :meth:`shutdown` returns."""

    queue_logger = logging.getLogger(f"{__name__}.queue")

    def __init__(self) -> None:
        super().__init__()
        self._threads: list[threading.Thread] = []
        # waitress warns of every burst of requests, but a burst is served or refused all the same.
        self.queue_logger.setLevel(logging.ERROR)

    def start_new_thread(self, target: Callable[[int], None], thread_no: int) -> None:
        thread = threading.Thread(
            target=target, args=(thread_no,), name=f"aichatfree-gateway-{thread_no}", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def shutdown(self, cancel_pending: bool = True, timeout: float = 5) -> bool:
        ended: bool = super().shutdown(cancel_pending, timeout)
        for thread in self._threads:
            thread.join(STOP_TIMEOUT)
        return ended


class _Parser(HTTPRequestParser):
    """The parser of waitress, but no malformed request makes it raise an unexpected error."""

    path = ""  # waitress logs it even if the request could not be parsed

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except TransferEncodingNotImplemented:
            raise ParsingError("The only supported Transfer-Encoding is chunked.") from None
        except ValueError as error:
            raise ParsingError(str(error)) from None
        if self.body_rcv is not None:
            self.body_rcv.buf = _Body(self.adj)


class _Body(OverflowableBuffer):
    """Keeps no more of a request's body than it takes to see that it is too large."""

    def __init__(self, settings: Adjustments) -> None:
        super().__init__(settings.inbuf_overflow)
        self._max_bytes = settings.max_request_body_size - MAX_DISCARDED_BYTES

    def append(self, data: bytes) -> None:
        if len(self) <= self._max_bytes:
            super().append(data)


class _Channel(HTTPChannel):
    """A connection that knows for how long it has been waiting for its client.

    With waitress alone, a client could occupy a connection for ever by sending a byte every half
    minute, or by not reading its response.
    """

    parser_class = _Parser

    def __init__(self, *args: Any, **options: Any) -> None:
        self._last_progress = time.monotonic()
        super().__init__(*args, **options)

    def _flush_some(self, do_close: bool = True) -> bool:
        sent: bool = super()._flush_some(do_close)
        if sent:
            self._last_progress = time.monotonic()
        return sent

    def idle_seconds(self) -> float:
        """Seconds for which the server has waited for a request or for room to send; 0 if not."""
        # This lock of waitress guards the bytes to send. If it is taken, somebody is sending.
        if not self.outbuf_lock.acquire(False):
            return 0.0
        try:
            working = self.requests and not self.total_outbufs_len
            return 0.0 if working else time.monotonic() - self._last_progress
        finally:
            self.outbuf_lock.release()

    def disconnect(self) -> None:
        """Let the server's loop close the connection soon."""
        # Not closed here: the loop may be handling events. A new connection could get the same file
        # descriptor, and then the events of this one.
        self.will_close = True
        with suppress(OSError, AttributeError):  # another thread may have closed it
            self.socket.shutdown(socket.SHUT_RDWR)


class _Server(TcpWSGIServer):
    """The server of waitress, but the longest idle client makes room when there are too many.

    waitress alone accepts nobody while it has too many connections, even if all of them are idle.
    """

    channel_class = _Channel

    def accept(self) -> Any:
        try:
            return super().accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._drop_an_idle_connection()
            raise

    def readable(self) -> bool:
        # Make room before the limit is reached, so that the next client does not have to wait.
        if len(self._map) >= self.adj.connection_limit - 1:
            self._drop_an_idle_connection()
        return bool(super().readable())

    def _drop_an_idle_connection(self) -> None:
        idle = [each for each in self._channels() if not each.requests]
        longest = max(idle, key=_Channel.idle_seconds, default=None)
        # The request of a new connection may have arrived without being read.
        if longest is not None and longest.idle_seconds() > MIN_CLIENT_TIMEOUT:
            longest.disconnect()

    def maintenance(self, now: float) -> None:
        for each in self._channels():
            if each.idle_seconds() > CLIENT_TIMEOUT:
                each.disconnect()

    def _channels(self) -> list[_Channel]:
        return list(self.active_channels.values())
