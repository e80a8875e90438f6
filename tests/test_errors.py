"""The error classes: their hierarchy, attributes, copies and pickles."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
from typing import Any

import pytest

from aichatfree import errors
from aichatfree.errors import (
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
    StreamInterruptedError,
)

PARENTS: dict[type[Exception], type[Exception]] = {
    AIChatFreeError: Exception,
    APIError: AIChatFreeError,
    APIConnectionError: APIError,
    APITimeoutError: APIConnectionError,
    APIStatusError: APIError,
    BadRequestError: APIStatusError,
    AuthenticationError: APIStatusError,
    PermissionDeniedError: APIStatusError,
    NotFoundError: APIStatusError,
    RateLimitError: APIStatusError,
    OverloadedError: APIStatusError,
    ServerError: APIStatusError,
    StreamInterruptedError: APIError,
    EmptyReplyError: APIError,
    ReplyTooLargeError: APIError,
    ProtocolError: APIError,
}
API_ERRORS: list[type[APIError]] = [cls for cls in PARENTS if issubclass(cls, APIError)]

ATTRIBUTES: dict[str, Any] = {
    "reason": "busy",
    "status_code": 429,
    "body": '{"error": "слишком много\x00"}',
    "retry_after": 1.5,
    "attempts": 3,
    "partial_text": "Once upon a \ufffd🙂",
}

every_class = pytest.mark.parametrize("cls", API_ERRORS, ids=lambda cls: cls.__name__)


def raised(error: APIError) -> APIError:
    """The error as users catch it: raised with a cause."""
    try:
        raise error from OSError("below")
    except APIError as caught:
        return caught


def assert_same(copied: object, error: APIError) -> None:
    assert type(copied) is type(error)
    assert isinstance(copied, APIError)
    assert copied.args == error.args
    assert copied.__dict__ == error.__dict__
    assert str(copied) == str(error)


@pytest.mark.parametrize("cls", list(PARENTS), ids=lambda cls: cls.__name__)
def test_hierarchy(cls: type[Exception]) -> None:
    """Each class has the parent that is documented."""
    assert cls.__bases__ == (PARENTS[cls],)


def test_hierarchy_is_complete() -> None:
    """The module has no error class that is not in the documented hierarchy."""
    public = {
        value
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, BaseException)
    }
    assert public == set(PARENTS)


def test_hierarchy_is_drawn() -> None:
    """The drawing in the module's docstring has every class at its depth."""
    depths = {}
    for line in (errors.__doc__ or "").splitlines():
        branch, _, words = line.rpartition("── ")
        name = words.strip().partition(" ")[0]
        if name.endswith("Error"):
            depths[name] = len(branch) // 4
    assert depths == {cls.__name__: len(cls.__mro__) - 4 for cls in PARENTS}


@every_class
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(cls: type[APIError], protocol: int) -> None:
    """Pickling preserves the class, arguments, attributes and text of an error."""
    error = raised(cls("It failed. Do this.", **ATTRIBUTES))
    assert_same(pickle.loads(pickle.dumps(error, protocol)), error)


@every_class
def test_pickle_of_the_defaults(cls: type[APIError]) -> None:
    """Pickling preserves the defaults of an error that has only a message."""
    error = raised(cls("It failed."))
    assert_same(pickle.loads(pickle.dumps(error)), error)


def test_pickle_of_the_base() -> None:
    """Pickling preserves an error of the base class."""
    copied = pickle.loads(pickle.dumps(AIChatFreeError("It failed.")))
    assert type(copied) is AIChatFreeError
    assert copied.args == ("It failed.",)


@every_class
@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])
def test_copy(cls: type[APIError], copier: Any) -> None:
    """A copy or deep copy of an error has the same class, arguments, attributes and text."""
    error = raised(cls("It failed.", **ATTRIBUTES))
    copied = copier(error)
    assert_same(copied, error)
    assert copied is not error


