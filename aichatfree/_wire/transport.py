"""Requests on the wire: one Session, its pool, time limits, and replies as pieces of bytes."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Generator, Iterator, Mapping
from functools import partial
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter
from requests.cookies import RequestsCookieJar

from .._cancellation import CancelTokens, cancelled_error
from .._deadlines import Call, Timeout
from .._forks import renew_after_fork
from .._version import __version__
from ..errors import AIChatFreeError, APIError, ReplyTooLargeError
from .connection_errors import (
    TRANSPORT_ERRORS,
    error_before_reply,
    error_in_reply,
    forget_request,
    silence_error,
)
from .connections import POOLS, Connection, sending
from .watchdog import Watchdog

log: Final = logging.getLogger("aichatfree.requests")

READ_SIZE: Final = 65536
# What comes of chunk sizes beyond memory, and of what urllib3 makes of a compressed body's.
_BAD_CHUNKS: Final = (ValueError, OverflowError, MemoryError)


class Exchange:
    """One request and its reply. Only the thread that sent it reads it; any may interrupt it.

    Attributes:
        status: the HTTP status.
        headers: the reply's headers; names in any case.
        framed: whether each piece is one HTTP chunk as the server sent it.
        received: bytes of the body so far.
        chunks: pieces of it so far.
        deadline: when it has been silent for too long, or the call's time is up (monotonic).
    """

    def __init__(
        self, call: Call, host: str, watchdog: Watchdog[Exchange], max_bytes: float
    ) -> None:
        self._call = call
        self._host = host
        self._watchdog = watchdog
        self._max_bytes = max_bytes
        self._silence = call.timeout.read or math.inf
        self._connection: Connection | None = None
        self._response: requests.Response | None = None
        self._fate: APIError | None = None
        connecting = call.timeout.connect or math.inf
        self.deadline: float = min(call.deadline, time.monotonic() + connecting + self._silence)
        self.status: int = 0
        self.headers: Mapping[str, str] = {}
        self.framed: bool = False
        self.received: int = 0
        self.chunks: int = 0
        self._sent = time.monotonic()
        self._outcome = "given up"
        self._logged = False

    def begin(self, response: requests.Response) -> None:
        """The headers have arrived."""
        self._response = response
        self.status = response.status_code
        self.headers = response.headers
        self.framed = bool(getattr(response.raw, "chunked", False)) and not response.headers.get(
            "Content-Encoding"
        )
        self._alive()
        log.debug("%s answers %d after %.3f s", self._host, self.status, self._seconds())

    def use(self, connection: Connection) -> None:
        """The connection that carries this exchange is known."""
        self._connection = connection
        if self._fate is not None:
            connection.interrupt(self)

    def interrupt(self) -> None:
        """Make a thread that waits for this exchange fail at once."""
        self._fate = self._fate or self._reason_to_end()
        if self._connection is not None:
            self._connection.interrupt(self)
        elif self._response is not None:
            # A session of the user's own, whose connections do not know about exchanges.
            with contextlib.suppress(ValueError, RuntimeError, OSError):
                self._response.raw.shutdown()

    def pieces(self) -> Generator[bytes, None, None]:
        """The body, live: HTTP chunks as they are, or whatever each read of the socket gives.

        Raises:
            StreamInterruptedError: it broke off, or the call was cancelled.
            APITimeoutError: it was silent for too long, or the call's time is up.
            ReplyTooLargeError: it is longer than it may be.
        """
        latest = self._call.deadline
        try:
            # Little in here: answers of many small chunks spend their time in this loop.
            for piece in self._raw_pieces():
                if self._fate is not None:
                    break
                self.chunks += 1
                self.received += len(piece)
                if self.received > self._max_bytes:
                    yield piece[: int(self._max_bytes - self.received)]
                    raise self._too_large()
                # A reader that takes its time is not the site's silence.
                self.deadline = latest
                yield piece
                silent = time.monotonic() + self._silence
                self.deadline = silent if silent < latest else latest
            if self._fate is not None:
                raise self._fate
            self._outcome = "read to its end"
        except APIError as error:
            self._outcome = type(error).__name__
            raise
        except (*TRANSPORT_ERRORS, *_BAD_CHUNKS) as error:
            raise self.error(error, begun=True) from error
        finally:
            self.close()

    def _raw_pieces(self) -> Iterator[bytes]:
        assert self._response is not None
        raw = self._response.raw
        if getattr(raw, "chunked", False):
            # Chunks come whole, so that the failure tail can be told; only one that is too large
            # anyway is cut, because it would have to be held in memory.
            largest = None if self._max_bytes == math.inf else int(self._max_bytes) + 1
            pieces: Iterator[bytes] = raw.read_chunked(largest, decode_content=True)
            return pieces
        # read1 is the one call that neither waits for a full buffer nor loses the end.
        return iter(partial(raw.read1, READ_SIZE, decode_content=True), b"")

    def read_up_to(self, limit: int) -> bytes:
        """The first ``limit`` bytes of the body, or what comes before it breaks off or drags on."""
        body = b""
        self._max_bytes = limit
        enough = time.monotonic() + self._silence
        try:
            for piece in self.pieces():
                body += piece
                if len(body) >= limit or time.monotonic() >= enough:
                    break
        except APIError:
            # An error reply cut short is still one, unless nobody waits for it.
            if self._call.cancel_token.is_set():
                raise
        finally:
            self.close()
        return body[:limit]

    def close(self) -> None:
        """Give the connection back if the reply was read to its end, or close it; idempotent."""
        self._watchdog.unwatch(self)
        self._call.cancel_token.interrupts(None)
        # Let go of: the idle connection keeps its last exchange, and the reply keeps the pool.
        response, self._response = self._response, None
        if response is not None:
            with contextlib.suppress(*TRANSPORT_ERRORS):
                response.close()
        self._log()

    def _log(self) -> None:
        if self._logged:
            return
        self._logged = True
        log.info(
            "%s %s, %d bytes in %d chunks, %.3f s, attempt %d, %s",
            self._host,
            self.status or "no reply",
            self.received,
            self.chunks,
            self._seconds(),
            max(1, self._call.attempts),
            self._outcome,
        )

    def _seconds(self) -> float:
        return time.monotonic() - self._sent

    def error(self, error: Exception, *, begun: bool) -> APIError:
        """What a failure of the connection means for this exchange."""
        forget_request(error)
        meaning = self._meaning(error, begun)
        self._outcome = type(meaning).__name__
        return meaning

    def _meaning(self, error: Exception, begun: bool) -> APIError:
        if self._fate is not None:
            return self._fate
        if time.monotonic() >= self._call.deadline:
            return self._call.deadline_error()
        meaning = error_in_reply if begun else error_before_reply
        return meaning(error, host=self._host, timeout=self._call.timeout)

    def _too_large(self) -> APIError:
        return ReplyTooLargeError(
            f"The answer of {self._host} grew beyond {self._max_bytes} bytes and was given up. "
            "If such an answer is right, allow more with max_reply_bytes=."
        )

    def _reason_to_end(self) -> APIError:
        now = time.monotonic()
        if not self._call.cancel_token.is_set() and now >= self._call.deadline:
            return self._call.deadline_error()
        if not self._call.cancel_token.is_set() and now >= self.deadline:
            return silence_error(self._host, self._call.timeout)
        return cancelled_error()

    @property
    def longest_silence(self) -> float | None:
        """Seconds for each read and write of a socket."""
        return self._call.timeout.read

    def _alive(self) -> None:
        self.deadline = min(self._call.deadline, time.monotonic() + self._silence)


def _least(limit: float | None, left: float) -> float | None:
    """Seconds for a phase of a request whose time is limited as a whole too."""
    seconds = min(left, limit or math.inf)
    return None if seconds == math.inf else max(0.001, seconds)


class _NoCookies(RequestsCookieJar):
    """None to send: the protocol has no use for them, and replies are not looked through."""

    def copy(self) -> _NoCookies:
        return self  # one for each request would cost a tenth of it


class _Adapter(HTTPAdapter):
    """Works out once what follows from the site, the proxy and the authorities: they stay."""

    def __init__(self, **settings: Any) -> None:
        self._pool: Any = None
        self._targets: dict[str | None, str] = {}
        super().__init__(**settings)

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool = self._pool
        if pool is None:
            pool = self._pool = super().get_connection_with_tls_context(*args, **kwargs)
        return pool

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        response = requests.Response()
        response.status_code = resp.status
        response.headers = resp.headers
        response.raw = resp
        response.request = req
        return response

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        target = self._targets.get(request.url)
        if target is None:
            target = self._targets[request.url] = super().request_url(request, proxies)
        return target

    def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()
        super().close()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = POOLS
        return manager


class Transport:
    """Sends signed bodies to one site, from any thread; works on after a fork and a pickle.

    Args:
        base_url: the site.
        headers: added to every request, over the default ones.
        proxies: as in requests; ``None`` takes them from the environment, once.
        verify: as in requests; ``True`` honours ``REQUESTS_CA_BUNDLE``, read once.
        session: a session of the user's own, used as it is and never closed.
        max_connections: connections kept open for use again; more threads make it grow.
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
        self._headers = {
            "User-Agent": f"aichatfree/{__version__}",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            # Newer releases of the servers' web framework refuse posts from other origins.
            "Origin": origin,
            **(headers or {}),
        }
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
        self._lock = threading.Lock()
        self._watchdog: Watchdog[Exchange] = Watchdog()
        self.cancel_tokens: CancelTokens = CancelTokens()
        self._pool_size = self._max_connections
        self._prepared: dict[str, requests.PreparedRequest] = {}
        if self._own_session:
            self._session = requests.Session()
            self._mount()
        else:
            assert self._session is not None
        # Not True: that would hide what a session of the user's own says.
        verify = None if self._verify is True else self._verify
        environment = self._session.merge_environment_settings(
            self._base_url, dict(self._proxies), True, verify, None
        )
        authorities = environment["verify"]
        if isinstance(authorities, str) and not os.path.exists(authorities):
            raise ValueError(
                f"there are no certificate authorities at {authorities!r}: check verify=, "
                "REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE"
            )
        if self._own_session:
            # What the environment says is in the settings now; a netrc file is never looked at.
            self._session.trust_env = False
        if self._base_url.startswith("http:"):
            environment["verify"] = True  # or a file that is of no use is looked up each time
        self._settings = {**environment, "stream": True}
        self._request("/api/generate", b"")  # shows at once whether the headers can be sent

    def after_fork(self) -> None:
        if self._session is not None and not self._own_session:
            for adapter in self._session.adapters.values():
                adapter.close()
        self._renew()

    def _mount(self) -> None:
        assert self._session is not None
        adapter = _Adapter(pool_connections=4, pool_maxsize=self._pool_size)
        # Not mount(), which changes the mapping under the threads that look into it.
        self._session.adapters = OrderedDict([("https://", adapter), ("http://", adapter)])

    def __getstate__(self) -> dict[str, Any]:
        unshared = ("_lock", "_watchdog", "cancel_tokens", "_prepared", "_settings", "_pool_size")
        state = {key: value for key, value in self.__dict__.items() if key not in unshared}
        if self._own_session:
            state["_session"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._renew()
        renew_after_fork(self)

    def post(self, path: str, body: bytes, call: Call) -> Exchange:
        """Send one request and wait for the headers of its reply.

        The caller reads the exchange's pieces to their end or closes it.

        Raises:
            APIConnectionError: no reply came.
            APITimeoutError: not in time.
            StreamInterruptedError: the call was cancelled.
        """
        if self._closed:
            raise AIChatFreeError("This client is closed: make a new one.")
        call.check()
        exchange = Exchange(call, self._host, self._watchdog, self.max_reply_bytes or math.inf)
        left = call.deadline - time.monotonic()
        log.debug("%s is sent %d bytes, attempt %d", self._host, len(body), call.attempts)
        sending.exchange = exchange
        try:
            self._fit_pool(self._watchdog.watch(exchange))
            call.cancel_token.interrupts(exchange)
            exchange.begin(self._send(path, body, call.timeout, left))
        except (*TRANSPORT_ERRORS, ValueError) as error:
            # ValueError: a session of the user's own works out where a redirect leads.
            meaning = exchange.error(error, begun=False)
            exchange.close()
            raise meaning from error
        except BaseException:
            exchange.close()
            raise
        finally:
            sending.exchange = None
        return exchange

    def _send(self, path: str, body: bytes, timeout: Timeout, left: float) -> requests.Response:
        assert self._session is not None
        request = self._request(path, body)
        limits = (_least(timeout.connect, left), _least(timeout.read, left))
        if self._own_session:
            # Session.send would add cookies and hooks, of which there are none, and redirects,
            # which the password in the body must not follow.
            return self._session.get_adapter(self._base_url).send(
                request, timeout=limits, **self._settings
            )
        return self._session.send(request, timeout=limits, allow_redirects=False, **self._settings)

    def _request(self, path: str, body: bytes) -> requests.PreparedRequest:
        assert self._session is not None
        url = self._base_url + path
        if not self._own_session:
            # Its headers, cookies and authentication may differ each time.
            return self._session.prepare_request(
                requests.Request("POST", url, headers=self._headers, data=body)
            )
        # Preparing a request costs as much as sending it, and nothing but the body changes.
        prepared = self._prepared.get(path)
        if prepared is None:
            prepared = requests.PreparedRequest()
            prepared.prepare("POST", url, headers=self._headers, cookies=_NoCookies())
            self._prepared[path] = prepared
        request = prepared.copy()
        request.body = body
        request.headers["Content-Length"] = str(len(body))
        return request

    def _fit_pool(self, in_flight: int) -> None:
        # A pool smaller than its users throws connections away at every request.
        if not self._own_session or in_flight <= self._pool_size:
            return
        with self._lock:
            while in_flight > self._pool_size:
                self._pool_size *= 2
            self._mount()

    def close(self) -> None:
        """Cancel what is under way and close the connections, for good."""
        self._closed = True
        self.cancel_tokens.cancel_all()
        self._watchdog.stop()
        if self._own_session and self._session is not None:
            self._session.close()
