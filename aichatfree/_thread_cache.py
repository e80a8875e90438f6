"""A cache of threads: those that have finished are used again for a moment."""

from __future__ import annotations

import queue
import threading
import time
import weakref
from collections.abc import Callable

from ._forks import renew_after_fork
from ._locks import SignalSafeLock

Work = Callable[[], None]


class ThreadCache:
    """Runs each piece of work in a thread, an idle one if possible, else a new one.

    Purpose: a worker of an executor answers one shard after another. Starting 16 threads for each
    shard of 64 short answers would take a fifth of its time. And the event loop of a gateway would
    have to wait until the system has started a thread for each question.

    Guarantees:

    - Work begins at once: it never waits for other work to end. So work that waits for other work
      cannot deadlock.
    - A thread that was idle for ``idle_timeout`` seconds ends. All threads are daemons and do not
      delay the end of the process.
    - An idle thread keeps no reference to the work that it did.
    - A forked child begins with an empty cache, because threads do not survive a fork.
    - When ``close`` returns ``True``, no thread is left.

    The race that it avoids:

    1. An idle thread has waited for ``idle_timeout`` seconds without work, and is about to end.
    2. Before it can say so, ``run`` is called, counts the thread as idle, and therefore queues the
       work instead of starting a thread.
    3. If the idle thread ended now, nothing would ever do the work.

    So one count says how many idle threads have no queued work meant for them. ``run`` decrements
    it and queues the work while holding the lock. A thread whose wait has timed out takes the lock
    and looks into the queue again: if there is work, it does it; otherwise it decrements the count
    itself, and from then on ``run`` does not rely on it.

    Args:
        name: of the threads.
        idle_timeout: seconds.
        stack_size: bytes of a thread's stack; 0 for Python's default, mostly 8 MB.
    """

    def __init__(self, name: str, idle_timeout: float = 1.0, *, stack_size: int = 0) -> None:
        self._name = name
        self._idle_timeout = idle_timeout
        self._stack_size = stack_size
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        # Guards _idle together with what is in the queue: idle threads minus queued work. Also
        # guards _threads and _closed. Neither start nor join a thread while holding it, nor wait
        # for the queue.
        self._lock = threading.Lock()
        # Held while a thread is started, because the size of its stack is a setting of the process.
        self._start_lock = SignalSafeLock()
        self._idle = 0
        self._queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        self._closed = False

    def run(self, work: Work) -> None:
        """Begin a piece of work, which must not raise.

        Raises:
            RuntimeError: it needs a new thread, and the system cannot start one.
        """
        with self._lock:
            if self._idle > 0:
                self._idle -= 1
                self._queue.put(work)
                return
        thread = threading.Thread(target=self._work, args=([work],), name=self._name, daemon=True)
        self._start(thread)
        with self._lock:
            self._threads.add(thread)

    def _start(self, thread: threading.Thread) -> None:
        if not self._stack_size:
            thread.start()
            return
        with self._start_lock:
            before = threading.stack_size()
            try:
                threading.stack_size(self._stack_size)
                thread.start()
            finally:
                threading.stack_size(before)

    def close(self, timeout: float) -> bool:
        """End all threads: the idle ones at once, the others after their work.

        Nothing may be run afterwards.

        Args:
            timeout: seconds to wait for them.

        Returns:
            Whether all have ended.
        """
        deadline = time.monotonic() + timeout
        with self._lock:
            self._closed = True
            for _ in range(self._idle):
                self._queue.put(None)
            self._idle = 0
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _work(self, first: list[Work]) -> None:
        # In a list, because a thread keeps its arguments until it ends.
        work: Work | None = first.pop()
        while work is not None:
            work()
            work = None
            work = self._next()

    def _next(self) -> Work | None:
        with self._lock:
            if self._closed:
                return None
            self._idle += 1
        try:
            return self._queue.get(timeout=self._idle_timeout)
        except queue.Empty:
            pass
        with self._lock:
            try:
                return self._queue.get_nowait()
            except queue.Empty:
                self._idle -= 1
                return None
