"""Messages and sites for the tests of the protocol, and a request's body as a server reads it."""

from __future__ import annotations

import json
from typing import Any, Final

from hypothesis import settings

from aichatfree import OPENAI, Message, Site
from aichatfree._protocol.messages import Prompt
from aichatfree._protocol.prompts import messages_from
from aichatfree._protocol.signing import request_body

#: The same examples in every run.
steady = settings(derandomize=True, deadline=None, max_examples=150)

MILLISECONDS: Final = Site()
SECONDS: Final = Site(time_unit="s")
OPENAI_SITE: Final = Site(dialect=OPENAI)
NOW: Final = 1700000000.5

TRICKY_TEXTS: Final = [
    "Hello, how are you?",
    "  spaces\tand newlines stay \r\n",
    "Où est-ce? Кто ты? 你好 🙂",
    "cafe\u0301",  # decomposed
    "caf\u00e9",  # composed
    "\ufeffBOM",
    "line\u2028separator\x00NUL",
    'quote " backslash \\ colon:colon',
]


def user(content: str) -> Message:
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    return {"role": "assistant", "content": content}


def system(content: str) -> Message:
    return {"role": "system", "content": content}


def sent(site: Site, prompt: Prompt, **options: Any) -> dict[str, Any]:
    """The JSON object that a server receives."""
    messages = messages_from(prompt, options.pop("system", None), site.dialect)
    body = json.loads(request_body(site, messages, now=options.pop("now", NOW), **options))
    assert isinstance(body, dict)
    return body


def last_text(body: dict[str, Any]) -> str:
    """The text of the last message, read as the servers read it."""
    last = body["messages"][-1]
    return "".join(p["text"] for p in last["parts"]) if "parts" in last else str(last["content"])
