"""What a response can mean: the error to raise, the advice to give, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ..errors import (
    APIError,
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    ServerError,
)


@dataclass(frozen=True)
class Meaning:
    """What a response means.

    Attributes:
        error: the class of the exception.
        advice: what to do next.
        retryable: overrides the class's value; so does ``fatal``.
        fatal: whether every other request would fail in the same way.
    """

    error: type[APIStatusError] | type[ProtocolError]
    advice: str
    retryable: bool | None = None
    fatal: bool | None = None


_CHANGE_MESSAGES: Final = "Change the messages; sending them again does not help."
_OPERATOR: Final = (
    "The model service behind the site refuses the site, not you: only its operator can fix it."
)
_NO_API: Final = "Check base_url= (AICHATFREE_BASE_URL): no chat API is there."
_LATER: Final = "Try again in a while."

MEANINGS: Final[Mapping[str, Meaning]] = {
    # A setting of the user's is wrong.
    "password": Meaning(
        AuthenticationError, "Set the site's password with password= (AICHATFREE_PASSWORD)."
    ),
    "lockout": Meaning(
        RateLimitError, "Wait that long, and check password= (AICHATFREE_PASSWORD) meanwhile."
    ),
    "signature": Meaning(
        AuthenticationError,
        "Set the site's secret with secret= (AICHATFREE_SECRET), check this machine's clock, and "
        "name the site's kind with dialect= (AICHATFREE_DIALECT): client.check() tries them.",
    ),
    "replay": Meaning(
        AuthenticationError,
        "Another request had the same text at the same time: send this one again.",
    ),
    "model": Meaning(
        BadRequestError,
        "Name another model with model= (AICHATFREE_MODEL), or none: the site does not offer this "
        "one.",
        fatal=True,
    ),
    "dialect": Meaning(
        ServerError,
        "The site could not read the messages: name the site's kind with dialect= "
        "(AICHATFREE_DIALECT); client.check() tries them.",
        retryable=False,
        fatal=True,
    ),
    # The request is wrong.
    "messages": Meaning(BadRequestError, _CHANGE_MESSAGES),
    "no text": Meaning(
        BadRequestError,
        "Change the messages; if they have text, name the site's kind with dialect= "
        "(AICHATFREE_DIALECT).",
    ),
    "too long": Meaning(BadRequestError, "The conversation is too long for the site: shorten it."),
    "blocked": Meaning(
        BadRequestError, "The model's safety filter blocked it: word the prompt differently."
    ),
    # The site, or what is in front of it, does not serve this client.
    "refused": Meaning(
        PermissionDeniedError,
        "The site does not serve this network or region: try from another one, or ask its "
        "operator.",
    ),
    "members": Meaning(
        PermissionDeniedError,
        "Only paying members of the site get this: name another model with model= "
        "(AICHATFREE_MODEL), or use another site.",
        fatal=True,
    ),
    "human": Meaning(
        PermissionDeniedError,
        "The site, or what is in front of it, wants to see that you are human: open it in a "
        "browser, or ask its operator.",
    ),
    # Limits.
    "quota": Meaning(
        RateLimitError, "The site's quota is used up: try again later, or use another site."
    ),
    "rate": Meaning(
        RateLimitError, "Wait, or send less: max_requests_per_minute= keeps to a limit."
    ),
    "payment": Meaning(
        RateLimitError,
        "What was paid for is used up: the site's operator has to pay for its model, or you for "
        "your account there. Use another site.",
        retryable=False,
        fatal=True,
    ),
    "overloaded": Meaning(OverloadedError, _LATER),
    # The site itself, which only its operator can fix.
    "key": Meaning(
        AuthenticationError,
        "The site's own key for its model is wrong, not yours: only its operator can fix it.",
        fatal=True,
    ),
    "operator": Meaning(PermissionDeniedError, _OPERATOR, fatal=True),
    "region": Meaning(
        PermissionDeniedError,
        "The model service does not serve the country of the site's server: only its operator can "
        "fix it.",
        fatal=True,
    ),
    "upstream model": Meaning(
        NotFoundError,
        "The model service behind the site does not have this model: name another one with "
        "model= (AICHATFREE_MODEL); otherwise only the site's operator can fix it.",
        fatal=True,
    ),
    "gone": Meaning(
        NotFoundError,
        "The site is gone from this address: set another base_url= (AICHATFREE_BASE_URL).",
    ),
    "switched off": Meaning(
        APIStatusError,
        "The site is switched off: only its operator can switch it on. Use another base_url= "
        "(AICHATFREE_BASE_URL).",
        fatal=True,
    ),
    "host timeout": Meaning(
        ServerError,
        "The answer took too long for the site's host: ask for a shorter one, or try again.",
    ),
    "failed": Meaning(ServerError, "The fault is the site's: try again in a while."),
    "unauthorized": Meaning(
        AuthenticationError,
        "Check password= (AICHATFREE_PASSWORD), secret= (AICHATFREE_SECRET) and dialect= "
        "(AICHATFREE_DIALECT).",
    ),
    "no API": Meaning(NotFoundError, _NO_API),
}
"""By the names that ``Site.sentences`` and the table of phrases use."""

OF_STATUS: Final[Mapping[int, Meaning]] = {
    400: MEANINGS["messages"],
    401: MEANINGS["unauthorized"],
    403: Meaning(
        PermissionDeniedError,
        "The site does not admit this client: try from another network, or ask its operator.",
    ),
    404: MEANINGS["no API"],
    405: MEANINGS["no API"],
    501: MEANINGS["no API"],
    408: Meaning(
        APIStatusError, "The site waited too long for the request: try again.", retryable=True
    ),
    410: MEANINGS["gone"],
    413: MEANINGS["too long"],
    422: MEANINGS["messages"],
    429: MEANINGS["rate"],
    503: MEANINGS["overloaded"],
    529: MEANINGS["overloaded"],
}
OTHER_4XX: Final = Meaning(
    APIStatusError, "The site refuses such requests: check base_url= and dialect=."
)
SITES_WORDS: Final = Meaning(APIStatusError, "The site refused this request for that reason.")
"""For a status that would mean that there is no API here, from a site that explains itself."""

REDIRECT: Final = Meaning(
    ProtocolError,
    "It was not followed because the request contains the password: if you trust the new address, "
    "make it base_url= (AICHATFREE_BASE_URL).",
)
EMPTY_500: Final = Meaning(
    ServerError,
    "An empty 500 often means that the server could not read the request: check dialect= "
    "(AICHATFREE_DIALECT), or try again in a while.",
)

OF_UPSTREAM_STATUS: Final[Mapping[int, Meaning]] = {
    400: Meaning(
        BadRequestError,
        "Change the messages; if it is about a key or a model, only the site's operator can help.",
    ),
    401: MEANINGS["key"],
    402: Meaning(APIStatusError, _OPERATOR, fatal=True),
    403: MEANINGS["operator"],
    404: MEANINGS["upstream model"],
}
"""For a status that the body names: the error of a server behind the site."""


_OPERATORS: Final = ("key", "operator", "region", "upstream model", "switched off")
_DIALECTS: Final = ("signature", "unauthorized", "dialect", "no text")


def advice_in(error: APIError) -> str:
    """What the error of a response advises, without the site's words; ``""`` if it is not known."""
    of_statuses = (*OF_STATUS.values(), *OF_UPSTREAM_STATUS.values())
    known = (*MEANINGS.values(), *of_statuses, OTHER_4XX, SITES_WORDS, REDIRECT, EMPTY_500)
    return next((each.advice for each in known if error.message.endswith(each.advice)), "")


def is_operators_fault(error: APIError) -> bool:
    """Whether only the site's operator can fix what an error is about."""
    return error.message.endswith(tuple(MEANINGS[name].advice for name in _OPERATORS))


def may_be_another_dialect(error: APIError) -> bool:
    """Whether a site of another dialect would respond with such an error."""
    advice = [MEANINGS[name].advice for name in _DIALECTS]
    return error.message.endswith((*advice, EMPTY_500.advice))


def meaning_of_status(status: int, *, upstream: bool) -> Meaning:
    """The meaning of an HTTP status on its own."""
    if status < 400:
        return REDIRECT
    if upstream and status in OF_UPSTREAM_STATUS:
        return OF_UPSTREAM_STATUS[status]
    return OF_STATUS.get(status, OTHER_4XX if status < 500 else MEANINGS["failed"])
