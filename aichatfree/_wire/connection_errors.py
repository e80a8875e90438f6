"""What a failure of the connection means: errors of requests, urllib3 and sockets become ours."""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

import requests
import urllib3.exceptions as u3

from .._protocol.sites import Site
from ..errors import APIConnectionError, APIError, APITimeoutError, StreamInterruptedError
from ..timeout import Timeout
from .parsing import ResponseError

TRANSPORT_ERRORS: Final = (
    requests.RequestException,
    u3.HTTPError,
    http.client.HTTPException,
    OSError,
)
"""What sending a request and reading its response may raise."""

_SILENCE: Final = (u3.ReadTimeoutError, requests.ReadTimeout, TimeoutError)

_TOO_MANY_FILES: Final = (errno.EMFILE, errno.ENFILE)

_PROXY: Final = (u3.ProxyError, requests.exceptions.ProxyError)

DEFAULT_HOST: Final = urlsplit(Site.base_url).hostname

_NO_TLS_HERE: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")
"""OpenSSL's names for bytes that are not TLS."""


class HandshakeTimeoutError(u3.ConnectTimeoutError):
    """The site accepted the connection but did not answer the TLS handshake."""


def error_before_response(failure: Exception, *, host: str, timeout: Timeout) -> APIError:
    """The error for a request that got no response."""
    causes = list(causes_of(failure))
    if any(getattr(cause, "errno", None) in _TOO_MANY_FILES for cause in causes):
        return APIConnectionError(
            "This process has too many open files: raise their limit (ulimit -n), or use fewer "
            "connections at once (max_workers=).",
            reason="too many open files",
        )
    meaning = _error_before_response(causes, host=host, timeout=timeout)
    blocked = any(isinstance(cause, (*_PROXY, ssl.SSLError)) for cause in causes)
    if host != DEFAULT_HOST or blocked:
        return meaning
    error = type(meaning)(
        f"{host}, the default site, no longer answers. Use the built-in model with Client.local() "
        "(AICHATFREE_BASE_URL=local), name another site with base_url= "
        "(AICHATFREE_BASE_URL), or serve a model yourself: aichatfree serve --help.",
        reason=meaning.reason,
        fatal=meaning.fatal,
    )
    error.max_retries = 1  # a new user should read this soon
    return error


def _error_before_response(causes: list[BaseException], *, host: str, timeout: Timeout) -> APIError:
    for cause in causes:
        if isinstance(cause, u3.NameResolutionError):
            return APIConnectionError(
                f"The host {host!r} does not exist, or its name could not be looked up: check "
                "base_url= (AICHATFREE_BASE_URL) and the network.",
                reason="unknown host",
                fatal=True,
            )
        # Through a SOCKS proxy, urllib3 raises this one without a cause.
        through_socks = isinstance(cause, u3.NewConnectionError) and len(causes) == 1
        if isinstance(cause, _PROXY) or through_socks:
            return APIConnectionError(
                "The proxy could not be reached or refused: check proxies= (HTTPS_PROXY, "
                "HTTP_PROXY and NO_PROXY).",
                reason="no connection to the proxy",
            )
        if _is_connect_timeout(cause):
            return _connect_timeout_error(cause, host, timeout)
        if isinstance(cause, ssl.SSLError):
            return _tls_error(cause, host)
        if isinstance(cause, ConnectionRefusedError):
            return APIConnectionError(
                f"Nothing answers at {host} (connection refused): check base_url= "
                "(AICHATFREE_BASE_URL), and that the site is running.",
                reason="connection refused",
            )
    if any(isinstance(cause, _SILENCE) for cause in causes):
        return silence_error(host, timeout)
    why = reason(causes)
    return APIConnectionError(
        f"The connection to {host} broke before an answer came ({why}). Try again.",
        reason=f"connection broken: {why}",
    )


