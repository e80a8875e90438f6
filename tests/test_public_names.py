"""What is public: adding or removing a module or a name here is a decision, not an accident."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import pytest

import aichatfree

#: The public modules and their ``__all__``; ``None`` where they have none, since what users need of
#: them is in ``aichatfree`` itself.
PUBLIC = {
    "aichatfree": {
        *("Chat", "Client", "Dialect", "Finding", "GEMINI", "Health", "Message", "OPENAI"),
        *("Reply", "RetryPolicy", "Router", "Site", "StatedLimits", "Stream", "Timeout"),
        *("AIChatFreeError", "APIConnectionError", "APIError", "APIStatusError"),
        *("APITimeoutError", "AuthenticationError", "BadRequestError", "EmptyReplyError"),
        *("NotFoundError", "OverloadedError", "PermissionDeniedError", "ProtocolError"),
        *("RateLimitError", "ReplyTooLargeError", "ServerError", "StreamInterruptedError"),
        *("__version__", "generate_signature"),
    },
    "aichatfree.batch": {
        *("Batch", "BatchResult", "PromptSource", "RayExecutor", "Report", "Summary"),
        *("make_shards", "read_results", "run_shard"),
    },
    "aichatfree.chat": None,
    "aichatfree.client": None,
    "aichatfree.errors": None,
    "aichatfree.gateway": {
        *("Engine", "EngineError", "Gateway", "OpenAIUpstream", "SiteEngine", "SmolLM2"),
        *("TokenLimitError", "Usage"),
    },
    "aichatfree.health": None,
    "aichatfree.llm_plugin": None,
    "aichatfree.notebook": None,
    "aichatfree.retry": None,
    "aichatfree.router": None,
    "aichatfree.stream": None,
    "aichatfree.timeout": None,
    "aichatfree.testing": {"Answer", "FakeSite", "Raw", "Request"},
}
NAMES = {module: names for module, names in PUBLIC.items() if names is not None}


def is_public(module: str) -> bool:
    return not any(part.startswith("_") for part in module.split("."))


def test_the_public_modules_are_these() -> None:
    """A module is public if no part of its path has a leading underscore, and these ones are."""
    modules = {found.name for found in pkgutil.walk_packages(aichatfree.__path__, "aichatfree.")}
    assert {"aichatfree", *filter(is_public, modules)} == set(PUBLIC)


@pytest.mark.parametrize("module", NAMES)
def test_the_public_names_of_a_module_are_these(module: str) -> None:
    """A package's ``__all__`` lists each of its public names once, and each one exists."""
    imported = import_module(module)
    assert sorted(imported.__all__) == sorted(NAMES[module])
    for name in imported.__all__:
        assert getattr(imported, name) is not None


def test_dir_shows_exactly_the_public_names() -> None:
    """dir(aichatfree) lists the public names although they are imported when they are used."""
    assert set(dir(aichatfree)) == NAMES["aichatfree"]


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A name that the package does not have is an AttributeError, as for any module."""
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        getattr(aichatfree, "nonsense")  # noqa: B009  (a type checker rejects the attribute)
