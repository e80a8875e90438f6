"""Connections that the site closes, restarts of a site, and what a closed client leaves behind."""

from __future__ import annotations

import contextlib
import gc
import pickle
import socket
from collections.abc import Callable

import pytest

from aichatfree import AIChatFreeError, Client
from aichatfree.gateway import Gateway
from aichatfree.testing import Answer, FakeSite
from helpers import ClientFor, Echo, echo


def test_a_connection_closed_while_idle_costs_no_request(client_for: ClientFor) -> None:
    """If the site closes an idle connection, the next request succeeds without a retry."""
    with FakeSite(echo) as site:
        client = client_for(site.url, retry=None)
        for number in range(50):
            assert client.generate(str(number)).text == f"echo {number}"
            site.drop_connections()
        assert len(site.requests) == 50


def test_a_site_may_close_the_connection_after_every_answer(client_for: ClientFor) -> None:
    """`Connection: close` is honoured: each request opens a connection, and none fails."""
    with FakeSite(Answer("Hello", headers={"Connection": "close"})) as site:
        client = client_for(site.url, retry=None)
        assert [client.generate("Hi").text for _ in range(20)] == ["Hello"] * 20
        assert len({request.connection for request in site.requests}) == 20


def test_a_client_works_after_its_site_is_restarted(client_for: ClientFor) -> None:
    """After a restart of the site on the same port, requests succeed without a retry."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    client = client_for(f"http://127.0.0.1:{port}", retry=None)
    for number in range(3):
        with Gateway(Echo(), port=port):
            assert client.generate(f"echo {number}").text == f"echo {number}"


def open_sockets(port: int) -> int:
    """The number of connections from this process to the port."""
    count = 0
    for thing in gc.get_objects():
        if isinstance(thing, socket.socket) and thing.fileno() != -1:
            with contextlib.suppress(OSError, IndexError):  # a Unix socket has no port
                count += thing.getpeername()[1] == port
    return count


def read_completely(client: Client) -> None:
    client.generate("Hi")


def read_one_chunk(client: Client) -> None:
    next(client.stream("Hi"))


def fail(client: Client) -> None:
    with pytest.raises(AIChatFreeError):
        client.generate("cut")


def use_a_pickled_copy(client: Client) -> None:
    with pickle.loads(pickle.dumps(client)) as copy:
        copy.generate("Hi")


@pytest.mark.parametrize("use", [read_completely, read_one_chunk, fail, use_a_pickled_copy])
def test_a_closed_client_leaves_no_connection_open(use: Callable[[Client], None]) -> None:
    """Closing a client closes its idle connections and those of answers that were not read."""
    complete, cut = Answer("one", "two", gap=0.01), Answer("one", end="cut")
    with FakeSite(lambda request: cut if request.text == "cut" else complete) as site:
        port = int(site.url.rpartition(":")[2])
        with Client(site.url, retry=None) as client:
            client.generate("Hi")
            assert open_sockets(port) == 1
            use(client)
        assert open_sockets(port) == 0
