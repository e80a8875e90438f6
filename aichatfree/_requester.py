"""``Requester``: one prompt to one site, as chunks of text.

The path of a prompt: rate limiter -> signing -> wire -> decoding, once for each attempt.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from typing import Any

from ._call import Call
from ._protocol.decoding import ReplyDecoder
from ._protocol.messages import Message, Prompt
from ._protocol.models import read_models
from ._protocol.prompts import check_temperature, messages_from
from ._protocol.responses import (
    MAX_ERROR_BODY,
    error_from_response,
    error_in_body,
    not_an_answer,
    redact,
)
from ._protocol.signing import request_body
from ._protocol.sites import Site
from ._rate_limiter import RateLimiter
from ._settings import ConnectionOptions, Settings
from ._signing_clock import SigningClock
from ._wire.exchange import Exchange
from ._wire.transport import Transport
from .errors import APIError
from .retry import UNSET, MakeRetrying, RetryOption, RetryPolicy, check_retry, run_attempts
from .stream import Reply, Stream
from .timeout import TimeLimit, Timeout, timeout_from


class Requester:
    """Sends prompts to one site, within its rate limit and with retries.

    Threads may share it. ``Client`` and ``Batch`` are its two callers.

    Attributes:
        settings: what may change from one client to another that shares the connections.
        rate_limiter: shared by all threads and by all clients that share the connections.
    """

    def __init__(self, settings: Settings, connection: ConnectionOptions) -> None:
        self.settings = settings
        self.rate_limiter: RateLimiter = RateLimiter(connection.max_requests_per_minute)
        self._signing_clock = SigningClock()
        self._connection = connection
        self._transport = Transport(
            settings.site.base_url,
            origin=settings.site.origin,
            headers=connection.headers,
            proxies=connection.proxies,
            verify=connection.verify,
            session=connection.session,
            max_connections=connection.max_connections,
            max_reply_bytes=connection.max_reply_bytes,
        )

    def with_settings(self, settings: Settings) -> Requester:
        """A requester with other settings that shares the connections and the rate limiter."""
        other = copy.copy(self)
        other.settings = settings
        return other

    def stream(
        self,
        prompt: Prompt,
        system: str | None = None,
        temperature: float | None = None,
        timeout: TimeLimit | None = None,
        retry: RetryOption = UNSET,
        *,
        buffered: bool = False,
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
            on_end: called once the answer is complete or has failed.

        Raises:
            TypeError, ValueError: the arguments cannot be sent.
        """
        messages = self._messages(prompt, system)
        check_temperature(temperature, self.settings.site.dialect)
        policy = self.settings.retry if retry is UNSET else check_retry(retry)
        call = Call(
            self.settings.timeout if timeout is None else timeout_from(timeout),
            max_elapsed=policy.max_elapsed if isinstance(policy, RetryPolicy) else None,
            single_attempt=policy is None,
        )
        reasoning: list[str] = []
        return Stream(
            self._attempt(messages, temperature, call, reasoning, buffered=buffered),
            call,
            partial(run_attempts, policy, call),
            buffered=buffered,
            on_end=on_end,
            reasoning=reasoning,
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
        if not self.settings.site.dialect.temperature:
            temperature = None
        reasoning: list[str] = []
        messages = self._messages(prompt, None)
        attempt = self._attempt(messages, temperature, call, reasoning, buffered=True)
        run = partial(run_attempts, self.settings.retry, call, make_retrying=make_retrying)
        return Stream(attempt, call, run, buffered=True, reasoning=reasoning).reply()

    def check_prompt(self, prompt: Prompt, temperature: float | None = None) -> None:
        """Raise TypeError or ValueError for a prompt or a temperature that cannot be sent."""
        self._messages(prompt, None)
        check_temperature(temperature)

    def post(self, path: str, body: bytes, timeout: Timeout) -> Exchange:
        """Send a request outside the chat protocol, without a signature or retries.

        Raises:
            APIConnectionError: there was no response.
        """
        return self._transport.post(path, body, Call(timeout))

    def models(self) -> list[str]:
        """The models that the site lists; see :meth:`Client.models`."""
        site = self.settings.site
        exchange = self._transport.get(site.dialect.models_path, Call(self.settings.timeout))
        body = exchange.read_up_to(MAX_ERROR_BODY)
        return read_models(exchange.status, exchange.headers, body, site)

    def close(self) -> None:
        """Cancel all calls and close the connections."""
        self._transport.close()

    def to_dict(self, share: float = 1.0) -> dict[str, Any]:
        """What another process needs to make a requester like this one; without secrets.

        Args:
            share: the part of ``max_requests_per_minute`` that it may use.

        Raises:
            ValueError: something cannot be sent there.
        """
        return {
            "connection": self._connection.to_dict(share),
            "settings": self.settings.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Requester:
        """The requester of :meth:`to_dict`, with the secrets of this process's environment."""
        return cls(Settings.from_dict(data["settings"]), ConnectionOptions(**data["connection"]))

    def _attempt(
        self,
        messages: list[Message],
        temperature: float | None,
        call: Call,
        reasoning: list[str],
        *,
        buffered: bool,
    ) -> Callable[[], Iterator[str]]:
        """A function that makes one attempt, whose request is signed when it may be sent.

        What the model says before its answer is put into ``reasoning``.
        """
        settings = self.settings
        self._transport.cancel_tokens.add(call.cancel_token)

        def attempt() -> Iterator[str]:
            number = self.rate_limiter.acquire(call)
            body = request_body(
                settings.site,
                messages,
                now=self._signing_clock.now(),
                password=settings.password,
                model=settings.model,
                temperature=temperature,
            )
            exchange = self._transport.post(settings.site.dialect.path, body, call)
            try:
                yield from _read_text(exchange, settings.site, reasoning, buffered=buffered)
            except APIError as error:
                redact(error, settings.password, settings.site.secret)
                if error.rejection or error.possible_rejection:
                    self.rate_limiter.record_rejection(number, error, call.rejections)
                raise
            self.rate_limiter.record_answer(number)

        return attempt

    def _messages(self, prompt: Prompt, system: str | None) -> list[Message]:
        if system is None and not _has_system_message(prompt):
            system = self.settings.system
        return messages_from(prompt, system, self.settings.site.dialect)


def _has_system_message(prompt: object) -> bool:
    return isinstance(prompt, (list, tuple)) and any(
        isinstance(message, Mapping) and message.get("role") == "system" for message in prompt
    )


def _read_text(
    exchange: Exchange, site: Site, reasoning: list[str], *, buffered: bool
) -> Iterator[str]:
    """The text of a response, as it arrives or once it is complete; no chunk is empty.

    Raises:
        APIStatusError: the response is an error, or says with status 200 that there is no answer.
        ProtocolError: it is not an answer of this protocol.
        StreamInterruptedError: it was cut off, or ended with a failure of the site.
        APITimeoutError: the site was silent for too long, or the deadline has passed.
        EmptyReplyError: it ended without any text.
    """
    if not 200 <= exchange.status < 300:
        body = exchange.read_up_to(MAX_ERROR_BODY)
        raise error_from_response(exchange.status, exchange.headers, body, site)
    mismatch = not_an_answer(exchange.status, exchange.headers)
    if mismatch is not None:
        mismatch.body = exchange.read_up_to(MAX_ERROR_BODY).decode("utf-8", "replace")
        raise error_in_body(mismatch.body, exchange.headers, site) or mismatch
    decoder = ReplyDecoder(
        framed=exchange.framed, site=site, headers=exchange.headers, complete=buffered
    )
    try:
        with closing(exchange.chunks(complete=buffered)) as chunks:
            for chunk in chunks:
                text = decoder.feed(chunk)
                if text:
                    yield text
    except APIError:
        held, _ = decoder.finish()
        if held:
            yield held
        raise
    text, failure = decoder.finish()
    reasoning[:] = [decoder.reasoning]
    if text:
        yield text
    if failure is not None:
        raise failure
