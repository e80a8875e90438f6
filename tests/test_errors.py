from __future__ import annotations

import copy
import inspect
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
    "status_code": 429,
    "body": '{"error": "слишком много\x00"}',
    "retry_after": 1.5,
    "attempts": 3,
    "partial_text": "Once upon a \ufffd🙂",
}

every_class = pytest.mark.parametrize("cls", API_ERRORS, ids=lambda cls: cls.__name__)


def raised(error: APIError) -> APIError:
    """The error as a user has it: raised, from another one, and caught."""
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
def test_tree(cls: type[Exception]) -> None:
    """Every class has the one parent that the documented tree gives it."""
    assert cls.__bases__ == (PARENTS[cls],)


def test_tree_is_whole() -> None:
    """The module has no public class besides those of the tree."""
    public = {
        value
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, BaseException)
    }
    assert public == set(PARENTS)


def test_tree_is_drawn() -> None:
    """The drawing at the top of the module names every class, at the depth it has."""
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
    """An error crosses to another process whole: type, arguments, attributes and text."""
    error = raised(cls("It failed. Do this.", **ATTRIBUTES))
    assert_same(pickle.loads(pickle.dumps(error, protocol)), error)


@every_class
def test_pickle_of_the_defaults(cls: type[APIError]) -> None:
    """An error with a message only comes back with the same defaults."""
    error = raised(cls("It failed."))
    assert_same(pickle.loads(pickle.dumps(error)), error)


def test_pickle_of_the_base() -> None:
    """The base of the tree pickles as well."""
    copied = pickle.loads(pickle.dumps(AIChatFreeError("It failed.")))
    assert type(copied) is AIChatFreeError
    assert copied.args == ("It failed.",)


@every_class
@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])
def test_copy(cls: type[APIError], copier: Any) -> None:
    """A copy of an error is equal in all that it says, and is another object."""
    error = raised(cls("It failed.", **ATTRIBUTES))
    copied = copier(error)
    assert_same(copied, error)
    assert copied is not error


@every_class
def test_pickle_after_a_change(cls: type[APIError]) -> None:
    """What is set on an error after it was made, such as the attempts, is pickled too."""
    error = cls("It failed.")
    error.attempts = 4
    error.partial_text = "Once"
    assert_same(pickle.loads(pickle.dumps(error)), error)
    assert str(error) == "It failed. (4 attempts)"


@every_class
def test_attributes(cls: type[APIError]) -> None:
    """An error has the message and every attribute that it was given."""
    error = cls("It failed.", **ATTRIBUTES)
    assert error.__dict__ == {"message": "It failed.", **ATTRIBUTES}
    assert error.args == ("It failed.",)


@every_class
def test_attribute_defaults(cls: type[APIError]) -> None:
    """An attribute that was not given has the documented value."""
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
    """The attributes are given by name: a second positional argument is refused."""
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
def test_str_tells_the_attempts(attempts: int, expected: str) -> None:
    """The text tells the number of attempts if, and only if, there was more than one."""
    assert str(APIError("It failed.", attempts=attempts)) == expected


@every_class
def test_caught_at_two_levels(cls: type[APIError]) -> None:
    """One ``except`` for the class and one for the base of the package both catch it."""
    for level in (cls, PARENTS[cls], APIError, AIChatFreeError):
        with pytest.raises(level):
            raise cls("It failed.")


def test_caught_by_status_family() -> None:
    """``APIStatusError`` catches the errors that have a status, and none of the others."""
    family = {cls for cls in API_ERRORS if issubclass(cls, APIStatusError)}
    others = {APIError, APIConnectionError, APITimeoutError, StreamInterruptedError}
    assert set(API_ERRORS) - family == others | {
        EmptyReplyError,
        ReplyTooLargeError,
        ProtocolError,
    }


@pytest.mark.parametrize("builtin", [OSError, ValueError, TypeError, TimeoutError])
def test_not_a_builtin_error(builtin: type[Exception]) -> None:
    """No error of a request is caught by an ``except`` for wrong arguments or for the system."""
    assert not any(issubclass(cls, builtin) for cls in PARENTS)
