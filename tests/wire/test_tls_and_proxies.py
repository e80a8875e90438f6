"""Ways to a site: TLS, proxies, and a session of the user's own."""

from __future__ import annotations

import socket
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
import urllib3

from aichatfree import (
    APIConnectionError,
    APITimeoutError,
    Client,
    StreamInterruptedError,
    Timeout,
)
from helpers import ClientFor
from wire.sites import (
    HEAD,
    HELLO,
    PROMPTLY,
    cancelled_after,
    certificates,
    connect_proxy,
    read_request,
    responding,
    server,
    socks_proxy,
)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    """A server's context for 127.0.0.1, and the file of its authority."""
    context, authority = certificates()
    return context, authority_file(authority, tmp_path_factory.mktemp("tls"))


def authority_file(authority: trustme.CA, folder: Path) -> str:
    path = folder / "authority.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


def test_a_site_with_tls_answers_over_one_connection(
    client_for: ClientFor, tls: tuple[ssl.SSLContext, str]
) -> None:
    """With the authority in verify=, requests are sent over TLS and the connection is kept."""
    context, authority = tls
    requests: list[bytes] = []
    connections = 0

    def handle(connection: socket.socket) -> None:
        nonlocal connections
        connections += 1
        responding(HELLO, requests=requests)(connection)

    with server(handle, context) as port:
        client = client_for(f"https://127.0.0.1:{port}", verify=authority, retry=None)
        assert [client.generate("Hi").text for _ in range(5)] == ["Hello"] * 5
    assert (len(requests), connections) == (5, 1)


def test_large_tls_records_arrive_completely(
    client_for: ClientFor, tls: tuple[ssl.SSLContext, str]
) -> None:
    """A chunk that spans many TLS records is complete, and so is what follows it."""
    context, authority = tls
    text = b"x" * 3_000_000
    response = HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(text), text)
    with server(responding(response + b"1\r\ny\r\n0\r\n\r\n"), context) as port:
        client = client_for(f"https://127.0.0.1:{port}", verify=authority, retry=None)
        assert len(client.generate("Hi").text) == 3_000_001
        assert [len(chunk) for chunk in client.stream("Hi")] == [3_000_000, 1]


def test_a_large_request_is_sent_over_tls(
    client_for: ClientFor, tls: tuple[ssl.SSLContext, str]
) -> None:
    """A request larger than the socket's buffers arrives as it was sent."""
    context, authority = tls
    requests: list[bytes] = []

    def handle(connection: socket.socket) -> None:
        time.sleep(0.2)  # the buffers are full before anything is read
        responding(HELLO, requests=requests)(connection)

    prompt = "abcdefgh" * 1_000_000
    with server(handle, context) as port:
        client = client_for(f"https://127.0.0.1:{port}", verify=authority, retry=None)
        assert client.generate(prompt).text == "Hello"
    assert prompt.encode() in requests[0]


def cut_without_close_notify(response: bytes) -> Callable[[socket.socket], None]:
    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(response)
        socket.socket.shutdown(connection, socket.SHUT_RDWR)

    return handle


def test_a_tls_connection_that_is_cut_does_not_end_a_body(
    client_for: ClientFor, tls: tuple[ssl.SSLContext, str]
) -> None:
    """Without close_notify, a body that ends with its connection is incomplete."""
    context, authority = tls
    with server(cut_without_close_notify(HEAD + b"\r\nHello"), context) as port:
        client = client_for(f"https://127.0.0.1:{port}", verify=authority, retry=None)
        with pytest.raises(StreamInterruptedError):
            client.generate("Hi")


def test_a_tls_connection_that_is_closed_ends_a_body(
    client_for: ClientFor, tls: tuple[ssl.SSLContext, str]
) -> None:
    """With close_notify, a body without a length ends with its connection."""
    context, authority = tls

    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(HEAD + b"\r\nHello")
        assert isinstance(connection, ssl.SSLSocket)
        connection.unwrap()

    with server(handle, context) as port:
        client = client_for(f"https://127.0.0.1:{port}", verify=authority, retry=None)
        assert client.generate("Hi").text == "Hello"


