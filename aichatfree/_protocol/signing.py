"""The signature and the JSON body of a request."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final

from .messages import Message, replace_surrogates
from .sites import Site

_JSON: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def generate_signature(time: int, text: str, secret: str = "") -> str:
    """The ``sign`` of a request: lowercase hex SHA-256 of ``"{time}:{text}:{secret}"`` in UTF-8.

    >>> aichatfree.generate_signature(1700000000000, "Hello, how are you?", "s3cret")
    '21553074a543d517b7474e6ea784c05926cc415ee52b526995a1c5c0f76094b9'

    Args:
        time: the request's ``time``, in the unit that the site uses (mostly milliseconds).
        text: the exact text of the last message; lone surrogates count as U+FFFD.
        secret: the site's key.
    """
    signed = f"{time}:{replace_surrogates(text)}:{replace_surrogates(secret)}"
    return hashlib.sha256(signed.encode()).hexdigest()


def request_body(
    site: Site,
    messages: Sequence[Message],
    *,
    now: float,
    password: str | None = None,
    model: str | None = None,
    temperature: float | None = None,
) -> bytes:
    """The signed JSON body of one attempt, made at ``now`` (seconds since the epoch)."""
    dialect = site.dialect
    time = int(now * 1000) if (site.time_unit or dialect.time_unit) == "ms" else int(now)
    encoded = dialect.encode(messages)
    signed = dialect.signed.format(
        time=time,
        text=dialect.signed_text(encoded[-1]),
        secret=replace_surrogates(site.secret or dialect.secret),
    )
    body: dict[str, Any] = {
        "messages": encoded,
        dialect.time_key: time,
        "pass": None if password is None else replace_surrogates(password),
        "sign": hashlib.sha256(signed.encode()).hexdigest(),
        **dialect.extra,
    }
    if model is not None:
        body[dialect.model_key] = replace_surrogates(model)
    if temperature is not None:
        body["temperature"] = temperature
    return _JSON.encode(body).encode()
