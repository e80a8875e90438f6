"""Opening a connection through urllib3: names, proxies, tunnels, TLS; within the call's limits."""

from __future__ import annotations

import errno
import io
import math
import os
import socket
import ssl
import time
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any, Final

import urllib3.connection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
)
from urllib3.util import wait_for_write

from .connection_errors import HandshakeTimeoutError

if TYPE_CHECKING:
    from .exchange import Exchange

_POLL_INTERVAL: Final = 0.05
"""Seconds after which a connection that is being opened notices that its call was cancelled."""

_IN_PROGRESS: Final = (errno.EINPROGRESS, errno.EWOULDBLOCK)


class _Connecting(urllib3.connection.HTTPConnection):
    """Connects to the site or to the proxy; urllib3 does everything else."""

    exchange: Exchange

    def response_class(  # type: ignore[override]
        self, sock: socket.socket, **options: Any
    ) -> HTTPResponse:
        """The response of a proxy that was asked for a tunnel."""
        return HTTPResponse(_TunnelReader(sock, self.exchange), **options)  # type: ignore[arg-type]

    def _new_conn(self) -> socket.socket:
        failure: OSError | None = None
        for family, kind, protocol, _, address in self._addresses():
            try:
                sock = socket.socket(family, kind, protocol)
                try:
                    for option in self.socket_options or ():
                        sock.setsockopt(*option)
                    self._connect(sock, address)
                    self._prepare_handshake(sock)
                except BaseException:
                    sock.close()
                    raise
                return sock
            except OSError as error:
                failure = error
        if isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(self, f"no connection to {self.host}") from failure
        raise NewConnectionError(self, f"no connection to {self.host}: {failure}") from failure

    def _addresses(self) -> list[Any]:
        try:
            # urllib3's name for the host keeps a final dot, which matters to the name server.
            return socket.getaddrinfo(self._dns_host.strip("[]"), self.port, 0, socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            socket.socket().close()  # with too many open files, any host seems not to exist
            gaierror = error if isinstance(error, socket.gaierror) else socket.gaierror(str(error))
            raise NameResolutionError(self.host, self, gaierror) from error

    def _connect(self, sock: socket.socket, address: Any) -> None:
        sock.setblocking(False)
        seconds = self.exchange.seconds_to_connect()
        late = math.inf if seconds is None else time.monotonic() + seconds
        code = sock.connect_ex(address)
        if code in _IN_PROGRESS:
            while not wait_for_write(sock, min(_POLL_INTERVAL, late - time.monotonic())):
                self.exchange.seconds_to_connect()  # raises if the call is cancelled or late
                if time.monotonic() >= late:
                    raise TimeoutError
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))

    def _prepare_handshake(self, sock: socket.socket) -> None:
        """Limit what urllib3 does with the socket next, a handshake with a proxy or of TLS."""
        sock.settimeout(self.exchange.seconds_to_connect())
        if self.default_port == 443 or self.proxy is not None:
            self.exchange.hold_connecting(sock.dup())


class _TunnelReader(io.RawIOBase):
    """Reads what a proxy sends, in as many pieces as it likes, within the limits for connecting."""

    def __init__(self, sock: socket.socket, exchange: Exchange) -> None:
        self._socket = sock
        self._exchange = exchange
        self._late = time.monotonic() + (exchange.seconds_to_connect() or math.inf)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._exchange.seconds_to_connect()  # raises if the call is cancelled or late
        left = self._late - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(None if left == math.inf else left)
        return self._socket.recv_into(buffer)


class Opener(HTTPConnectionPool):
    """A pool of urllib3, of which only the way to open a connection is used."""

    def open_socket(self, exchange: Exchange) -> Any:
        """A socket that is connected to the site, through a proxy and with TLS where that is due.

        Args:
            exchange: for its limits.

        Raises:
            OSError, urllib3.exceptions.HTTPError: there is no connection.
        """
        raw: Any = self._new_conn()
        raw.exchange = exchange
        raw.timeout = exchange.seconds_to_connect()
        try:
            if self.proxy is not None and self.scheme == "https":
                self._prepare_proxy(raw)  # asks the proxy for a tunnel
            self._validate_conn(raw)  # connects over TLS; warns if certificates are not checked
            if raw.sock is None:
                raw.connect()
        except BaseException as error:
            raw.close()
            if isinstance(error, TimeoutError):  # those of the connection itself are urllib3's
                kind = ConnectTimeoutError if raw.proxy is not None else HandshakeTimeoutError
                raise kind(raw, f"no connection to {raw.host}") from error
            refused = isinstance(error, (OSError, NewConnectionError))
            if raw.proxy is not None and refused and not isinstance(error, ssl.SSLError):
                raise ProxyError("no connection to the proxy", Exception(error)) from error
            raise
        finally:
            exchange.hold_connecting(None)
        return raw.sock


def opener_class(pool_class: Any) -> type[Opener]:
    """The same pool of urllib3 as an :class:`Opener`."""
    connection = pool_class.ConnectionCls
    if not connection.__name__.startswith("SOCKS"):  # PySocks connects to those proxies
        connection = type("Connection", (_Connecting, connection), {})
    return type("Opener", (Opener, pool_class), {"ConnectionCls": connection})
