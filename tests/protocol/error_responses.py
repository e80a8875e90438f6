"""Error responses as the servers send them, and the error that a client makes of one."""

from __future__ import annotations

import json
from typing import Any, Final

from hypothesis import settings

from aichatfree import APIError, APIStatusError, ProtocolError, Site
from aichatfree._protocol.responses import error_from_response

#: The same examples in every run.
steady = settings(derandomize=True, deadline=None, max_examples=200)

SITE: Final = Site()
QUOTA_PHRASE: Final = "当前地区当日额度已消耗完"
CHALLENGE: Final = (
    b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>" + b"x" * 9000
)
RETRY_INFO: Final = '[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"%s"}]'


def error_of(status: int, body: object = b"", **headers: str) -> APIStatusError | ProtocolError:
    """The error for a response; a body that is neither bytes nor a str is sent as JSON."""
    if isinstance(body, str):
        body = body.encode()
    elif not isinstance(body, bytes):
        body = json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return error_from_response(status, named, body, SITE)


def gemini(message: str) -> dict[str, Any]:
    """The body that a gemini-style server sends when its upstream fails."""
    text = "[GoogleGenerativeAI Error]: Error fetching from https://x.test/v1beta: " + message
    return {"error": {"code": "Error", "message": text}}


def openai(message: str, code: object, kind: str = "error") -> dict[str, Any]:
    """The body that an openai-style server forwards from its upstream."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def assert_presentable(error: APIError) -> None:
    """Assert that the message is one line of a length that fits into a log."""
    assert str(error).isprintable()
    assert len(str(error)) < 700
