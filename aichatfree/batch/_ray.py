"""Tasks of Ray as an executor."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from importlib import import_module
from typing import Any

from .._arguments import check_number
from .._extras import install_command


class RayExecutor(Executor):
    """Runs calls as tasks of Ray: an executor for ``Client.batch``; needs the extra ``ray``.

    >>> from aichatfree.batch import RayExecutor
    >>> with RayExecutor() as executor:
    ...     print(client.batch(["Name a river."], executor=executor).run())
    1 answered, 0 failed, ... s, ... a second

    At most ``max_workers`` tasks are in flight at a time, and further calls wait in this process.
    Ray repeats the tasks of a worker that died. A future raises the error that its call raised.

    Args:
        max_workers: tasks at a time; by default as many as the cluster has CPUs now. For each task,
            a thread of this process waits.
        task_options: for ``ray.remote``, such as ``num_cpus=0.25`` or ``runtime_env=``.

    Raises:
        ImportError: Ray is not installed.
        TypeError, ValueError: ``max_workers`` is not a positive integer.
    """

    def __init__(self, max_workers: int | None = None, **task_options: Any) -> None:
        try:
            self._ray: Any = import_module("ray")
        except ImportError as error:
            raise ImportError(
                f"ray is not installed, which RayExecutor needs: {install_command('ray')}"
            ) from error
        if max_workers is None:
            if not self._ray.is_initialized():
                self._ray.init()
            max_workers = max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        check_number("max_workers", max_workers, min=1, integer=True)
        self._max_workers = max_workers  # executors of the standard library call it so, too
        self._task = self._ray.remote(_call)
        if task_options:
            self._task = self._task.options(**task_options)
        self._threads = ThreadPoolExecutor(max_workers, "aichatfree-ray")
        # Guards the two below. Ray must not be called while holding it.
        self._lock = threading.Lock()
        self._in_flight: dict[_TaskFuture, Any] = {}  # Ray's reference to the task of each
        self._is_shut_down = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a call as a task.

        Raises:
            RuntimeError: the executor is shut down.
        """
        future = _TaskFuture()
        waiting = self._threads.submit(self._run, future, fn, args, kwargs)
        waiting.add_done_callback(future.follow)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. Ray is not shut down.

        Args:
            wait: whether to return only after all calls have ended. A running call that somebody
                has tried to cancel is not waited for: its worker is killed.
            cancel_futures: whether calls that wait are cancelled.
        """
        with self._lock:
            self._is_shut_down = True
            unwanted = [task for future, task in self._in_flight.items() if future.unwanted]
        for task in unwanted:
            self._ray.cancel(task, force=True)
        self._threads.shutdown(wait, cancel_futures=cancel_futures)

    def _run(self, future: _TaskFuture, *call: Any) -> None:
        """Give a call to Ray and wait for its result."""
        if not future.set_running_or_notify_cancel():
            return
        errors = self._ray.exceptions
        try:
            task = self._task.remote(*call)
            with self._lock:
                self._in_flight[future] = task
                is_unwanted = self._is_shut_down and future.unwanted
            if is_unwanted:  # shutdown() came while Ray took it
                self._ray.cancel(task, force=True)
            future.set_result(self._ray.get(task))
        except errors.TaskCancelledError:
            future.set_exception(CancelledError())
        except errors.RayTaskError as error:
            future.set_exception(error.cause)
        except BaseException as error:
            future.set_exception(error)
        finally:
            with self._lock:
                self._in_flight.pop(future, None)


class _TaskFuture(Future[Any]):
    """The future of a call.

    Attributes:
        unwanted: whether somebody has tried to cancel it. Ray can interrupt a task, but a task that
            ends at this moment aborts the process of the caller (Ray 2.60, ray-project/ray#54798).
    """

    unwanted = False

    def cancel(self) -> bool:
        """Cancel a call that waits; ``False`` if it is running or has ended."""
        self.unwanted = True
        return super().cancel()

    def follow(self, waiting: Future[None]) -> None:
        """Cancel the call if the executor's shutdown has removed it from the queue."""
        if waiting.cancelled() and self.cancel():
            self.set_running_or_notify_cancel()


def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return fn(*args, **kwargs)