def test_a_framed_body_needs_no_close_notify(
    client_for: ClientFor, tls: tuple[ssl.SSLContext, str]
) -> None:
    """A chunked body is complete at its last chunk, however the connection ends."""
    context, authority = tls
    with server(cut_without_close_notify(HELLO), context) as port:
        client = client_for(f"https://127.0.0.1:{port}", verify=authority, retry=None)
        assert client.generate("Hi").text == "Hello"


def test_a_certificate_for_another_host_is_refused(client_for: ClientFor, tmp_path: Path) -> None:
    """The error names the certificate and is fatal; nothing is sent."""
    context, authority = certificates("elsewhere.example")
    requests: list[bytes] = []
    with server(responding(HELLO, requests=requests), context) as port:
        client = client_for(f"https://127.0.0.1:{port}", verify=authority_file(authority, tmp_path))
        with pytest.raises(APIConnectionError, match=r"certificate of .* not valid") as caught:
            client.generate("Hi")
    assert caught.value.fatal
    assert not requests


def test_an_unchecked_certificate_is_warned_about(
    client_for: ClientFor, tls: tuple[ssl.SSLContext, str]
) -> None:
    """verify=False connects, and urllib3 warns as it does in requests."""
    with server(responding(HELLO), tls[0]) as port:
        client = client_for(f"https://127.0.0.1:{port}", verify=False, retry=None)
        with pytest.warns(urllib3.exceptions.InsecureRequestWarning):
            assert client.generate("Hi").text == "Hello"


