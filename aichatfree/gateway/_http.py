"""Between the HTTP library and the application: receives requests and sends responses."""

from __future__ import annotations

import asyncio
import logging
from contextlib import closing
from typing import Final

from aiohttp import HttpVersion10, HttpVersion11
from aiohttp.web import BaseRequest, RequestPayloadError, StreamResponse
from aiohttp.web import Response as HTTPResponse

from ._access_log import CUT_OFF, AccessLogEntry
from ._app import App, Stream
from ._connections import Connections
from ._fronts.front import Request
from ._responses import RefusalError, Response, refusal

logger: Final = logging.getLogger(__name__)

MAX_DISCARDED_BYTES: Final = 16 << 20
"""Bytes beyond ``max_body`` that are still received and discarded. A client that is cut off while
it sends would only see a broken connection, and not the refusal."""
REQUEST_TIMEOUT: Final = 408
"""The status in the log when a client is too slow to send a body; it gets no response."""
SERVER: Final = ("Server", "aichatfree")


class HTTPHandler:
    """Answers each request that the HTTP library has found in a connection.

    Args:
        app: answers the requests whose bodies have been received.
        connections: those of the server.
        max_body: bytes that a request's body may have.
        client_timeout: seconds that a client may take to send a body.
    """

    def __init__(
        self, app: App, connections: Connections, *, max_body: int, client_timeout: float
    ) -> None:
        self._app = app
        self._connections = connections
        self._max_body = max_body
        self._client_timeout = client_timeout

    async def __call__(self, http: BaseRequest) -> StreamResponse:
        entry = AccessLogEntry(http.remote or "-", f"{http.method} {http.path}")
        try:
            return await self._respond(http, entry)
        finally:  # also if the handler is cancelled, because the client has disconnected
            entry.write()

    async def _respond(self, http: BaseRequest, entry: AccessLogEntry) -> StreamResponse:
        front = self._app.front(http.path)
        try:
            request = await self._request(http)
            with self._connections.answering(http.protocol):
                response = await self._app.respond(front, request, entry)
                if isinstance(response, Stream):
                    return await _send(http, response)
                return _http_response(response)
        except RefusalError as error:
            response = front.refusal(error)
        except TimeoutError:  # the client is too slow
            entry.respond(REQUEST_TIMEOUT, CUT_OFF)
            return _cut_off(http, HTTPResponse())
        except ConnectionError:  # it has disconnected
            return _cut_off(http, HTTPResponse())
        except Exception:
            logger.exception("a request failed")
            response = front.refusal(refusal(500, "The gateway failed; its log has the reason."))
        entry.respond(response.status)
        return _http_response(response)

    async def _request(self, http: BaseRequest) -> Request:
        _check_that_its_end_is_clear(http)
        try:
            async with asyncio.timeout(self._client_timeout):
                body = await self._body(http)
        except RequestPayloadError as error:
            raise refusal(400, f"The request's body is malformed ({error}).") from None
        return Request(
            http.method,
            http.path,
            {name.lower(): value for name, value in http.headers.items()},
            body,
            http.remote or "-",
            framed=http.version >= HttpVersion11,
        )

    async def _body(self, http: BaseRequest) -> bytes:
        most = self._max_body + MAX_DISCARDED_BYTES
        received = http.content_length or 0
        body = bytearray()
        if received <= most:
            await _confirm_that_the_body_is_expected(http)
            received = 0
            async for block in http.content.iter_any():
                received += len(block)
                if received <= self._max_body:
                    body += block
                if received > most:
                    break
        if received > self._max_body:
            raise refusal(413, f"The request is too large: {self._max_body} bytes are the limit.")
        return bytes(body)


def _check_that_its_end_is_clear(http: BaseRequest) -> None:
    """Refuse what the HTTP library accepts although a proxy may see another end of the request."""
    problem = None
    if http.version not in (HttpVersion10, HttpVersion11):
        problem = "The only supported versions of HTTP are 1.1 and 1.0."
    elif http.method == "CONNECT":
        problem = "This server is not a proxy: CONNECT is not supported."
    elif http.headers.get("Transfer-Encoding", "chunked").strip().lower() != "chunked":
        problem = "The only supported Transfer-Encoding is chunked."
    if problem is not None:
        raise refusal(400, problem, Connection="close")


async def _confirm_that_the_body_is_expected(http: BaseRequest) -> None:
    if http.headers.get("Expect", "").lower() == "100-continue" and http.version >= HttpVersion11:
        await http.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")


async def _send(http: BaseRequest, stream: Stream) -> StreamResponse:
    response = StreamResponse(headers=[*stream.headers, SERVER])
    with closing(stream):
        try:
            await response.prepare(http)
            complete = await stream.send(response.write)
        except ConnectionError:  # the client has disconnected
            complete = False
        except Exception:
            logger.exception("an answer failed")
            complete = False
    return response if complete else _cut_off(http, response)


def _cut_off(http: BaseRequest, response: StreamResponse) -> StreamResponse:
    """Close the connection, so that nothing more is sent: not even the last chunk of the body."""
    http.protocol.force_close()
    return response


def _http_response(response: Response) -> HTTPResponse:
    http = HTTPResponse(
        status=response.status, headers=[*response.headers, SERVER], body=response.body
    )
    if http.headers.get("Connection") == "close":
        http.force_close()
    return http
