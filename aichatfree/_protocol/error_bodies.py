"""What an error response's body names: the innermost message, status and identifiers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

MAX_DEPTH: Final = 5
"""Errors inside the messages of errors that are read; real ones have three levels."""

ERRORS: Final = (
    *("errors", "error", "erro", "errore", "fehler", "erreur", "hata", "kesalahan", "błąd"),
    *("ошибка", "错误", "錯誤", "エラー", "오류", "lỗi", "خطأ", "त्रुटि"),
)
MESSAGES: Final = (
    *("message", "msg", "detail", "error_description", "error_msg", "errmsg", "error_message"),
    *("mensagem", "mensaje", "messaggio", "nachricht", "meldung", "mesaj", "pesan", "wiadomość"),
    *(
        "сообщение",
        "описание",
        "消息",
        "信息",
        "提示",
        "訊息",
        "メッセージ",
        "메시지",
        "رسالة",
        "संदेश",
    ),
    *ERRORS,
)
_CODES: Final = (
    *("type", "reason", "status", "code", "statuscode", "status_code"),
    *(
        "codigo",
        "código",
        "codice",
        "statut",
        "kod",
        "kode",
        "код",
        "статус",
        "代码",
        "状态码",
        "コード",
    ),
)
_OF_DATA: Final = ("title", "info", "data", "result", "path", "timestamp", "id", "object")
ERROR_KEYS: Final = frozenset(
    [
        *(*MESSAGES, *_CODES, *_OF_DATA, "error_code", "errcode", "errno", "success", "sucesso"),
        *("exito", "ok", "request_id", "requestid", "trace_id", "traceid", "retry_after"),
        *("param", "retcode", "retmsg", "ret", "errormsg", "raw_status_code"),
    ]
)
"""The keys of JSON objects that tell of an error and nothing else, in lower case."""

TRACEBACK: Final = "Traceback (most recent call last):"
_PYTHON_TRACE: Final = rf"{re.escape(TRACEBACK)}(?:\n[ \t][^\n]*)+"
_STACK_TRACE: Final = re.compile(
    rf"[^\w`]{{0,4}}(?:(?:{_PYTHON_TRACE}\n\S[^\n]*\n\s*(?:During|The above)[^\n]*:\n\s*)*"
    rf"{_PYTHON_TRACE}\n([A-Z_a-z][\w.]*(?::[^\n]*(?:\n[ \t][^\n]*)*)?)"
    r"|((?:Uncaught )?[\w.]*(?:Error|Exception)\b[^\n]*)(?:\n\s+at [^\n]+)+)\s*"
)
"""A text that is nothing but a stack trace of Python or JavaScript; its groups are the error."""

THROWN: Final = re.compile(
    r"[^\w`\[(]{0,4}(?:Uncaught )?[\[(]?(?P<name>(?<=\[)\w+ Error"
    r"|[A-Za-z_][\w.]*?(?:Error|Exception|Timeout|ResourceExhausted|ServiceUnavailable|DeadlineExceeded))[\])]?(?P<said>:\s[^\n]*)",
    re.IGNORECASE,
)
"""The first line of an error that a program prints: its class and what it says."""

_OF_CLIENTS: Final = re.compile(
    r"(?:openai|anthropic|groq|mistralai|cohere|litellm|google|botocore|grpc|httpx|httpcore|aiohttp"
    r"|requests|urllib3|http\.client|java\.net|System\.Net)\.",
    re.IGNORECASE,
)
"""The modules whose errors are those of clients of other servers."""

_STATUS_FIRST: Final = re.compile(r":\s+[45]\d\d [A-Z]|.*\bhttps?://", re.IGNORECASE)
_STATUS_IN_WORDS: Final = re.compile(
    r"\[(\d{3}) [^\]\n]{0,80}\]|\bHTTP[_/ ](?:status |error )?(\d{3})\b"
    r"|\b(?:status|error) code:? (\d{3})\b|\b(\d{3}) status code\b"
    r"|\bfailed with status:? (\d{3})\b|\bindicate success: (\d{3})\b",
    re.IGNORECASE,
)
_NAMED: Final = re.compile(
    r"\"(?:status|code|type|reason)\"\s*:\s*\"?([A-Za-z_][\w.-]{2,80}|\d{3}\b)", re.IGNORECASE
)
STATUS_OF_NAME: Final[Mapping[str, int]] = {
    "invalid_argument": 400,
    "failed_precondition": 400,
    "out_of_range": 400,
    "invalid_request_error": 400,
    "bad_request": 400,
    "context_length_exceeded": 400,
    "unauthenticated": 401,
    "api_key_invalid": 401,
    "invalid_api_key": 401,
    "authentication_error": 401,
    "permission_denied": 403,
    "permission_error": 403,
    "unsupported_country_region_territory": 403,
    "not_found": 404,
    "not_found_error": 404,
    "model_not_found": 404,
    "resource_exhausted": 429,
    "insufficient_quota": 429,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "rate_limit_reached": 429,
    "too_many_requests": 429,
    "internal": 500,
    "api_error": 500,
    "unavailable": 503,
    "engine_overloaded": 503,
    "overloaded": 503,
    "overloaded_error": 503,
    "deadline_exceeded": 504,
}
"""The HTTP statuses that identifiers of Google, OpenAI and others stand for, in lower case."""

_OUTCOMES: Final = (
    *("action", "type", "status", "state", "result", "code", "event", "kind", "outcome"),
)
"""Keys whose value may be the word "error", or an identifier that begins like it."""

_ERR: Final = re.compile(r"err(?:or)?_\w")
"""How such an identifier begins."""

_OF_DOCUMENTS: Final = frozenset(
    [
        *("description", "explanation", "example", "examples", "endpoint", "method", "request"),
        *("scenario", "name", "comment", "summary", "headers", "question", "answer"),
    ]
)
"""Keys of JSON objects that describe an error as an example."""

_VAGUE: Final = ("invalid_request_error", "bad_request", "failed_precondition", "invalid_argument")


@dataclass(frozen=True)
class ErrorBody:
    """What an error response's body names.

    Attributes:
        message: the innermost message in words; the text itself if it is not JSON.
        status: the innermost HTTP status that is named, from 400 to 599, or ``None``.
        names: all identifiers (codes, types, reasons), in lower case, the innermost last.
        text: all that was said, on every level, for searching.
        value: the JSON object that it is, or that is alone in a list; ``{}`` for other texts.
    """

    message: str
    status: int | None
    names: tuple[str, ...]
    text: str
    value: Mapping[str, Any]

    @property
    def nested(self) -> bool:
        """Whether it describes the error of another server, one behind the site."""
        return self.status is not None

    @property
    def is_data(self) -> bool:
        """Whether its status is a number among data, as in ``{"status": 500, "title": "Dune"}``."""
        keys = {key.lower() for key, value in self.value.items() if value}.difference(_CODES)
        return bool(keys) and keys.issubset(_OF_DATA)

    @property
    def is_error(self) -> bool:
        """Whether it says that it is an error, whatever else is in it.

        It has an error that is an object with a message and an identifier (those of JSON-RPC are
        negative, and asked for as examples), without the keys of a document about it; or an error
        and ``"success": false``; or an HTTP status and the word "error" as its type or action.
        """
        errors = [self.value[key] for key in ERRORS if key in self.value]
        if self.value.get("success") is False and errors:
            return True
        if any(isinstance(error, dict) and _is_described(error) for error in errors):
            return _OF_DOCUMENTS.isdisjoint(map(str.lower, self.value))
        said = [str(self.value.get(key, "")).lower() for key in _OUTCOMES]
        return bool(self.status) and any(word == "error" or _ERR.match(word) for word in said)


def read_error_body(text: str) -> ErrorBody:
    """Read an error body in any of the forms that servers and the proxies before them use."""
    message, status, names, levels = text, None, list[str](), [text]
    outermost = value = _json_in(text)
    for _ in range(MAX_DEPTH):
        found = list(_names_in(value, message))
        names += [name.lower() for name in found]
        status = _status_of(found, message) or status
        inner = _message_of(value)
        if inner is None or inner == message:
            break
        message = inner
        levels.append(inner)
        value = _json_in(inner)
    if isinstance(outermost, list) and len(outermost) == 1:
        outermost = outermost[0]
    outermost = outermost if isinstance(outermost, dict) else {}
    return ErrorBody(message, status, tuple(names), "\n".join(levels), outermost)


def thrown_error(text: str) -> str | None:
    """The error in a text that is nothing but a stack trace, or the error of an HTTP client."""
    if trace := _STACK_TRACE.fullmatch(text):
        return trace[1] or trace[2]
    thrown = THROWN.match(text)
    if not thrown or text.count("\n") > 1 or THROWN.match(text, text.find("\n") + 1 or len(text)):
        return None
    names_server = _STATUS_FIRST.match(thrown["said"]) or _STATUS_IN_WORDS.search(thrown["said"])
    return text if names_server or _OF_CLIENTS.match(thrown["name"]) else None


def error_words(text: str) -> tuple[str, str]:
    """The message and the code of an error body, of its outermost level."""
    value = _json_in(text)
    error = _error_of(value)
    codes = [error.get("code"), error.get("type")] if isinstance(error, dict) else []
    strings = [code[:100] for code in codes if isinstance(code, str)]
    return _message_of(value) or text, (strings or [""])[0]


def _is_described(error: Mapping[str, Any]) -> bool:
    """Whether an error's object has a message and an identifier."""
    values = {str(key).lower(): value for key, value in error.items()}
    codes = [values.get(key) for key in _CODES]
    return any(isinstance(values.get(key), str) and values[key] for key in MESSAGES) and any(
        code and (isinstance(code, str) or (isinstance(code, int) and code > 0)) for code in codes
    )


