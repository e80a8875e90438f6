"""``RoutingRequester``: one prompt to one of several sites, and to another one if that fails."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Self

from .._call import Call
from .._cancellation import CancelTokens
from .._forks import renew_after_fork
from .._prompt_sender import Affinity, Attempt, PromptSender, Question
from .._protocol.messages import Prompt
from .._requester import Requester
from .._settings import CallSettings
from ..errors import APIError
from ..retry import MakeRetrying
from ..stream import Stream
from .route import Route
from .selector import SiteSelector


class RoutingRequester(PromptSender):
    """Sends each prompt to the site that can take it soonest, and to another one if that fails.

    Threads may share it. The sites' own retries and time limits are not used.

    Args:
        requesters: those of the sites, which also others may use.
        settings: the time limits and the policy for retries, and a system prompt that is used in
            place of those of the sites.
    """

    rate_limiter: SiteSelector

    def __init__(self, requesters: Sequence[Requester], settings: CallSettings) -> None:
        self.settings = settings
        self._requesters = [_with_system(each, settings.system) for each in requesters]
        self.rate_limiter = SiteSelector([each.rate_limiter for each in requesters])
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        self._cancel_tokens = CancelTokens()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "_cancel_tokens"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.after_fork()
        renew_after_fork(self)

    def with_settings(self, settings: CallSettings) -> Self:
        other = copy.copy(self)
        other.settings = settings
        other._requesters = [_with_system(each, settings.system) for each in self._requesters]
        return other

    @property
    def requesters(self) -> Sequence[Requester]:
        return self._requesters

    def for_chat(self) -> Callable[..., Stream]:
        return partial(self.stream, affinity=Affinity())

    def check_prompt(self, prompt: Prompt, temperature: float | None = None) -> None:
        for requester in self._requesters:
            requester.check_prompt(prompt, temperature)

    def models(self) -> list[str]:
        """The models that the sites list, those of the first site first."""
        models: dict[str, None] = {}
        errors: list[APIError] = []
        for requester in self._requesters:
            try:
                models.update(dict.fromkeys(requester.models()))
            except APIError as error:
                errors.append(error)
        if len(errors) == len(self._requesters):
            raise errors[0]
        return list(models)

    def close(self) -> None:
        self._cancel_tokens.cancel_all()
        for requester in self._requesters:
            requester.close()

    def to_dict(self, share: float = 1.0) -> dict[str, Any]:
        return {
            "sites": [requester.to_dict(share) for requester in self._requesters],
            "settings": self.settings.to_dict(),
        }

    def _attempts(
        self, question: Question, call: Call, make_retrying: MakeRetrying
    ) -> tuple[Attempt, MakeRetrying]:
        self._cancel_tokens.add(call.cancel_token)
        route = Route(self._requesters, self.rate_limiter, question, call)
        return route.attempt, route.retrying(make_retrying)


def _with_system(requester: Requester, system: str | None) -> Requester:
    if system is None:
        return requester
    return requester.with_settings(requester.settings.changed({"system": system}))


def requester_from_dict(data: Mapping[str, Any]) -> PromptSender:
    """What ``to_dict`` described, with the secrets of this process's environment."""
    if "sites" not in data:
        return Requester.from_dict(data)
    requesters = [Requester.from_dict(each) for each in data["sites"]]
    return RoutingRequester(requesters, CallSettings.from_dict(data["settings"]))
