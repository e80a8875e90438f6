"""What Ctrl-C does to a batch: the first stops sending, a second one cancels what is in flight."""

from __future__ import annotations

import sys

from .._output.terminal import wrapped
from ._backend import Backend


def finish_or_cancel(backend: Backend, *, announce: bool) -> None:
    """After the first Ctrl-C: wait for the requests in flight, or cancel them at the second.

    Args:
        backend: where they are.
        announce: whether to tell the user on standard error.
    """
    try:
        backend.stop()
        if announce:
            message = wrapped("Stopping; Ctrl-C again cancels the requests in flight.")
            print(f"\n{message}", file=sys.stderr)
        # Waits for threads and does not count results: the signal may have lost one of those.
        backend.close()
    except KeyboardInterrupt:
        backend.cancel()
