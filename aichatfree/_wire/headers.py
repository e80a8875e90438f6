"""The headers that every request has."""

from __future__ import annotations

from collections.abc import Mapping

from .._version import __version__


def request_headers(origin: str, headers: Mapping[str, str] | None) -> dict[str, str]:
    """The default headers, overridden by the user's."""
    return {
        "User-Agent": f"aichatfree/{__version__}",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        # Newer releases of the servers' web framework refuse posts from other origins.
        "Origin": origin,
        **(headers or {}),
    }