def test_tls_to_a_plain_port_says_so_at_once(client_for: ClientFor) -> None:
    """A site that responds to a TLS handshake in plain HTTP is recognized as such."""

    def handle(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with server(handle) as port:
        began = time.monotonic()
        with pytest.raises(APIConnectionError, match=r"no TLS at this port.*http://"):
            client_for(f"https://127.0.0.1:{port}", retry=None).generate("Hi")
        assert time.monotonic() - began < PROMPTLY


def silent(connection: socket.socket) -> None:
    while connection.recv(1000):
        pass


def test_a_slow_handshake_exceeds_the_limit_for_connecting(client_for: ClientFor) -> None:
    """The error names connect, because the request has not been sent."""
    with server(silent) as port:
        client = client_for(
            f"https://127.0.0.1:{port}", retry=None, timeout=Timeout(connect=0.3, read=20)
        )
        with pytest.raises(APITimeoutError, match=r"Timeout\(connect=") as caught:
            client.generate("Hi")
    assert "read" not in str(caught.value)


def test_the_total_covers_the_handshake(client_for: ClientFor) -> None:
    """A call ends at its deadline even if it has not got a connection yet."""
    with server(silent) as port:
        client = client_for(f"https://127.0.0.1:{port}", retry=None, timeout=Timeout(total=0.3))
        began = time.monotonic()
        with pytest.raises(APITimeoutError, match=r"total of 0\.3 s"):
            client.generate("Hi")
        assert time.monotonic() - began < PROMPTLY


def test_a_handshake_can_be_cancelled(client_for: ClientFor) -> None:
    """Cancelling does not wait for the site's part of the handshake."""
    with server(silent) as port:
        assert cancelled_after(0.2, client_for(f"https://127.0.0.1:{port}")) < PROMPTLY


@pytest.fixture
def deaf_addresses(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A host with three addresses that do not accept connections in time."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address)] * 3
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
        yield f"http://many.example:{address[1]}"
        for filler in fillers:
            filler.close()


def test_the_total_covers_all_addresses_of_a_host(
    client_for: ClientFor, deaf_addresses: str
) -> None:
    """Each address has the limit for connecting, but all of them end at the call's deadline."""
    client = client_for(deaf_addresses, retry=None, timeout=Timeout(connect=0.4, total=0.6))
    began = time.monotonic()
    with pytest.raises(APITimeoutError, match="total"):
        client.generate("Hi")
    assert 0.5 < time.monotonic() - began < 0.6 + PROMPTLY


def test_connecting_can_be_cancelled(client_for: ClientFor, deaf_addresses: str) -> None:
    """Cancelling does not wait for the limit for connecting."""
    assert cancelled_after(0.2, client_for(deaf_addresses)) < PROMPTLY


def test_a_proxy_gets_the_complete_url_and_its_password(client_for: ClientFor) -> None:
    """Over http:// the proxy is sent the request itself, with the proxy's credentials."""
    seen: list[bytes] = []
    with server(responding(HELLO, requests=seen)) as port:
        client = client_for(
            "http://site.example", proxies={"http": f"http://me:pw@127.0.0.1:{port}"}
        )
        assert client.generate("Hi").text == "Hello"
    assert seen[0].startswith(b"POST http://site.example/api/generate HTTP/1.1\r\n")
    assert b"\r\nHost: site.example\r\n" in seen[0]
    assert b"\r\nProxy-Authorization: Basic " in seen[0]


def test_tls_goes_through_a_tunnel(client_for: ClientFor, tls: tuple[ssl.SSLContext, str]) -> None:
    """Over https:// the proxy opens a tunnel, and the connection through it is kept."""
    context, authority = tls
    seen: list[bytes] = []
    with (
        server(responding(HELLO), context) as site,
        server(connect_proxy(site, seen)) as proxy,
    ):
        client = client_for(
            f"https://127.0.0.1:{site}",
            verify=authority,
            proxies={"https": f"http://127.0.0.1:{proxy}"},
        )
        assert [client.generate("Hi").text for _ in range(3)] == ["Hello"] * 3
        client.close()
    assert [request.split(b" ")[0] for request in seen] == [b"CONNECT"]


def test_tls_goes_through_a_proxy_with_tls(
    client_for: ClientFor, tls: tuple[ssl.SSLContext, str]
) -> None:
    """TLS within TLS, to a proxy at https://, works too."""
    context, authority = tls
    seen: list[bytes] = []
    with (
        server(responding(HELLO), context) as site,
        server(connect_proxy(site, seen), context) as proxy,
    ):
        client = client_for(
            f"https://127.0.0.1:{site}",
            verify=authority,
            proxies={"https": f"https://127.0.0.1:{proxy}"},
        )
        assert client.generate("Hi").text == "Hello"
        client.close()
    assert seen[0].startswith(b"CONNECT")


def test_a_socks_proxy_without_its_library_is_an_error_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without PySocks, a SOCKS proxy from the environment is refused with the command for it."""
    monkeypatch.setenv("ALL_PROXY", "socks5://user:hidden@127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "socks", None)
    with pytest.raises(ValueError, match=r"requests\[socks\]") as caught:
        Client("http://chat.example")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["ftp://hidden@a:1", "socks9://hidden@a:1", "http://[::1", "http://"]
)
def test_what_is_no_proxy_is_an_error_at_once(url: str) -> None:
    """A URL that is not a proxy's is refused with the names of the settings, and not repeated."""
    with pytest.raises(ValueError, match="proxies= ") as caught:
        Client("http://chat.example", proxies={"http": url})
    assert "hidden" not in str(caught.value)


def test_a_socks_proxy_that_refuses_is_named(client_for: ClientFor) -> None:
    """If nothing answers at a SOCKS proxy, the error is about the proxy and not about the site."""
    client = client_for(
        "http://chat.example", proxies={"http": "socks5h://127.0.0.1:9"}, retry=None
    )
    with pytest.raises(APIConnectionError, match="proxy could not be reached"):
        client.generate("Hi")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_socks_proxy_is_used(
    client_for: ClientFor, tls: tuple[ssl.SSLContext, str], scheme: str
) -> None:
    """With PySocks installed, socks5h:// leaves the name of the host to the proxy."""
    pytest.importorskip("socks")
    context, authority = tls
    seen: list[bytes] = []
    with (
        server(responding(HELLO), context if scheme == "https" else None) as site,
        server(socks_proxy(site, seen)) as proxy,
    ):
        client = client_for(
            f"{scheme}://127.0.0.1:{site}",
            verify=authority,
            proxies={scheme: f"socks5h://127.0.0.1:{proxy}"},
        )
        assert [client.generate("Hi").text for _ in range(3)] == ["Hello"] * 3
        client.close()
    assert len(seen) == 1