def _is_connect_timeout(error: BaseException) -> bool:
    if isinstance(error, u3.NewConnectionError):  # which urllib3 derives from the one for timeouts
        return False
    return isinstance(error, (u3.ConnectTimeoutError, requests.ConnectTimeout))


def _connect_timeout_error(error: BaseException, host: str, timeout: Timeout) -> APITimeoutError:
    if isinstance(error, HandshakeTimeoutError):
        return APITimeoutError(
            f"{host} accepted the connection but not TLS within {timeout.connect} s: is it "
            "http://? Check base_url= (AICHATFREE_BASE_URL), or allow more with "
            "timeout=Timeout(connect=...).",
            reason=f"no TLS within {timeout.connect} s",
        )
    return APITimeoutError(
        f"{host} could not be reached within {timeout.connect} s: check the network, or allow "
        "more with timeout=Timeout(connect=...).",
        reason=f"not reached within {timeout.connect} s",
    )


def _tls_error(error: ssl.SSLError, host: str) -> APIConnectionError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return APIConnectionError(
            f"The certificate of {host} is not valid ({error.verify_message}): check base_url=, or "
            "name the authority's file in verify= (REQUESTS_CA_BUNDLE).",
            retryable=False,
            fatal=True,
        )
    if error.reason in _NO_TLS_HERE:
        return APIConnectionError(
            f"There is no TLS at this port of {host}: is it http://? Check base_url= "
            "(AICHATFREE_BASE_URL).",
            retryable=False,
            fatal=True,
        )
    return APIConnectionError(
        f"No secure connection to {host} ({error.reason or 'TLS'}): check that base_url= should "
        "begin with https://.",
        reason="no secure connection",
    )


def error_in_response(error: Exception, *, host: str, timeout: Timeout) -> APIError:
    """The error for a response that did not come to its end."""
    causes = list(causes_of(error))
    if any(isinstance(cause, _SILENCE) for cause in causes):
        return silence_error(host, timeout)
    why = reason(causes)
    return StreamInterruptedError(
        f"The connection to {host} broke in the middle of the answer ({why}): the answer is "
        "incomplete. Try again.",
        reason=f"connection broken in the answer: {why}",
    )


def silence_error(host: str, timeout: Timeout) -> APITimeoutError:
    """The error for a site that has been silent for too long."""
    return APITimeoutError(
        f"{host} was silent for {timeout.read} s. Try again, or allow more with "
        "timeout=Timeout(read=...).",
        reason=f"silent for {timeout.read} s",
    )


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """The error and whatever is wrapped in it, outermost first."""
    seen: set[int] = set()
    pending: list[BaseException] = [error]
    while pending:
        cause = pending.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        # Not __context__: that may be an error which the user is handling, or an earlier attempt's.
        inner = [cause.__cause__, getattr(cause, "reason", None), *cause.args]
        pending.extend(each for each in inner if isinstance(each, BaseException))


def innermost(error: BaseException) -> BaseException:
    """What caused an error, without a traceback: those of urllib3 and requests fill a screen."""
    *_, cause = causes_of(error)
    cause.__cause__ = None
    cause.__suppress_context__ = True
    return cause.with_traceback(None)


def forget_request(error: BaseException) -> None:
    """Let no cause of an error keep the request: its body has the password and the prompt.

    An error stays for long, and some engines (Dask) send it elsewhere with all its causes.
    """
    for cause in causes_of(error):
        if isinstance(cause, requests.RequestException):
            cause.request = cause.response = None


def reason(causes: list[BaseException]) -> str:
    """The innermost cause in a few words; never a body, an address or a header."""
    for cause in reversed(causes):
        if isinstance(cause, socket.gaierror):
            continue
        if isinstance(cause, ResponseError):
            return str(cause)
        if isinstance(cause, OSError) and cause.errno is not None:
            return errno.errorcode.get(cause.errno, f"error {cause.errno}")
        if isinstance(cause, (http.client.HTTPException, u3.HTTPError)):
            return type(cause).__name__
    return type(causes[0]).__name__
