"""Requests to one site: its session and settings, and where a response comes from."""

from __future__ import annotations

import math
import os
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from requests.utils import select_proxy

from .._call import Call
from .._cancellation import CancelTokens
from .._forks import renew_after_fork
from ..errors import AIChatFreeError
from .adapter import Adapter, Request
from .connection_errors import TRANSPORT_ERRORS, innermost
from .exchange import Exchange, log
from .foreign_responses import UrllibResponse
from .headers import request_headers
from .multiplexer import Multiplexer

_PROXY_SCHEMES: Final = ("", "http", "https", "socks4", "socks4a", "socks5", "socks5h")


class Transport:
    """Sends signed bodies to one site, from any thread; works on after a fork and a pickle.

    Args:
        base_url: the site.
        headers: added to every request, over the default ones.
        proxies: as in requests; ``None`` takes them from the environment, once.
        verify: as in requests; ``True`` honours ``REQUESTS_CA_BUNDLE``, read once.
        session: a session of the user's own, used as it is and never closed.
        max_connections: connections kept open for use again; more are kept while they are used.
        max_reply_bytes: bytes of a reply's body that are read at most.

    Attributes:
        cancel_tokens: those of the calls that ``close`` cancels, waiting ones included.
    """

    def __init__(
        self,
        base_url: str,
        *,
        origin: str,
        headers: Mapping[str, str] | None = None,
        proxies: Mapping[str, str] | None = None,
        verify: bool | str = True,
        session: requests.Session | None = None,
        max_connections: int = 32,
        max_reply_bytes: int | None = None,
    ) -> None:
        self.max_reply_bytes = max_reply_bytes
        self._base_url = base_url
        self._host = origin.partition("://")[2]
        self._headers = request_headers(origin, headers)
        self._proxies = dict(proxies or {})
        self._verify = verify
        self._own_session = session is None
        self._session = session
        self._max_connections = max_connections
        self._closed = False
        self._renew()
        renew_after_fork(self)

    def _renew(self) -> None:
        """Make everything that threads and processes must not inherit."""
        self._multiplexer = Multiplexer()
        self.cancel_tokens: CancelTokens = CancelTokens()
        self._prepared: dict[tuple[str, str], Request] = {}
        if self._own_session:
            self._session = requests.Session()
            adapter = Adapter(self._multiplexer, self._max_connections)
            self._session.adapters = OrderedDict([("https://", adapter), ("http://", adapter)])
            weakref.finalize(self, adapter.close).atexit = False
        else:
            weakref.finalize(self, self._multiplexer.close).atexit = False
        assert self._session is not None
        # Not True: that would hide what a session of the user's own says.
        verify = None if self._verify is True else self._verify
        environment = self._session.merge_environment_settings(
            self._base_url, dict(self._proxies), True, verify, None
        )
        _check_authorities(environment["verify"])
        if self._own_session:
            _check_proxy(select_proxy(self._base_url, environment["proxies"]) or "")
            # What the environment says is in the settings now; a netrc file is never looked at.
            self._session.trust_env = False
        if self._base_url.startswith("http:"):
            environment["verify"] = True  # or a file that is of no use is looked up each time
        self._settings = {**environment, "stream": True}
        self._prepare("POST", "/api/generate", b"")  # shows at once whether the headers can be sent

    def after_fork(self) -> None:
        self._multiplexer.abandon()
        if self._session is not None and not self._own_session:
            for adapter in self._session.adapters.values():
                adapter.close()
        self._renew()

    def __getstate__(self) -> dict[str, Any]:
        unshared = ("_multiplexer", "cancel_tokens", "_prepared", "_settings")
        state = {key: value for key, value in self.__dict__.items() if key not in unshared}
        if self._own_session:
            state["_session"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._renew()
        renew_after_fork(self)

    def post(self, path: str, body: bytes, call: Call) -> Exchange:
        """Send one request and wait for the head of its response.

        The caller reads the exchange to its end or closes it.

        Raises:
            APIConnectionError: there was no response.
            APITimeoutError: there was none in time.
            StreamInterruptedError: the call was cancelled.
        """
        return self._exchange("POST", path, body, call)

    def get(self, path: str, call: Call) -> Exchange:
        """As :meth:`post`, for a document of the site."""
        return self._exchange("GET", path, b"", call)

    def _exchange(self, method: str, path: str, body: bytes, call: Call) -> Exchange:
        if self._closed:
            raise AIChatFreeError("This client is closed: make a new one.")
        call.check()
        max_bytes = self.max_reply_bytes or math.inf
        exchange = Exchange(call, self._host, self._multiplexer, max_bytes)
        log.debug("%s is sent %d bytes, attempt %d", self._host, len(body), call.attempts)
        try:
            call.cancel_token.interrupts(exchange)
            response = self._send(self._prepare(method, path, body), exchange, call)
            if response.raw is not exchange:
                exchange.adopt(UrllibResponse(response, max_bytes))
        except (*TRANSPORT_ERRORS, ValueError) as error:
            # ValueError: a session of the user's own works out where a redirect leads.
            meaning = exchange.error(error, begun=False)
            exchange.close()
            raise meaning from innermost(error)
        except BaseException as error:
            exchange.close(error)
            raise
        return exchange

    def _send(self, request: Any, exchange: Exchange, call: Call) -> requests.Response:
        assert self._session is not None
        request.exchange = exchange
        timeout = (
            call.seconds_for(call.timeout.connect),
            call.seconds_for(call.timeout.read),
        )
        if self._own_session:
            # Session.send would add cookies and hooks, of which there are none, and redirects,
            # which the password in the body must not follow.
            return self._session.get_adapter(self._base_url).send(
                request, timeout=timeout, **self._settings
            )
        return self._session.send(request, timeout=timeout, allow_redirects=False, **self._settings)

    def _prepare(self, method: str, path: str, body: bytes) -> requests.PreparedRequest:
        assert self._session is not None
        url = self._base_url + path
        if not self._own_session:
            # Its headers, cookies and authentication may differ each time.
            return self._session.prepare_request(
                requests.Request(method, url, headers=self._headers, data=body)
            )
        prepared = self._prepared.get((method, path))
        if prepared is None:
            prepared = Request()
            prepared.prepare(method, url, headers=self._headers)
            self._prepared[method, path] = prepared
        return prepared.with_body(body)

    def close(self) -> None:
        """Cancel all calls and close the connections, for good."""
        self._closed = True
        self.cancel_tokens.cancel_all()
        if self._own_session and self._session is not None:
            self._session.close()
        self._multiplexer.close()


def _check_authorities(path: object) -> None:
    if isinstance(path, str) and not os.path.exists(path):
        raise ValueError(
            f"there are no certificate authorities at {path!r}: check verify= "
            "(REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE)"
        )


def _check_proxy(url: str) -> None:
    scheme, _, rest = url.rpartition("://")
    try:
        host = urlsplit(f"//{rest}").hostname
    except ValueError:
        host = None
    if scheme.lower() not in _PROXY_SCHEMES or (url and not host):
        raise ValueError(  # without the URL, which may have a password in it
            "a proxy's URL is such as http://proxy.example:3128 or socks5h://127.0.0.1:1080: check "
            "proxies= (HTTPS_PROXY, HTTP_PROXY and ALL_PROXY)"
        )
    if url.lower().startswith("socks") and find_spec("socks") is None:
        raise ValueError(
            'a SOCKS proxy needs PySocks: pip install "requests[socks]"; or check proxies= '
            "(HTTPS_PROXY, HTTP_PROXY and ALL_PROXY)"
        )
