"""``PromptSender``: sends prompts, with retries; to which site is decided by its subclasses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self, TypeAlias

from ._call import Call
from ._protocol.messages import Prompt
from ._settings import CallSettings
from ._slot_queue import SlotQueue
from .retry import UNSET, MakeRetrying, RetryOption, RetryPolicy, check_retry, run_attempts
from .stream import Reply, Stream
from .timeout import TimeLimit, timeout_from

Attempt: TypeAlias = Callable[[], Iterator[str]]
"""Sends one request and yields the chunks of its answer."""


@dataclass
class Affinity:
    """The site that a conversation should stay with.

    Attributes:
        site: the position of the site that answered last; ``None`` before.
    """

    site: int | None = None


@dataclass(frozen=True)
class Question:
    """What is asked in one call, and how.

    Attributes:
        prompt: a prompt of the user, not yet checked.
        system: the system prompt of this call.
        temperature: the randomness of the answer.
        buffered: yield no chunk before the answer is complete.
        in_batch: whether it is a prompt of a batch, in which each prompt may have a temperature,
            whatever the dialect.
        affinity: of the conversation that it belongs to; ``None`` if it is not part of one.
        reasoning: what the model says before its answer is put here.
    """

    prompt: Prompt
    system: str | None = None
    temperature: float | None = None
    buffered: bool = False
    in_batch: bool = False
    affinity: Affinity | None = None
    reasoning: list[str] = field(default_factory=list)


class PromptSender(ABC):
    """Sends prompts with retries. Threads may share it; ``Client`` and ``Batch`` are its callers.

    Attributes:
        settings: what may change from one client to another that shares the connections.
        rate_limiter: shared by all threads and by all clients that share the connections.
    """

    settings: CallSettings
    rate_limiter: SlotQueue[Any]

    def stream(
        self,
        prompt: Prompt,
        system: str | None = None,
        temperature: float | None = None,
        timeout: TimeLimit | None = None,
        retry: RetryOption = UNSET,
        *,
        buffered: bool = False,
        affinity: Affinity | None = None,
        on_end: Callable[[Stream], None] | None = None,
    ) -> Stream:
        """The answer to a prompt; nothing is sent before its first chunk is asked for.

        Args:
            prompt: as for :meth:`Client.generate`, and so are the next four.
            system: for this call.
            temperature: for this call.
            timeout: for this call.
            retry: for this call.
            buffered: return no chunk before the answer is complete, so that an answer that was cut
                off can be retried.
            affinity: of the conversation that the prompt belongs to.
            on_end: called once the answer is complete or has failed.

        Raises:
            TypeError, ValueError: the arguments cannot be sent.
        """
        question = Question(prompt, system, temperature, buffered, affinity=affinity)
        policy = self.settings.retry if retry is UNSET else check_retry(retry)
        call = Call(
            self.settings.timeout if timeout is None else timeout_from(timeout),
            max_elapsed=policy.max_elapsed if isinstance(policy, RetryPolicy) else None,
            single_attempt=policy is None,
        )
        attempt, make_retrying = self._attempts(question, call, RetryPolicy.retrying)
        run = partial(run_attempts, policy, call, make_retrying=make_retrying)
        return Stream(
            attempt, call, run, buffered=buffered, on_end=on_end, reasoning=question.reasoning
        )

    def answer(
        self, prompt: Prompt, temperature: float | None, call: Call, make_retrying: MakeRetrying
    ) -> Reply:
        """The complete answer to one prompt of a batch.

        Args:
            prompt: one that :meth:`check_prompt` accepted.
            temperature: left out for a dialect that has none.
            call: its deadline and its cancel token.
            make_retrying: the batch's own policy for retries.

        Raises:
            APIError: there is no complete answer.
        """
        question = Question(prompt, None, temperature, buffered=True, in_batch=True)
        attempt, make_retrying = self._attempts(question, call, make_retrying)
        run = partial(run_attempts, self.settings.retry, call, make_retrying=make_retrying)
        return Stream(attempt, call, run, buffered=True, reasoning=question.reasoning).reply()

    def for_chat(self) -> Callable[..., Stream]:
        """What :meth:`stream` does, for the questions of one conversation."""
        return self.stream

    @property
    @abstractmethod
    def requesters(self) -> Sequence[Any]:
        """The :class:`Requester` of each site that may answer."""

    @abstractmethod
    def with_settings(self, settings: Any) -> Self:
        """The same with other settings, which shares the connections and the rate limiter."""

    @abstractmethod
    def check_prompt(self, prompt: Prompt, temperature: float | None = None) -> None:
        """Raise TypeError or ValueError for a prompt or a temperature that cannot be sent."""

    @abstractmethod
    def models(self) -> list[str]:
        """The models that a site lists; see :meth:`Client.models`."""

    @abstractmethod
    def close(self) -> None:
        """Cancel all calls and close the connections."""

    @abstractmethod
    def to_dict(self, share: float = 1.0) -> dict[str, Any]:
        """What another process needs to make one like this; without secrets.

        Args:
            share: the part of ``max_requests_per_minute`` that it may use.

        Raises:
            ValueError: something cannot be sent there.
        """

    @abstractmethod
    def _attempts(
        self, question: Question, call: Call, make_retrying: MakeRetrying
    ) -> tuple[Attempt, MakeRetrying]:
        """A function that makes one attempt, and the policy for repeating it.

        Raises:
            TypeError, ValueError: the question cannot be sent.
        """
