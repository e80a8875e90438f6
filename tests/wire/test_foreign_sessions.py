"""A `requests.Session` of the user, passed as `session=`."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool

from aichatfree import (
    APIError,
    Timeout,
)
from aichatfree.testing import Answer, FakeSite
from helpers import ClientFor
from wire.sites import HELLO, PROMPTLY, cancelled_after, read_request


class UnixConnection(urllib3.connection.HTTPConnection):
    path = ""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


class UnixAdapter(HTTPAdapter):
    """What users write to reach a server at a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__()
        connection = type("Connection", (UnixConnection,), {"path": path})
        self.pool = type("Pool", (HTTPConnectionPool,), {"ConnectionCls": connection})("localhost")

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        return self.pool


def test_an_adapter_for_unix_sockets_works_in_session(
    client_for: ClientFor, tmp_path: Path
) -> None:
    """A user's session is used with its adapters, whatever their connections are."""
    path = str(tmp_path / "site")
    with socket.socket(socket.AF_UNIX) as listener, requests.Session() as session:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            with listener.accept()[0] as connection:
                read_request(connection)
                connection.sendall(HELLO)

        thread = threading.Thread(target=serve)
        thread.start()
        adapter = UnixAdapter(path)
        session.mount("http://", adapter)
        assert client_for("http://localhost", session=session).generate("Hi").text == "Hello"
        thread.join()
        adapter.pool.close()


def test_a_session_of_the_user_keeps_the_limits_between_chunks(client_for: ClientFor) -> None:
    """The total and a cancel apply to it as well."""
    with FakeSite(Answer("a", "b", end="stall")) as site, requests.Session() as session:
        client = client_for(site.url, session=session, retry=None, timeout=Timeout(total=0.5))
        began = time.monotonic()
        with pytest.raises(APIError):
            client.generate("Hi")
        assert time.monotonic() - began < 0.5 + PROMPTLY
        assert cancelled_after(0.2, client.with_options(timeout=30)) < PROMPTLY
