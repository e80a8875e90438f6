"""The signed chat protocol: sites, messages, signatures and request bodies. Pure, no I/O."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, TypedDict
from urllib.parse import urlsplit


class Message(TypedDict):
    """One turn of a conversation, in the form that users write.

    >>> history: list[aichatfree.Message] = [{"role": "user", "content": "Name a river."}]
    >>> print(client.generate(history))
    The Nile.
    """

    role: Literal["system", "user", "assistant"]
    content: str


Prompt: TypeAlias = str | Sequence[Mapping[str, object]]

ROLES: Final = ("system", "user", "assistant")


# --- sites ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dialect:
    """How one family of servers spells messages.

    >>> aichatfree.GEMINI.encode([{"role": "assistant", "content": "Hello"}])
    [{'role': 'model', 'parts': [{'text': 'Hello'}]}]
    >>> aichatfree.OPENAI.encode([{"role": "assistant", "content": "Hello"}])
    [{'role': 'assistant', 'content': 'Hello'}]

    Attributes:
        name: what users call it.
        assistant: the wire's name for the role ``assistant``.
        parts: whether the text is at ``parts[].text``; otherwise it is at ``content``.
        system: whether the server knows the role ``system``; otherwise system messages are put
            in front of the next user message.
        temperature: whether the server passes a temperature on.
        user_last: whether the server refuses a conversation that does not end with the user.
    """

    name: str
    assistant: str
    parts: bool
    system: bool
    temperature: bool
    user_last: bool

    def encode(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """The messages as this dialect sends them."""
        return [self._encode_one(message) for message in self._fold_system(messages)]

    def _encode_one(self, message: Message) -> dict[str, Any]:
        role = self.assistant if message["role"] == "assistant" else message["role"]
        if self.parts:
            return {"role": role, "parts": [{"text": message["content"]}]}
        return {"role": role, "content": message["content"]}

    def _fold_system(self, messages: Sequence[Message]) -> list[Message]:
        if self.system:
            return list(messages)
        folded: list[Message] = []
        pending: list[str] = []
        for message in messages:
            if message["role"] == "system":
                pending.append(message["content"])
            elif message["role"] == "user" and pending:
                content = "\n\n".join([*pending, message["content"]])
                folded.append({"role": "user", "content": content})
                pending = []
            else:
                folded.append(message)
        if pending:
            folded.append({"role": "user", "content": "\n\n".join(pending)})
        return folded


GEMINI: Final = Dialect(
    "gemini", assistant="model", parts=True, system=False, temperature=False, user_last=True
)
OPENAI: Final = Dialect(
    "openai", assistant="assistant", parts=False, system=True, temperature=True, user_last=False
)
DIALECTS: Final[Mapping[str, Dialect]] = {d.name: d for d in (GEMINI, OPENAI)}


@dataclass(frozen=True)
class Site:
    """What differs between deployments of the protocol.

    >>> site = aichatfree.Site("https://chat.example", aichatfree.OPENAI, time_unit="s")
    >>> aichatfree.Client(site)
    Client('https://chat.example', dialect='openai')

    Attributes:
        base_url: scheme, host and, if need be, a path; ``/api/generate`` is added to it.
        dialect: ``GEMINI``, ``OPENAI`` or a :class:`Dialect` of your own.
        time_unit: the unit of ``time`` in a request: ``"ms"``, or ``"s"`` on a few deployments.
        secret: the key of the signature; never shown.
        quota_phrases: sentences that mean "quota used up" where they are a whole answer with
            status 200, or stand anywhere in an error 500.
        default_model: the model named in a request where the user names none.
    """

    base_url: str = "https://aichatfree.info"
    dialect: Dialect = GEMINI
    time_unit: Literal["ms", "s"] = "ms"
    secret: str = dataclasses.field(default="", repr=False)
    quota_phrases: tuple[str, ...] = ("当前地区当日额度已消耗完",)
    default_model: str = "gemini-1.5-pro"

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_url", check_base_url(self.base_url))
        if not isinstance(self.dialect, Dialect):
            raise TypeError("Site.dialect takes a Dialect, such as GEMINI or OPENAI")
        if self.time_unit not in ("ms", "s"):
            raise ValueError(f'Site.time_unit takes "ms" or "s", not {self.time_unit!r}')
        if not isinstance(self.secret, str):
            raise TypeError(f"the secret must be a str, not {type(self.secret).__name__}")

    @property
    def origin(self) -> str:
        """Scheme and host, as a browser would name them in ``Origin``."""
        parts = urlsplit(self.base_url)
        host = (parts.hostname or "").encode("idna").decode()
        host = f"[{host}]" if ":" in host else host
        usual = {"http": 80, "https": 443}[parts.scheme]
        port = "" if parts.port in (None, usual) else f":{parts.port}"
        return f"{parts.scheme}://{host}{port}"


def check_base_url(url: str) -> str:
    """The URL without a slash at its end.

    Raises:
        TypeError: it is not a ``str``.
        ValueError: it is not a usable http or https URL.
    """
    if not isinstance(url, str):
        raise TypeError(f"base_url must be a str, not {type(url).__name__}")
    example = "write it like https://aichatfree.info"
    if any(c.isspace() or not c.isprintable() for c in url):
        raise ValueError(f"base_url has a space or control character in it: {example}")
    if "?" in url or "#" in url:
        raise ValueError(f"base_url must not have a ? or # part: {example}")
    if "@" in url and not re.match(r"https?://[^/@]+/", url):
        # None of these messages shows a URL with a password in it.
        raise ValueError("base_url must not hold a user name or password: send them in headers=")
    try:
        parts = urlsplit(url)
        port = parts.port
        (parts.hostname or "").encode("idna")
    except ValueError:
        raise ValueError(f"base_url is not a URL: {example}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"base_url {url!r} needs http:// or https:// and a host: {example}")
    if port == 0:
        raise ValueError(f"base_url {url!r} has port 0: {example}")
    if parts.path.rstrip("/").endswith("/api/generate"):
        raise ValueError(f"base_url {url!r} must end before /api/generate, which is added to it")
    return url.rstrip("/")


# --- messages ---------------------------------------------------------------------------------


def replace_surrogates(text: str) -> str:
    """The text as JavaScript would encode it: surrogate pairs joined, lone ones made U+FFFD.

    The servers hash the text that they decoded, so the same has to be signed and sent.
    """
    if text.isascii() or not re.search("[\ud800-\udfff]", text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def messages_from(prompt: Prompt, system: str | None, dialect: Dialect) -> list[Message]:
    """The prompt as a checked list of messages.

    Raises:
        TypeError: the prompt, a message or its content has the wrong type.
        ValueError: it is empty, a role is unknown, or the last message may not come last.
    """
    if isinstance(prompt, str):
        messages: list[Message] = [_message("user", prompt, "the prompt")]
    elif isinstance(prompt, Sequence) and not isinstance(prompt, (bytes, bytearray)):
        messages = check_messages(prompt)
    else:
        raise TypeError(
            f"a prompt is a str or a list of messages, not {type(prompt).__name__}"
            + (": decode it first" if isinstance(prompt, (bytes, bytearray)) else "")
        )
    if not messages:
        raise ValueError('there are no messages: write at least {"role": "user", "content": ...}')
    if system:
        messages.insert(0, _message("system", system, "system"))
    last = messages[-1]
    if last["role"] == "system" or (dialect.user_last and last["role"] != "user"):
        raise ValueError(
            f"the last message is from {last['role']!r}: the {dialect.name} dialect needs the "
            'last one to be from "user"'
        )
    if not last["content"].strip():
        raise ValueError("the prompt is empty: write what the model should answer")
    return messages


def check_messages(items: Sequence[object]) -> list[Message]:
    """The items, each checked to be a message.

    Raises:
        TypeError, ValueError: one is not; it is named by its number, from 1.
    """
    return [_message_from(item, number) for number, item in enumerate(items, 1)]


def _message_from(item: object, number: int) -> Message:
    if not isinstance(item, Mapping):
        raise TypeError(
            f'message {number} must be {{"role": ..., "content": ...}}, not {type(item).__name__}'
        )
    missing = [key for key in ("role", "content") if key not in item]
    if missing:
        raise ValueError(f"message {number} has no {missing[0]!r}")
    return _message(item["role"], item["content"], f"the content of message {number}")


def _message(role: Any, content: object, where: str) -> Message:
    if role not in ROLES:
        raise ValueError(f"unknown role {role!r}: use one of {', '.join(map(repr, ROLES))}")
    if not isinstance(content, str):
        raise TypeError(f"{where} must be a str, not {type(content).__name__}")
    return {"role": role, "content": replace_surrogates(content)}


def check_temperature(temperature: object, dialect: Dialect | None = None) -> None:
    """Raise unless it is a usable temperature, in this dialect if one is given."""
    if temperature is None:
        return
    if isinstance(temperature, bool) or not isinstance(temperature, (int, float)):
        raise TypeError(f"temperature must be a number, not {type(temperature).__name__}")
    if not 0 <= temperature <= 100:
        raise ValueError("temperature must be from 0 to 100 (most models take up to 2)")
    if dialect is not None and not dialect.temperature:
        raise ValueError(
            f"sites of the {dialect.name} dialect ignore the temperature: leave it out"
        )


def decode_messages(value: object) -> tuple[Dialect, list[Message]]:
    """Messages read off the wire, in whichever dialect they are; a server's side of ``encode``.

    Raises:
        ValueError: they are in no dialect, or what they say cannot be answered.
    """
    if not isinstance(value, list) or not value:
        raise ValueError("No input text: `messages` must be a list with at least one message.")
    if not all(isinstance(item, dict) for item in value):
        raise ValueError("Every message must be an object with a role and a text.")
    dialect = GEMINI if "parts" in value[0] else OPENAI
    messages = [_decode_one(item, dialect) for item in value]
    last = messages[-1]
    if dialect.user_last and last["role"] != "user":
        raise ValueError("Invalid message history: The last message must be from user role.")
    if not last["content"].strip():
        raise ValueError("No input text: the last message is empty.")
    return dialect, messages


def _decode_one(item: dict[str, object], dialect: Dialect) -> Message:
    roles = {"user": "user", dialect.assistant: "assistant"}
    if dialect.system:
        roles["system"] = "system"
    role = item.get("role")
    if not isinstance(role, str) or role not in roles:
        raise ValueError(f"Unknown role: use one of {', '.join(roles)}.")
    content = _parts_text(item.get("parts")) if dialect.parts else item.get("content")
    if not isinstance(content, str):
        raise ValueError("Every message must have a text, all in the same dialect.")
    return {"role": roles[role], "content": replace_surrogates(content)}  # type: ignore[typeddict-item]


def _parts_text(parts: object) -> str | None:
    if not isinstance(parts, list):
        return None
    texts = [part.get("text") if isinstance(part, dict) else None for part in parts]
    strings = [text for text in texts if isinstance(text, str)]
    return "".join(strings) if texts and len(strings) == len(texts) else None


# --- requests ---------------------------------------------------------------------------------


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
    time = int(now * 1000) if site.time_unit == "ms" else int(now)
    encoded = site.dialect.encode(messages)
    text = encoded[-1]["parts"][0]["text"] if site.dialect.parts else encoded[-1]["content"]
    body: dict[str, Any] = {
        "messages": encoded,
        "time": time,
        "pass": None if password is None else replace_surrogates(password),
        "sign": generate_signature(time, text, site.secret),
        "model": replace_surrogates(model or site.default_model),
    }
    if temperature is not None:
        body["temperature"] = temperature
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
