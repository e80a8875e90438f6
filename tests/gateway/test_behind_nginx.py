"""A gateway behind nginx, with the configuration that `SECURITY.md` recommends and with another."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from aichatfree import Client, StreamInterruptedError
from aichatfree.errors import ServerError
from aichatfree.gateway import EngineError, Gateway
from helpers import AT_ONCE, LONG, signed_body
from nginx_proxy import needs_nginx, nginx

from .connections import read_to_end, request
from .engines import GatedEngine, ScriptedEngine, wait_for

pytestmark = needs_nginx

Proxy = Callable[[Gateway], AbstractContextManager[str]]

SECURITY = (Path(__file__).parents[2] / "SECURITY.md").read_text()


def recommended() -> str:
    """The directives in the documentation, without the address of the gateway."""
    (block,) = re.findall(r"location / \{\n(.*?)\n\}\n", SECURITY, re.DOTALL)
    return re.sub(r"proxy_pass .*", "", block)


@pytest.fixture
def proxy(tmp_path: Path) -> Proxy:
    """An nginx with the recommended configuration, in front of a gateway."""
    return lambda gateway: nginx(gateway.url, tmp_path, recommended())


@pytest.fixture
def default_proxy(tmp_path: Path) -> Proxy:
    """An nginx that speaks HTTP/1.0 to the gateway, as most versions do by default."""
    return lambda gateway: nginx(gateway.url, tmp_path, "proxy_http_version 1.0;")


def test_a_chunk_arrives_before_the_engine_produces_the_next(proxy: Proxy) -> None:
    """Each chunk is passed on as soon as the engine has produced it."""
    engine = GatedEngine("first", "second")
    with Gateway(engine) as gateway, proxy(gateway) as url, Client(url) as client:
        engine.gate.release()
        chunks = iter(client.stream("Hello"))
        assert next(chunks) == "first"
        engine.gate.release()
        assert next(chunks) == "second"


def test_an_incomplete_answer_is_cut_off(proxy: Proxy) -> None:
    """If the engine fails after some chunks, the client sees that the answer is incomplete."""
    engine = ScriptedEngine("so", " far", error=EngineError("no"))
    with (
        Gateway(engine) as gateway,
        proxy(gateway) as url,
        Client(url, retry=None) as client,
        pytest.raises(StreamInterruptedError),
    ):
        client.generate("Hello")


def test_the_engine_is_cancelled_when_the_client_disconnects(proxy: Proxy) -> None:
    """If a client disconnects, so does nginx, and the engine ends."""
    engine = GatedEngine("one")
    with Gateway(engine) as gateway, proxy(gateway) as url, Client(url) as client:
        stream = client.stream("Hello")
        engine.gate.release()
        next(iter(stream))
        wait_for(engine.started)
        disconnected = time.monotonic()
        stream.close()
        assert engine.ended.wait(LONG)
        assert time.monotonic() - disconnected < AT_ONCE


@pytest.mark.parametrize("error", [None, EngineError("no")])
def test_an_http_1_0_proxy_gets_complete_answers_only(
    default_proxy: Proxy, error: EngineError | None
) -> None:
    """An nginx that speaks HTTP/1.0 to the gateway gets an answer with its length, or an error if
    the answer is incomplete.
    """
    with (
        Gateway(ScriptedEngine("so", " far", error=error)) as gateway,
        default_proxy(gateway) as url,
        Client(url, retry=None) as client,
    ):
        if error is None:
            assert client.generate("Hello").text == "so far"
        else:
            with pytest.raises(ServerError):
                client.generate("Hello")


def test_an_http_1_0_client_of_the_proxy_is_refused(proxy: Proxy) -> None:
    """An HTTP/1.0 client would take an answer that was cut off for complete, and gets a 426."""
    with Gateway(ScriptedEngine("so", " far")) as gateway, proxy(gateway) as url:
        host, port = url.removeprefix("http://").split(":")
        connection = socket.create_connection((host, int(port)), timeout=LONG)
        connection.sendall(request(signed_body(), version="1.0", connection="close"))
        assert b" 426 " in read_to_end(connection).partition(b"\r\n")[0]