@every_class
def test_pickle_after_a_change(cls: type[APIError]) -> None:
    """Pickling preserves attributes that were changed after the error was created."""
    error = cls("It failed.")
    error.attempts = 4
    error.partial_text = "Once"
    assert_same(pickle.loads(pickle.dumps(error)), error)
    assert str(error) == "It failed. (4 attempts)"


@every_class
def test_attributes(cls: type[APIError]) -> None:
    """An error has the message and all attributes that it was created with."""
    error = cls("It failed.", **ATTRIBUTES)
    assert error.__dict__ == {"message": "It failed.", **ATTRIBUTES}
    assert error.args == ("It failed.",)


@every_class
def test_attribute_defaults(cls: type[APIError]) -> None:
    """An attribute that was not given has the documented default."""
    assert cls("It failed.").__dict__ == {
        "message": "It failed.",
        "status_code": None,
        "body": None,
        "retry_after": None,
        "attempts": 1,
        "partial_text": "",
    }


@every_class
def test_attributes_by_name_only(cls: Any) -> None:
    """All arguments after the message are keyword-only: a second positional one is a TypeError."""
    with pytest.raises(TypeError, match="positional"):
        cls("It failed.", 429)


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        (0, "It failed."),
        (1, "It failed."),
        (2, "It failed. (2 attempts)"),
        (5, "It failed. (5 attempts)"),
    ],
)
def test_str_states_the_attempts(attempts: int, expected: str) -> None:
    """The text states the number of attempts if there was more than one."""
    assert str(APIError("It failed.", attempts=attempts)) == expected


@every_class
def test_caught_at_two_levels(cls: type[APIError]) -> None:
    """An error is caught by its own class, its parent, APIError and AIChatFreeError."""
    for level in (cls, PARENTS[cls], APIError, AIChatFreeError):
        with pytest.raises(level):
            raise cls("It failed.")


def test_caught_by_status_family() -> None:
    """APIStatusError is the base of the errors for a response with an error status, only."""
    family = {cls for cls in API_ERRORS if issubclass(cls, APIStatusError)}
    others = {APIError, APIConnectionError, APITimeoutError, StreamInterruptedError}
    assert set(API_ERRORS) - family == others | {
        EmptyReplyError,
        ReplyTooLargeError,
        ProtocolError,
    }


@pytest.mark.parametrize("builtin", [OSError, ValueError, TypeError, TimeoutError])
def test_not_a_builtin_error(builtin: type[Exception]) -> None:
    """No error class is a subclass of a built-in error such as OSError or ValueError."""
    assert not any(issubclass(cls, builtin) for cls in PARENTS)


# --- what follows from an error ---------------------------------------------------------------

RETRYABLE = {
    *(APIConnectionError, APITimeoutError, RateLimitError, OverloadedError, ServerError),
    *(StreamInterruptedError, EmptyReplyError),
}
FATAL = {AuthenticationError, NotFoundError, ProtocolError}


@every_class
def test_what_follows_from_a_class(cls: type[APIError]) -> None:
    """Unless stated otherwise, the class decides whether an error is retryable and fatal."""
    error = cls("It failed.")
    assert (error.retryable, error.fatal) == (cls in RETRYABLE, cls in FATAL)
    assert error.rejection is (cls is RateLimitError)


@every_class
@pytest.mark.parametrize("decided", [True, False])
def test_what_follows_survives_pickling(cls: type[APIError], decided: bool) -> None:
    """retryable, fatal and rejection can be decided for one error, and pickling preserves them."""
    error = cls("It failed.", retryable=decided, fatal=decided, rejection=decided)
    copied = pickle.loads(pickle.dumps(error))
    assert (copied.retryable, copied.fatal, copied.rejection) == (decided,) * 3


@every_class
def test_an_error_is_restored_from_plain_data(cls: type[APIError]) -> None:
    """to_dict describes an error in JSON, from which error_from_dict makes an equal error."""
    error = cls("It failed.", **ATTRIBUTES)
    data = json.loads(json.dumps(error.to_dict()))
    copied = errors.error_from_dict(data)
    assert isinstance(copied, APIError)
    assert type(copied) is cls
    assert copied.to_dict() == error.to_dict()
