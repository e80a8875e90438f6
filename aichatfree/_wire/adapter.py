"""The adapter of the package's own ``requests.Session``."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter

from .connecting import Opener, opener_class
from .exchange import Exchange
from .multiplexer import Multiplexer
from .pool import Pool

_BLANK_RESPONSE: Final = vars(requests.Response())


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
            pool = super().get_connection_with_tls_context(request, verify, proxies, cert)
            super().cert_verify(pool, request.url, verify, cert)
            if isinstance(pool, Opener):
                pool = Pool(pool, self._multiplexer, self._max_idle)
            self._pool = pool
        if not isinstance(pool, Pool):
            return pool
        # HTTPAdapter.send calls this one method of what it takes for a pool of urllib3.
        return SimpleNamespace(urlopen=partial(pool.urlopen, request.exchange))

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self._use_openers(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not proxy.lower().startswith("https:"):  # urllib3's socket for TLS within TLS blocks
            self._use_openers(manager)
        return manager

    def _use_openers(self, manager: Any) -> None:
        classes = manager.pool_classes_by_scheme
        manager.pool_classes_by_scheme = {
            scheme: opener_class(pool_class) for scheme, pool_class in classes.items()
        }

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Nothing to do for each request."""

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        target = self._targets.get(request.url)
        if target is None:
            target = self._targets[request.url] = super().request_url(request, proxies)
        return target

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        response = requests.Response.__new__(requests.Response)
        vars(response).update(_BLANK_RESPONSE)  # making a cookie jar for each is 5 % of a request
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