def _json_in(text: str) -> Any:
    """The JSON value that the text is or ends with; else ``None``."""
    if len(text) > 100_000:
        return None
    begin = re.match(r"[^{\[]{0,400}(?=\{)", text)
    for start in {0, begin.end() if begin else 0}:
        try:
            return json.loads(text[start:])
        except (ValueError, RecursionError):
            continue
    return None


def _error_of(value: Any) -> Any:
    """The object that describes the error, without what is around it."""
    for key in ERRORS:
        if isinstance(value, list) and value:
            value = value[0]
        inner = value.get(key) if isinstance(value, dict) else None
        value = inner if isinstance(inner, (dict, list, str)) else value
    return value


def _message_of(value: Any) -> str | None:
    error = _error_of(value)
    if isinstance(error, str) and isinstance(value, dict):
        messages = (value.get(key) for key in MESSAGES if key not in ERRORS)
        return next((words for words in messages if isinstance(words, str) and words), error)
    if isinstance(error, str):
        return error
    if isinstance(error, dict):
        for key in (*MESSAGES, "title"):
            if isinstance(error.get(key), str) and error[key]:
                return str(error[key])
    return None


def _names_in(value: Any, text: str) -> Iterator[str]:
    """The identifiers on one level: of the JSON if it is JSON, else those in the text."""
    error = _error_of(value)
    if not isinstance(error, dict):
        yield from _NAMED.findall(text)
        return
    values = {str(key).lower(): named for key, named in error.items()}
    for key in _CODES:
        name = values.get(key)
        if isinstance(name, (str, int)) and not isinstance(name, bool):
            yield str(name)[:100]
    details = error.get("details")
    if isinstance(details, (list, dict)):
        yield from _NAMED.findall(json.dumps(details)[:20_000])


def _status_of(names: list[str], text: str) -> int | None:
    """The status that one level names: a number before a name, a precise name before a vague."""
    spoken = [] if text.lstrip().startswith(("{", "[{")) else _STATUS_IN_WORDS.findall(text)
    said = [*names, *(next(filter(None, groups)) for groups in spoken)]
    known = [name for name in map(str.lower, names) if name in STATUS_OF_NAME]
    for statuses in (
        [status for name in said if (status := _number_in(name))],
        [STATUS_OF_NAME[name] for name in known if name not in _VAGUE],
        [STATUS_OF_NAME[name] for name in known],
    ):
        if statuses:
            return statuses[-1]
    return None


def _number_in(name: str) -> int | None:
    number = re.fullmatch(r"(?:HTTP[_ ]?)?([45]\d\d)", name, re.IGNORECASE | re.ASCII)
    return int(number[1]) if number else None
