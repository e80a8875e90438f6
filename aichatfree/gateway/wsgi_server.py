"""waitress, with an end that breaks streams instead of ending them as if they were whole."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from waitress import create_server  # type: ignore[import-untyped,import-not-found,unused-ignore]
from waitress.channel import (  # type: ignore[import-untyped,import-not-found,unused-ignore]
    HTTPChannel,
)
from waitress.parser import (  # type: ignore[import-untyped,import-not-found,unused-ignore]
    HTTPRequestParser,
    ParsingError,
)
from waitress.task import (  # type: ignore[import-untyped,import-not-found,unused-ignore]
    ThreadedTaskDispatcher,
)

SPARE_THREADS: Final = 4
"""Threads beyond those for streams, so that refusals do not wait behind answers."""
IDLE_CONNECTIONS: Final = 500
OVERSIZE: Final = 16 << 20
"""Bytes beyond the limit that are still read, so that the client gets to see the refusal: one
who is cut off while sending sees only a broken connection."""
PENDING_BYTES: Final = 256 << 10
"""Bytes that may wait for a slow reader before the engine has to wait too."""


class WSGIServer:
    """Serves ``app`` on a bound socket, from its own threads, until :meth:`stop`."""

    def __init__(self, app: Any, bound: socket.socket, *, max_streams: int, max_body: int) -> None:
        self._workers = _Workers()
        self._workers.set_thread_count(max_streams + SPARE_THREADS)
        self._server = create_server(
            app,
            _dispatcher=self._workers,
            sockets=[bound],
            ident="aichatfree",
            max_request_body_size=max_body + OVERSIZE,
            max_request_header_size=32 << 10,
            outbuf_high_watermark=PENDING_BYTES,
            channel_request_lookahead=1,
            connection_limit=max_streams + IDLE_CONNECTIONS,
            channel_timeout=30,
            cleanup_interval=5,
            asyncore_use_poll=True,
            # Clients who go away are no news. It also lets the app break a stream in silence.
            log_socket_errors=False,
        )
        self._server.channel_class = _Channel
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
        except ValueError as error:
            raise ParsingError(str(error)) from None


class _Channel(HTTPChannel):  # type: ignore[misc]
    parser_class = _Parser
