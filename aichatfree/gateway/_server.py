"""waitress, with an end that breaks streams, and with connections that nobody holds for ever."""

from __future__ import annotations

import errno
import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from waitress.adjustments import (  # type: ignore[import-untyped,import-not-found,unused-ignore]
    Adjustments,
)
from waitress.buffers import (  # type: ignore[import-untyped,import-not-found,unused-ignore]
    OverflowableBuffer,
)
from waitress.channel import (  # type: ignore[import-untyped,import-not-found,unused-ignore]
    HTTPChannel,
)
from waitress.parser import (  # type: ignore[import-untyped,import-not-found,unused-ignore]
    HTTPRequestParser,
    ParsingError,
    TransferEncodingNotImplemented,
)
from waitress.server import (  # type: ignore[import-untyped,import-not-found,unused-ignore]
    TcpWSGIServer,
)
from waitress.task import (  # type: ignore[import-untyped,import-not-found,unused-ignore]
    ThreadedTaskDispatcher,
)

SPARE_THREADS: Final = 4
"""Threads beyond those for streams, so that refusals do not wait behind answers."""
IDLE_CONNECTIONS: Final = 500
PATIENCE: Final = 30.0
"""Seconds that a client may take for a whole request, or for the next bit of a reply."""
LEAST_PATIENCE: Final = 1.0
"""Seconds that it may take at least, when others need its place."""
OVERSIZE: Final = 16 << 20
"""Bytes beyond the limit that are still read, and dropped, so that the client gets to see the
refusal: one who is cut off while sending sees only a broken connection."""
PENDING_BYTES: Final = 256 << 10
"""Bytes that may wait for a slow reader before the engine has to wait too."""


