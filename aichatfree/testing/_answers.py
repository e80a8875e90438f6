"""What the items of a script say: a well-formed response (`Answer`), or exact bytes (`Raw`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

from .._arguments import check_number

Framing = Literal["chunked", "length", "close"]
End = Literal["clean", "cut", "reset", "stall", "tail"]
RawEnd = Literal["clean", "cut", "reset", "stall"]

_SURROGATE = re.compile("[\ud800-\udfff]")


class Answer:
    """An HTTP response, well formed until its end.

    >>> from aichatfree.testing import Answer, FakeSite
    >>> with FakeSite(Answer("half of it", end="cut")) as site:
    ...     aichatfree.Client(site.url, retry=None).generate("Hello")
    Traceback (most recent call last):
    aichatfree.errors.StreamInterruptedError: ...

    Args:
        chunks: the body, ``str`` (sent as UTF-8) or ``bytes``. The headers are sent together with
            the first chunk. An empty chunk sends nothing, or only the headers if it is the first.
        stream: the body as an iterable instead, which may be endless. It is iterated for each
            request, so a generator object serves only one; a callable in the script can make more.
        body: the complete body instead, with ``framing="length"`` unless stated otherwise.
        status: from 200 to 999.
        headers: added to the default ones; they replace those of the same name.
        framing: how the client learns where the body ends: ``"chunked"``, ``"length"`` (a
            Content-Length) or ``"close"`` (the end of the connection). An HTTP/1.0 client gets
            ``"close"`` for ``"chunked"``.
        content_type: ``None`` sends no Content-Type.
        delay: seconds of silence before the headers.
        gap: seconds of silence between two chunks. Silences are accurate to about a millisecond.
        end: what follows the last chunk.
            ``"clean"``: the end of a complete body.
            ``"tail"``: a last chunk ``Internal server error``, then a clean end.
            ``"cut"``: the connection is closed before the end of the body (which a client can
            detect in ``"chunked"`` and ``"length"`` framing only).
            ``"reset"``: the connection is reset (TCP RST), which may overtake the last chunks.
            ``"stall"``: silence until the client disconnects or the site stops.
        split: send at most this many bytes of the response at a time, so that characters and chunk
            headers are split (a client that reads slowly receives several parts at once).

    Raises:
        TypeError: an argument that should be a number is not one.
        ValueError: an argument is out of its range, or two of ``chunks``, ``stream`` and ``body``
            are given, or ``framing="length"`` with a ``stream``.
    """

    def __init__(
        self,
        *chunks: str | bytes,
        stream: Iterable[str | bytes] | None = None,
        body: str | bytes | None = None,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        framing: Framing | None = None,
        content_type: str | None = "text/plain; charset=utf-8",
        delay: float = 0.0,
        gap: float = 0.0,
        end: End = "clean",
        split: int | None = None,
    ) -> None:
        if bool(chunks) + (stream is not None) + (body is not None) > 1:
            raise ValueError("give the body once: as chunks, stream or body")
        if framing is None:
            framing = "chunked" if body is None else "length"
        if framing == "length" and stream is not None:
            raise ValueError("framing='length' needs chunks or body: a stream's length is unknown")
        check_number("status", status, min=200, max=999, integer=True)
        if split is not None:
            check_number("split", split, min=1, integer=True, unit="bytes")
        check_number("delay", delay, min=0, unit="seconds")
        check_number("gap", gap, min=0, unit="seconds")
        _check_choice("framing", framing, get_args(Framing))
        _check_choice("end", end, get_args(End))
        self.chunks: Iterable[str | bytes] = chunks if body is None else (body,)
        if stream is not None:
            self.chunks = stream
        self.status = status
        self.headers: dict[str, str] = dict(headers or {})
        self.framing = framing
        self.content_type = content_type
        self.delay = delay
        self.gap = gap
        self.end = end
        self.split = split


class Raw:
    """Exact bytes in place of an HTTP response: half a status line, a wrong chunk size.

    >>> from aichatfree.testing import FakeSite, Raw
    >>> with FakeSite([Raw(b"HTTP/1.1 2"), "Hello"]) as site:
    ...     print(aichatfree.Client(site.url).generate("Hi"))
    Hello

    Args:
        parts: bytes; each part is sent separately.
        gap: seconds of silence between two parts.
        end: ``"cut"`` closes the connection, ``"reset"`` and ``"stall"`` are those of `Answer`,
            and ``"clean"`` waits for the next request, as after a complete response.

    Raises:
        TypeError: ``gap`` is not a number.
        ValueError: ``gap`` is negative, or ``end`` is unknown.
    """

    def __init__(self, *parts: bytes, gap: float = 0.0, end: RawEnd = "cut") -> None:
        check_number("gap", gap, min=0, unit="seconds")
        _check_choice("end", end, get_args(RawEnd))
        self.parts = parts
        self.gap = gap
        self.end = end


def to_bytes(text: str | bytes) -> bytes:
    """Encode as the real servers write and hash text: U+FFFD in place of a lone surrogate."""
    return text if isinstance(text, bytes) else _SURROGATE.sub("\ufffd", text).encode()


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}, not {value!r}")
