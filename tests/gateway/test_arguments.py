"""The arguments of `Gateway`, and where it listens."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import requests

from aichatfree.gateway import Gateway
from helpers import Echo


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"port": 70000}, ValueError),
        ({"port": "8000"}, TypeError),
        ({"max_streams": 1.5}, TypeError),
        ({"max_streams": 0}, ValueError),
        ({"max_streams": 100_000}, ValueError),
        ({"queue_timeout": -1}, ValueError),
        ({"queue_timeout": None}, TypeError),
        ({"max_body": 0}, ValueError),
        ({"max_body": 2**63}, ValueError),
        ({"time_window": 0}, ValueError),
        ({"time_window": float("nan")}, ValueError),
        ({"time_window": "60"}, TypeError),
        ({"engine": 5}, TypeError),
        ({"password": ""}, ValueError),
        ({"password": []}, ValueError),
        ({"password": ["a", ""]}, ValueError),
        ({"password": 5}, TypeError),
        ({"password": [5]}, TypeError),
        ({"secret": None}, TypeError),
    ],
)
def test_a_wrong_argument_is_an_error_that_names_it(
    arguments: dict[str, Any], error: type[Exception]
) -> None:
    """A wrong type is a `TypeError` and a wrong value a `ValueError`, with the argument's name."""
    with pytest.raises(error, match=f"{next(iter(arguments))} must"):
        Gateway(**{"engine": Echo(), **arguments})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "example.org"])
@pytest.mark.parametrize("protection", [{}, {"secret": "s"}, {"password": "p"}])
def test_a_host_that_others_can_reach_needs_a_secret_and_a_password(
    host: str, protection: dict[str, str]
) -> None:
    """To listen on anything but a loopback address, a secret and a password are required."""
    with pytest.raises(ValueError, match=r"secret= .*and password="):
        Gateway(Echo(), host=host, **protection)  # type: ignore[arg-type]


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "localhost"),
        pytest.param("::1", "[::1]", marks=pytest.mark.skipif(not has_ipv6(), reason="needs IPv6")),
        ("0.0.0.0", "127.0.0.1"),
    ],
)
def test_the_url_leads_to_the_gateway(host: str, shown: str) -> None:
    """`Gateway.url` can be used on this machine, whatever address the gateway listens on."""
    with Gateway(Echo(), host=host, secret="s", password="p") as gateway:
        assert gateway.url.startswith(f"http://{shown}:")
        assert requests.get(gateway.url, timeout=5).status_code == 200


def test_a_port_in_use_is_an_error_that_names_the_address() -> None:
    """The error for a port in use has the host and the port, and advises to choose another port."""
    with Gateway(Echo()) as gateway:
        port = int(gateway.url.rpartition(":")[2])
        with pytest.raises(OSError, match=rf"127\.0\.0\.1 port {port} .*choose another port"):
            Gateway(Echo(), port=port)


def test_the_repr_shows_neither_the_secret_nor_the_password() -> None:
    """The repr of a gateway has its URL, and "closed" once it is closed."""
    with Gateway(Echo(), secret="topsecret", password="sesame") as gateway:
        assert repr(gateway) == f"<Gateway {gateway.url}>"
    assert repr(gateway) == f"<Gateway {gateway.url} closed>"
