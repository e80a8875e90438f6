"""The HTTP server: aiohttp's, in a separate thread, with a stop that cuts off streams."""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import BaseRequest, RequestHandler, Server

from .._forks import renew_after_fork
from ._app import App
from ._connections import Connections
from ._http import HTTPHandler

MAX_IDLE_CONNECTIONS: Final = 500
"""Connections beyond one for each stream."""
CLIENT_TIMEOUT: Final = 30.0
"""Seconds that a client may take for the head of a request, for its body, and to read the next part
of a response."""
MAX_HEADERS: Final = 64
"""Header lines of a request; each may have 8 kB."""
BACKLOG: Final = 1024
"""Clients that may wait to be accepted."""
STOP_TIMEOUT: Final = 5.0
"""Seconds that connections may take to end after they were cut off."""
STOP_MARGIN: Final = 5.0
"""Seconds that the rest of stopping may take, on a busy machine."""
POLL_INTERVAL: Final = 0.02
"""Seconds between two checks whether all responses have been sent."""


class HTTPServer:
    """Serves ``app`` on a listening socket, in a separate thread, until :meth:`stop`."""

    def __init__(
        self, app: App, listener: socket.socket, *, max_streams: int, max_body: int
    ) -> None:
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # Ends the connection of a client that does not read. Connections inherit it.
            milliseconds = int(CLIENT_TIMEOUT * 1000)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        self._app = app
        self._listener = listener
        self._max_body = max_body
        self._connections = Connections(max_streams + MAX_IDLE_CONNECTIONS)
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._deadline = math.inf  # on the loop's clock; responses are cut off then
        self._server: Server | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="aichatfree-gateway", daemon=True)
        self._thread.start()
        renew_after_fork(self)

    def stop(self, grace: float) -> bool:
        """Stop serving; responses that are not complete after ``grace`` seconds are cut off.

        If Ctrl-C interrupts it, call it again.

        Returns:
            Whether the server's thread has ended. False if something blocks it, such as a handler
            of the log, for longer than the grace, ``STOP_TIMEOUT`` and ``STOP_MARGIN`` together.
        """
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._stop_soon, grace)
        # Before Python 3.13, a join that Ctrl-C interrupts takes the thread for ended.
        limit = min(grace + STOP_TIMEOUT + STOP_MARGIN, threading.TIMEOUT_MAX)
        has_ended = self._ended.wait(limit)
        if has_ended:
            self._thread.join(STOP_MARGIN)
        return has_ended

    def after_fork(self) -> None:
        """Give up the child's copies of all sockets, which keep open what the parent closes.

        Nobody serves in the child. To close them through the loop would change what the parent
        polls.
        """
        self._ended = threading.Event()
        self._ended.set()
        sockets = [each.get_extra_info("socket") for each in self._transports()]
        with open(os.devnull, "rb") as nothing:
            for each in (self._listener, *sockets):
                if each is not None and each.fileno() >= 0:
                    os.dup2(nothing.fileno(), each.fileno(), inheritable=False)

    # --- in the server's thread ---------------------------------------------------------------

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        finally:
            self._ended.set()

    def _stop_soon(self, grace: float) -> None:
        self._deadline = min(self._deadline, self._loop.time() + grace)
        self._stopping.set()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_loop_error)
        self._server = server = self._new_server()
        listening = await loop.create_server(
            partial(self._connect, server), sock=self._listener, backlog=BACKLOG
        )
        await self._stopping.wait()
        self._app.stop()
        # Connections that were accepted just now have to be opened before asyncio's server is
        # closed: it would lose them without closing their sockets.
        loop.remove_reader(self._listener)
        await asyncio.sleep(0)
        listening.close()
        await self._wait_until_sent()
        for transport in self._transports():
            # Without its last chunk, a chunked body is visibly incomplete.
            transport.abort()
        await server.shutdown(STOP_TIMEOUT)
        await asyncio.sleep(0)  # transports close their sockets in the next round of the loop

    def _new_server(self) -> Server:
        handler = HTTPHandler(
            self._app, self._connections, max_body=self._max_body, client_timeout=CLIENT_TIMEOUT
        )
        http_logger = logging.getLogger(f"{__name__}.http")
        http_logger.addFilter(_is_our_mistake)
        return Server(
            handler,
            request_factory=self._new_request,
            handler_cancellation=True,  # as soon as the client disconnects
            keepalive_timeout=CLIENT_TIMEOUT,  # also limits the time for the head of a request
            lingering_time=0,
            auto_decompress=False,
            max_headers=MAX_HEADERS,
            access_log=None,
            logger=http_logger,
        )

    def _new_request(self, message: RawRequestMessage, *connection: Any) -> BaseRequest:
        if message.url.absolute:
            # The HTTP library would decode the host. If it cannot, as in "http://xn--a/", it would
            # neither respond nor close the connection.
            message = message._replace(url=message.url.relative())
        make_request: Callable[..., BaseRequest] = BaseRequest
        return make_request(message, *connection, self._loop)

    def _connect(self, server: Server) -> RequestHandler:
        connection = server()
        self._connections.opened(connection)
        return connection

    async def _wait_until_sent(self) -> None:
        while True:
            # First, because connections that have just been accepted are not known yet.
            await asyncio.sleep(POLL_INTERVAL)
            is_sent = not (self._connections.busy or self._has_unsent_bytes())
            if is_sent or self._loop.time() >= self._deadline:
                return

    def _has_unsent_bytes(self) -> bool:
        return any(each.get_write_buffer_size() for each in self._transports())

    def _transports(self) -> list[asyncio.Transport]:
        connections = [] if self._server is None else self._server.connections
        return [each.transport for each in connections if each.transport is not None]

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            # The loop accepts connections again after a second.
            self._connections.make_room()
        else:
            loop.default_exception_handler(context)


def _is_our_mistake(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
