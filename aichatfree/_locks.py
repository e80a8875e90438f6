"""A lock that Ctrl-C does not leave locked."""

from __future__ import annotations

from _thread import RLock


class SignalSafeLock(RLock):  # type: ignore[misc]  # not final when it runs
    """A reentrant lock for ``with``, which the main thread may share with others.

    From Python 3.14 on, a signal handler may raise after a lock was acquired and before the body of
    ``with`` begins. It would stay locked, and all other threads would wait for ever.
    """

    def __enter__(self) -> bool:  # type: ignore[override]
        try:
            return self.acquire()
        except BaseException:
            # Not suppress(): its own calls could be interrupted before release() is called.
            try:  # noqa: SIM105
                self.release()
            except RuntimeError:
                pass  # the handler raised while this thread still waited
            raise
