"""The adapter of the package's own ``requests.Session``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from .exchange import Exchange
from .multiplexer import Multiplexer
from .pool import Pool


class Request(requests.PreparedRequest):
    """A prepared request that knows its exchange."""

    exchange: Exchange

    def with_body(self, body: bytes) -> Request:
        """The same request with another body. Preparing one costs as much as sending it."""
        request = Request()
        request.__dict__.update(self.__dict__)
        request.headers = self.headers.copy()
        request.headers["Content-Length"] = str(len(body))
        request.body = body
        return request


class Adapter(HTTPAdapter):
    """Sends requests over connections of our own; works out once how the site is reached."""

    def __init__(self, multiplexer: Multiplexer, max_idle: int) -> None:
        self._multiplexer = multiplexer
        self._max_idle = max_idle
        self._pool: Any = None
        self._targets: dict[str | None, str] = {}
        super().__init__()

    def get_connection_with_tls_context(
        self, request: Any, verify: Any, proxies: Any = None, cert: Any = None
    ) -> Any:
        pool = self._pool
        if pool is None:
            opener = super().get_connection_with_tls_context(request, verify, proxies, cert)
            super().cert_verify(opener, request.url, verify, cert)
            proxy = opener.proxy
            if proxy is not None and proxy.scheme == "https" and opener.scheme == "https":
                pool = opener  # urllib3's socket for TLS within TLS must block
            else:
                pool = Pool(opener, self._multiplexer, self._max_idle)
            self._pool = pool
        return _Route(pool, request.exchange) if isinstance(pool, Pool) else pool

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Nothing to do for each request."""

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        target = self._targets.get(request.url)
        if target is None:
            target = self._targets[request.url] = super().request_url(request, proxies)
        return target

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        response = requests.Response()
        response.status_code = resp.status
        response.headers = resp.headers
        response.raw = resp
        response.request = req
        return response

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
        self._multiplexer.close()
        super().close()


class _Route:
    """The way of one request: what ``HTTPAdapter.send`` takes for a pool of urllib3."""

    def __init__(self, pool: Pool, exchange: Exchange) -> None:
        self._pool = pool
        self._exchange = exchange

    def urlopen(
        self, *, method: str, url: str, body: bytes, headers: Mapping[str, str], **unused: Any
    ) -> Exchange:
        self._pool.send(self._exchange, method, url, body, headers)
        return self._exchange
