"""Requests to a gateway, by `requests` and over plain sockets."""

from __future__ import annotations

import json
import socket
from typing import Any

import requests

from aichatfree.gateway import Gateway
from helpers import LONG


def post(
    gateway: Gateway, body: Any, path: str = "/api/generate", **options: Any
) -> requests.Response:
    """The response to a body, which may also be an iterator of chunks."""
    return requests.post(gateway.url + path, body, timeout=LONG, **options)


CHAT = "/v1/chat/completions"
QUESTION: dict[str, Any] = {"model": "any", "messages": [{"role": "user", "content": "Hi"}]}


def ask(gateway: Gateway, body: dict[str, Any]) -> requests.Response:
    """The response to a request of OpenAI's API."""
    return post(gateway, json.dumps(body).encode(), CHAT)


def connect(gateway: Gateway) -> socket.socket:
    """A connection on which nothing has been sent."""
    host, port = gateway.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=LONG)


def request(
    body: bytes, path: str = "/api/generate", version: str = "1.1", connection: str = "keep-alive"
) -> bytes:
    """The bytes of a complete request."""
    head = (
        f"POST {path} HTTP/{version}\r\nHost: x\r\nConnection: {connection}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def send(gateway: Gateway, body: bytes, version: str = "1.1") -> socket.socket:
    """A connection on which a question has been sent; the gateway closes it after the answer."""
    connection = connect(gateway)
    connection.sendall(request(body, version=version, connection="close"))
    return connection


def read_to_end(connection: socket.socket) -> bytes:
    """Everything that the gateway sends until it closes the connection."""
    with connection:
        return b"".join(iter(lambda: connection.recv(65536), b""))


def read_response(connection: socket.socket) -> bytes:
    """One response with a `Content-Length`."""
    response = b""
    while b"\r\n\r\n" not in response:
        response += connection.recv(65536)
    head, _, body = response.partition(b"\r\n\r\n")
    length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def is_closed(connection: socket.socket) -> bool:
    """Whether the gateway has closed the connection; waits for that or for a byte."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True
