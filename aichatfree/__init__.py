"""Blocking, thread-based SDK for the signed streaming chat protocol of AIChatFree.

>>> import aichatfree
>>> client = aichatfree.Client("http://127.0.0.1:8000")
>>> client
Client('http://127.0.0.1:8000', dialect='gemini')
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING

from ._version import __version__

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from ._protocol.dialects import GEMINI, OPENAI, Dialect
    from ._protocol.messages import Message
    from ._protocol.signing import generate_signature
    from ._protocol.sites import Site
    from .chat import Chat
    from .client import Client
    from .errors import (
        AIChatFreeError,
        APIConnectionError,
        APIError,
        APIStatusError,
        APITimeoutError,
        AuthenticationError,
        BadRequestError,
        EmptyReplyError,
        NotFoundError,
        OverloadedError,
        PermissionDeniedError,
        ProtocolError,
        RateLimitError,
        ReplyTooLargeError,
        ServerError,
        StatedLimits,
        StreamInterruptedError,
    )
    from .health import Finding, Health
    from .retry import RetryPolicy
    from .router import Router
    from .stream import Reply, Stream
    from .timeout import Timeout

__all__ = [
    "GEMINI",
    "OPENAI",
    "AIChatFreeError",
    "APIConnectionError",
    "APIError",
    "APIStatusError",
    "APITimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "Chat",
    "Client",
    "Dialect",
    "EmptyReplyError",
    "Finding",
    "Health",
    "Message",
    "NotFoundError",
    "OverloadedError",
    "PermissionDeniedError",
    "ProtocolError",
    "RateLimitError",
    "Reply",
    "ReplyTooLargeError",
    "RetryPolicy",
    "Router",
    "ServerError",
    "Site",
    "StatedLimits",
    "Stream",
    "StreamInterruptedError",
    "Timeout",
    "__version__",
    "generate_signature",
]

# Where each name lives. They are imported when they are first used, so that importing the package
# does not import the network libraries.
_HOME = {
    "Chat": "chat",
    "Client": "client",
    "Finding": "health",
    "Health": "health",
    "Timeout": "timeout",
    "GEMINI": "_protocol.dialects",
    "OPENAI": "_protocol.dialects",
    "Dialect": "_protocol.dialects",
    "Site": "_protocol.sites",
    "Message": "_protocol.messages",
    "generate_signature": "_protocol.signing",
    "RetryPolicy": "retry",
    "Router": "router",
    "Reply": "stream",
    "Stream": "stream",
}
_PACKAGES = ("batch", "gateway", "testing")


logging.getLogger(__name__).addHandler(logging.NullHandler())  # silent unless asked


def __getattr__(name: str) -> object:
    if name in _PACKAGES:
        return import_module(f".{name}", __name__)
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME.get(name, 'errors')}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(ipython: InteractiveShell) -> None:
    """What ``%load_ext aichatfree`` calls; it adds ``%%ask`` and ``%ask``."""
    from .notebook import AskMagics, keep_question_marks

    ipython.register_magics(AskMagics)
    ipython.input_transformers_cleanup.append(keep_question_marks)
