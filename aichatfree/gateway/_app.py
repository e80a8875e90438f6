"""The application: passes requests to the fronts, and what an engine produces to clients."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from .._thread_cache import ThreadCache
from ._access_log import AS_ASKED, CUT_OFF, AccessLogEntry, summary
from ._engines.engine import Engine, EngineError
from ._fronts.front import Front, Question, Request
from ._generation import Generation
from ._responses import Headers, Response
from ._slots import Slots


class App:
    """Answers requests; it knows nothing of connections. Except for :meth:`join`, its methods are
    called in the server's event loop.

    Args:
        engine: produces the answers.
        fronts: the protocols that clients may use; the last one owns every path.
        slots: limits the answers that run at the same time.
    """

    def __init__(self, engine: Engine, fronts: Sequence[Front], slots: Slots) -> None:
        self._engine = engine
        self._fronts = fronts
        self._slots = slots
        self._threads = ThreadCache("aichatfree-engine")

    def front(self, path: str) -> Front:
        """The front that answers requests for this path."""
        return next(front for front in self._fronts if front.owns(path))

    async def respond(
        self, front: Front, request: Request, entry: AccessLogEntry
    ) -> Response | Stream:
        """The response to a request; its status is in the log entry, unless it is refused.

        Raises:
            RefusalError: the request cannot be accepted.
        """
        handled = front.handle(request)
        if isinstance(handled, Question):
            return await self._answer(handled, entry)
        entry.respond(handled.status)
        return handled

    def stop(self) -> None:
        """Refuse further questions, and those that wait; running answers continue."""
        self._slots.close()

    def join(self, timeout: float) -> bool:
        """Wait for all engines to end, for at most ``timeout`` seconds; whether they have.

        Called when the loop has ended.
        """
        return self._threads.close(timeout)

    async def _answer(self, question: Question, entry: AccessLogEntry) -> Response | Stream:
        generation = await self._start(question)
        received: list[str] = []
        try:
            received += await generation.read()
            if question.format.streamed:
                return Stream(question, generation, received, entry)
            while chunks := await generation.read():
                received += chunks
        except EngineError as error:
            response = question.format.response("".join(received), error)
            entry.respond(response.status, _outcome(question, "the model", error))
            return response
        except asyncio.CancelledError:
            generation.cancel()
            raise
        response = question.format.response("".join(received), None)
        entry.respond(response.status)
        return response

    async def _start(self, question: Question) -> Generation:
        await self._slots.acquire()
        try:
            return Generation(self._engine, question.ask, self._threads, self._slots.release)
        except BaseException:  # its thread cannot be started
            self._slots.release()
            raise


class Stream:
    """A streamed answer, the first chunks of which have arrived.

    Attributes:
        headers: those of the response, whose status is 200.
    """

    def __init__(
        self,
        question: Question,
        generation: Generation,
        received: list[str],
        entry: AccessLogEntry,
    ) -> None:
        self.headers: Headers = question.format.headers
        self._question = question
        self._format = question.format
        self._generation = generation
        self._received = received
        self._entry = entry
        entry.respond(200, CUT_OFF)  # until the stream has come to its end
        entry.is_streamed = True

    async def send(self, write: Callable[[bytes], Awaitable[None]]) -> bool:
        """Write the answer chunk by chunk; whether it is complete, or must be cut off visibly."""
        failure: EngineError | None = None
        chunks = self._received
        try:
            while chunks:
                for chunk in chunks:
                    self._entry.chunks += 1
                    await write(self._format.chunk(chunk))
                chunks = await self._generation.read()
        except EngineError as error:
            failure = error
        ending = self._format.ending(failure)
        self._entry.outcome = _outcome(self._question, "incomplete", failure) if failure else ""
        if ending.body:
            await write(ending.body)
        return ending.complete

    def close(self) -> None:
        """Stop the engine if it is still running."""
        self._generation.cancel()


def _outcome(question: Question, what: str, error: EngineError) -> str:
    """Why there is no complete answer, as the log shows it."""
    return AS_ASKED if question.ends_as_asked(error) else f"{what}: {summary(error)}"