class WSGIServer:
    """Serves ``app`` on a bound socket, from its own threads, until :meth:`stop`."""

    def __init__(self, app: Any, bound: socket.socket, *, max_streams: int, max_body: int) -> None:
        self._workers = _Workers()
        self._workers.set_thread_count(max_streams + SPARE_THREADS)
        settings = Adjustments(
            sockets=[bound],
            ident="aichatfree",
            max_request_body_size=max_body + OVERSIZE,
            max_request_header_size=32 << 10,
            outbuf_high_watermark=PENDING_BYTES,
            channel_request_lookahead=1,
            connection_limit=max_streams + IDLE_CONNECTIONS,
            cleanup_interval=1,
            asyncore_use_poll=True,
            # Clients who go away are no news. It also lets the app break a stream in silence.
            log_socket_errors=False,
        )
        self._server = _Server(
            app,
            {},
            _sock=bound,
            bind_socket=False,
            sockinfo=(bound.family, bound.type, bound.proto, bound.getsockname()),
            dispatcher=self._workers,
            adj=settings,
        )
        self._loop = threading.Thread(
            target=self._server.run, name="aichatfree-gateway", daemon=True
        )
        self._loop.start()

    def stop(self, grace: float) -> None:
        """Stop serving; replies that are not finished after ``grace`` seconds break off."""
        self._in_loop(self._stop_listening)
        self._wait_until_idle(grace)
        # A chunked body that has no last chunk is a broken one.
        self._in_loop(self._close_connections)
        self._workers.shutdown()
        self._in_loop(self._server.trigger.close)
        self._loop.join()

    def _wait_until_idle(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and any(
            each.requests or each.total_outbufs_len for each in self._connections()
        ):
            time.sleep(0.02)

    def _connections(self) -> list[Any]:
        return list(self._server.active_channels.values())

    def _in_loop(self, action: Callable[[], None]) -> None:
        # waitress has no locks around its connections: only its own thread may close them.
        done = threading.Event()

        def act() -> None:
            try:
                action()
            finally:
                done.set()

        self._server.trigger.pull_trigger(act)
        done.wait(5.0)

    def _stop_listening(self) -> None:
        self._server.del_channel()
        self._server.socket.close()

    def _close_connections(self) -> None:
        for connection in self._connections():
            connection.handle_close()


class _Workers(ThreadedTaskDispatcher):  # type: ignore[misc]
    """waitress's threads, joined at the end."""

    queue_logger = logging.getLogger("aichatfree.gateway.queue")

    def __init__(self) -> None:
        super().__init__()
        self._members: list[threading.Thread] = []
        # It warns of every burst of requests; those are refused or served in their turn.
        self.queue_logger.setLevel(logging.ERROR)

    def start_new_thread(self, target: Callable[[int], None], thread_no: int) -> None:
        member = threading.Thread(
            target=target, args=(thread_no,), name=f"aichatfree-gateway-{thread_no}", daemon=True
        )
        self._members.append(member)
        member.start()

    def shutdown(self, cancel_pending: bool = True, timeout: float = 5) -> bool:
        ended: bool = super().shutdown(cancel_pending, timeout)
        for member in self._members:
            member.join(1.0)
        return ended


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    """waitress's parser, which lets a few malformed requests through to a traceback."""

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except TransferEncodingNotImplemented:
            raise ParsingError("The only Transfer-Encoding taken here is chunked.") from None
        except ValueError as error:
            raise ParsingError(str(error)) from None
        if self.body_rcv is not None:
            self.body_rcv.buf = _Body(self.adj)


class _Body(OverflowableBuffer):  # type: ignore[misc]
    """Keeps as much of a body as tells that it is too large."""

    def __init__(self, settings: Adjustments) -> None:
        super().__init__(settings.inbuf_overflow)
        self._most = settings.max_request_body_size - OVERSIZE

    def append(self, data: bytes) -> None:
        if len(self) <= self._most:
            super().append(data)


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection that knows for how long its client has kept it waiting.

    waitress asks for a sign of life now and then: a byte in half a minute, or none at all while an
    answer runs, holds a connection for ever.
    """

    parser_class = _Parser

    def __init__(self, *args: Any, **options: Any) -> None:
        self._moved = time.monotonic()
        super().__init__(*args, **options)

    def _flush_some(self, do_close: bool = True) -> bool:
        sent: bool = super()._flush_some(do_close)
        if sent:
            self._moved = time.monotonic()
        return sent

    def kept_waiting(self) -> float:
        """Seconds since the client was to send a request, or to read on."""
        # Whoever holds the lock is sending.
        if not self.outbuf_lock.acquire(False):
            return 0.0
        try:
            working = self.requests and not self.total_outbufs_len
            return 0.0 if working else time.monotonic() - self._moved
        finally:
            self.outbuf_lock.release()

    def give_up(self) -> None:
        """Have the loop close the connection, also if nobody reads from it."""
        # Not closed here: in the middle of a turn of the loop, a new connection could get the same
        # number, and the events of this one.
        self.will_close = True
        with suppress(OSError, AttributeError):  # whoever was sending may have closed it
            self.socket.shutdown(socket.SHUT_RDWR)


class _Server(TcpWSGIServer):  # type: ignore[misc]
    """waitress's server, which stops listening while it has too many connections, however idle."""

    channel_class = _Channel

    def accept(self) -> Any:
        try:
            return super().accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._make_room()
            raise

    def readable(self) -> bool:
        # One place is kept free, so that the next one need not wait.
        if len(self._map) >= self.adj.connection_limit - 1:
            self._make_room()
        return bool(super().readable())

    def _make_room(self) -> None:
        idle = [each for each in self._channels() if not each.requests]
        longest = max(idle, key=_Channel.kept_waiting, default=None)
        # A new one may have sent its request already.
        if longest is not None and longest.kept_waiting() > LEAST_PATIENCE:
            longest.give_up()

    def maintenance(self, now: float) -> None:
        for each in self._channels():
            if each.kept_waiting() > PATIENCE:
                each.give_up()

    def _channels(self) -> list[_Channel]:
        return list(self.active_channels.values())
