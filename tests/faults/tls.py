"""A TLS server in front of a site that speaks plain HTTP."""

from __future__ import annotations

import selectors
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import trustme


@dataclass(frozen=True)
class TLSSite:
    """The URL of a TLS server, and the private authority that has signed its certificate."""

    url: str
    authority: trustme.CA

    def authority_file(self, directory: Path) -> str:
        """Write the authority's certificate to a file, for ``verify=``."""
        path = directory / "authority.pem"
        self.authority.cert_pem.write_to_path(path)
        return str(path)


@contextmanager
def tls_site(url: str, name: str = "127.0.0.1") -> Iterator[TLSSite]:
    """A TLS server with a certificate for ``name`` that forwards to the site at ``url``."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    behind = urlsplit(url)
    forwarder = _Forwarder(context, (behind.hostname or "", behind.port or 0))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        forwarder.start(forwarder.accept, listener)
        try:
            yield TLSSite(f"https://127.0.0.1:{listener.getsockname()[1]}", authority)
        finally:
            forwarder.stopping.set()
            listener.shutdown(socket.SHUT_RDWR)
            for thread in forwarder.threads:
                thread.join()


class _Forwarder:
    def __init__(self, context: ssl.SSLContext, target: tuple[str, int]) -> None:
        self.context = context
        self.target = target
        self.stopping = threading.Event()
        self.threads: list[threading.Thread] = []

    def start(self, work: Callable[[socket.socket], None], sock: socket.socket) -> None:
        thread = threading.Thread(target=work, args=(sock,))
        self.threads.append(thread)
        thread.start()

    def accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while not self.stopping.is_set():
                self.start(self.forward, listener.accept()[0])

    def forward(self, plain: socket.socket) -> None:
        plain.settimeout(5)
        with (
            plain,
            suppress(OSError),
            socket.create_connection(self.target) as site,
            self.context.wrap_socket(plain, server_side=True) as client,
            selectors.DefaultSelector() as ready,
        ):
            ready.register(client, selectors.EVENT_READ, (client, site))
            ready.register(site, selectors.EVENT_READ, (site, client))
            while not self.stopping.is_set():
                for key, _ in ready.select(0.05):
                    source, sink = key.data
                    data = source.recv(1 << 16)
                    if not data:
                        return
                    sink.sendall(data)
