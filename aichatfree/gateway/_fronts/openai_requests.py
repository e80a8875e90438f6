"""The body of a request for a chat completion.

=====================================================  =========================================
field                                                  what the gateway makes of it
=====================================================  =========================================
``messages``                                           text, as a string or in parts; images where
                                                       the engine takes them, else a 400. The role
                                                       ``developer`` means ``system``.
``model``                                              any name, which is repeated in the answer
``stream``                                             honoured
``stream_options.include_usage``                       honoured; zeros where the engine cannot count
``temperature``                                        0 to 2; dropped for sites without one
``max_tokens``, ``max_completion_tokens``              honoured by models, ignored for sites
``n``, ``tools``, ``functions``, ``stop``, ``audio``,  a 400, unless the value asks for nothing
``response_format``, ``logprobs``, ``modalities``
``top_p``, ``seed``, ``presence_penalty``,             ignored
``frequency_penalty``, ``logit_bias``, ``user``,
``reasoning_effort``, ``verbosity``, ``metadata``,
``store``, ``service_tier``, ``prediction``,
``parallel_tool_calls``, ``tool_choice``, any other
=====================================================  =========================================
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from ..._arguments import check_number
from ..._protocol.messages import Message, check_messages
from ..._protocol.responses import one_line
from .._responses import refusal

MAX_MODEL: Final = 200
"""Characters that a model's name may have, because every chunk of the answer repeats it."""

UNSUPPORTED: Final[dict[str, tuple[object, ...]]] = {
    "audio": (),
    "functions": ([],),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "response_format": ({"type": "text"},),
    "stop": ([], ""),
    "tools": ([],),
}
"""Fields whose absence would change the answer, with the values, besides null, that do nothing."""

_TYPES: Final[dict[str, type]] = {"model": str, "stream": bool, "stream_options": dict}
_ROLES: Final = {"developer": "system"}


@dataclass(frozen=True)
class ChatRequest:
    """What a request asks for."""

    messages: list[Message]
    model: str | None
    stream: bool
    include_usage: bool
    temperature: float | None
    max_tokens: int | None


def read_request(body: dict[str, Any], *, images: bool) -> ChatRequest:
    """The request in this body.

    Args:
        body: the JSON object that was sent.
        images: whether messages may have images.

    Raises:
        RefusalError: 400, with the field that cannot be used in ``param``.
    """
    for name, neutral in UNSUPPORTED.items():
        value = body.get(name)
        if value is not None and value not in neutral:
            message = f"`{name}` is not supported here: leave it out."
            raise refusal(400, message, param=name, code="unsupported_parameter")
    for name, kind in _TYPES.items():
        if not isinstance(body.get(name), (kind, type(None))):
            raise refusal(400, f"`{name}` must be a {kind.__name__}.", param=name)
    if len(body.get("model") or "") > MAX_MODEL:
        raise refusal(400, f"`model` may have {MAX_MODEL} characters.", param="model")
    options = body.get("stream_options") or {}
    return ChatRequest(
        messages=_messages(body.get("messages"), images),
        model=body.get("model"),
        stream=bool(body.get("stream")),
        include_usage=options.get("include_usage") is True,
        temperature=_number(body, "temperature", min=0, max=2),
        max_tokens=_number(body, "max_completion_tokens", min=1, integer=True)
        or _number(body, "max_tokens", min=1, integer=True),
    )


def _messages(value: object, images: bool) -> list[Message]:
    with _refusing("messages"):
        if not isinstance(value, list) or not value:
            raise ValueError("`messages` must be a list with at least one message")
        messages = check_messages([_with_known_role(item) for item in value])
        if not images and any("images" in message for message in messages):
            raise ValueError("this model takes no images: leave them out")
    return messages


def _with_known_role(item: object) -> object:
    if not isinstance(item, dict):
        return item
    role = item.get("role")
    if not isinstance(role, str):
        raise TypeError("every message must have a role")
    # Of an assistant's earlier turns, clients also send what those did besides their text.
    return {"role": _ROLES.get(role, role), "content": item.get("content")}


def _number(body: dict[str, Any], name: str, **limits: Any) -> Any:
    if body.get(name) is not None:
        with _refusing(name):
            check_number(f"`{name}`", body[name], **limits)
    return body.get(name)


@contextmanager
def _refusing(param: str) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError) as error:
        raise refusal(400, f"{one_line(str(error))}.", param=param) from None
