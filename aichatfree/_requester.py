"""``Requester``: one prompt to one site, as chunks of text.

The path of a prompt: rate limiter -> signing -> wire -> decoding, once for each attempt.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Self

from ._call import Call
from ._prompt_sender import Attempt, PromptSender, Question
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
from ._settings import ConnectionOptions, Settings, not_portable
from ._signing_clock import SigningClock
from ._wire.exchange import Exchange
from ._wire.transport import Transport
from .errors import APIError
from .retry import MakeRetrying
from .timeout import Timeout


class Requester(PromptSender):
    """Sends prompts to one site, within its rate limit and with retries."""

    settings: Settings
    rate_limiter: RateLimiter

    def __init__(
        self,
        settings: Settings,
        connection: ConnectionOptions,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.settings = settings
        self._on_close = on_close
        self.rate_limiter = RateLimiter(connection.max_requests_per_minute)
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

    def with_settings(self, settings: Settings) -> Self:
        other = copy.copy(self)
        other.settings = settings
        return other

    @property
    def requesters(self) -> Sequence[Requester]:
        return [self]

    def check_prompt(self, prompt: Prompt, temperature: float | None = None) -> None:
        self._messages(prompt, None)
        check_temperature(temperature)

    def post(self, path: str, body: bytes, timeout: Timeout) -> Exchange:
        """Send a request outside the chat protocol, without a signature or retries.

        Raises:
            APIConnectionError: there was no response.
        """
        return self._transport.post(path, body, Call(timeout))

    def models(self) -> list[str]:
        site = self.settings.site
        exchange = self._transport.get(site.dialect.models_path, Call(self.settings.timeout))
        body = exchange.read_up_to(MAX_ERROR_BODY)
        return read_models(exchange.status, exchange.headers, body, site)

    def close(self) -> None:
        self._transport.close()
        if self._on_close is not None:
            self._on_close()

    def to_dict(self, share: float = 1.0) -> dict[str, Any]:
        if self._on_close is not None:
            raise not_portable("the built-in model, which answers in this process only")
        return {
            "connection": self._connection.to_dict(share),
            "settings": self.settings.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Requester:
        """The requester of :meth:`to_dict`, with the secrets of this process's environment."""
        return cls(Settings.from_dict(data["settings"]), ConnectionOptions(**data["connection"]))

    def _attempts(
        self, question: Question, call: Call, make_retrying: MakeRetrying
    ) -> tuple[Attempt, MakeRetrying]:
        send = self.prepare(question, call)
        self._transport.cancel_tokens.add(call.cancel_token)

        def attempt() -> Iterator[str]:
            return send(self.rate_limiter.acquire(call))

        return attempt, make_retrying

    def prepare(self, question: Question, call: Call) -> Callable[[int], Iterator[str]]:
        """A function that makes one attempt, given the number of the slot that it may use.

        The request is signed then, because sites compare its time with their clock.

        Raises:
            TypeError, ValueError: the question cannot be sent.
        """
        site = self.settings.site
        messages = self._messages(question.prompt, question.system)
        temperature = question.temperature
        if question.in_batch and not site.dialect.temperature:
            temperature = None
        check_temperature(temperature, site.dialect)

        def send(number: int) -> Iterator[str]:
            call.site = site.base_url
            body = request_body(
                site,
                messages,
                now=self._signing_clock.now(),
                password=self.settings.password,
                model=self.settings.model,
                temperature=temperature,
            )
            exchange = self._transport.post(site.dialect.path, body, call)
            try:
                yield from _read_text(
                    exchange, site, question.reasoning, buffered=question.buffered
                )
            except APIError as error:
                redact(error, self.settings.password, site.secret)
                if error.rejection or error.possible_rejection:
                    self.rate_limiter.record_rejection(number, error, call.rejections)
                raise
            self.rate_limiter.record_answer(number)

        return send

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
        with closing(exchange.chunks(complete=buffered)) as arrivals:
            for chunks in arrivals:
                text = "".join(map(decoder.feed, chunks))
                if text:
                    yield text
    except APIError:
        held, failure = decoder.finish()
        if held:
            yield held
        if failure is not None and not failure.retryable:
            raise failure from None  # what the site said explains why it broke off
        raise
    text, failure = decoder.finish()
    reasoning[:] = [decoder.reasoning]
    if text:
        yield text
    if failure is not None:
        raise failure
