"""Requests to one site: over an idle connection, or over a new one if there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from .connecting import Opener
from .connection import Connection, ConnectionState
from .exchange import Exchange
from .idle_connections import Connections
from .multiplexer import Multiplexer

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Pool:
    """Sends requests over connections that it keeps. Threads may share it.

    Args:
        opener: urllib3's pool for the site, which opens the connections.
        multiplexer: reads from the connections.
        max_idle: connections kept even if they have not been used for a while.
    """

    def __init__(self, opener: Opener, multiplexer: Multiplexer, max_idle: int) -> None:
        self._opener = opener
        self._multiplexer = multiplexer
        self._connections: Connections[Connection] = Connections(max_idle)
        self._heads: dict[str, bytes] = {}

    def urlopen(
        self,
        exchange: Exchange,
        *,
        method: str,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        **unused: Any,
    ) -> Exchange:
        """Send a request and wait for the head of its response."""
        message = b"%b%d\r\n\r\n%b" % (self._head(method, url, headers), len(body), body)
        try:
            connection = self._take(exchange) or self._open(exchange)
            exchange.begin_sending()
            connection.resume()
            connection.send(message, exchange)
        finally:
            if exchange.carrier is not None:
                exchange.carrier.end_sending(exchange)
        exchange.wait_for_head()
        return exchange

    def close(self) -> None:
        """Cancel the exchanges and close the connections."""
        connections = self._connections
        with self._multiplexer.lock:
            connections.closed = True
            for connection in list(connections.open):
                if connection.exchange is not None:
                    connection.exchange.interrupt()
                elif connection.state is ConnectionState.IDLE:
                    connection.discard()

    def _take(self, exchange: Exchange) -> Connection | None:
        idle = self._connections.idle
        while True:
            with self._multiplexer.lock:
                if not idle:
                    return None
                connection = next(reversed(idle))
                del idle[connection]
                connection.take(exchange)
            if connection.is_usable():
                return connection
            connection.abandon(written=True)

    def _open(self, exchange: Exchange) -> Connection:
        sock = self._opener.open_socket(exchange)
        try:
            connection = Connection(sock, self._multiplexer, self._connections)
            with self._multiplexer.lock:
                self._multiplexer.add(connection)
                self._connections.open.add(connection)
                connection.take(exchange)
        except BaseException:
            sock.close()
            raise
        return connection

    def _head(self, method: str, url: str, headers: Mapping[str, str]) -> bytes:
        """The head of a request up to its length. Headers do not change from one to the next."""
        head = self._heads.get(url)
        if head is None:
            fields = {name: value for name, value in headers.items() if name != "Content-Length"}
            if not url.startswith("/"):
                fields.update(self._opener.proxy_headers)
            if not any(name.lower() == "host" for name in fields):
                fields = {"Host": self._host(url), **fields}
            lines = [f"{method} {url} HTTP/1.1", *(f"{n}: {value}" for n, value in fields.items())]
            head = "\r\n".join([*lines, "Content-Length: "]).encode("latin-1")
            self._heads[url] = head
        return head

    def _host(self, url: str) -> str:
        parts = urlsplit(url)
        host = (parts.hostname or self._opener.host).strip("[]")
        port = parts.port if parts.netloc else self._opener.port
        host = f"[{host}]" if ":" in host else host
        default = _DEFAULT_PORTS[parts.scheme or self._opener.scheme]
        return host if port in (None, default) else f"{host}:{port}"
