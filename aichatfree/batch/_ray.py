"""Tasks of Ray as an executor."""

from __future__ import annotations

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
    Ray repeats the tasks of a worker that died. A future raises the error of its call as the call
    raised it. It can be cancelled while the call is running, which gets a ``KeyboardInterrupt``
    then: a shard returns the answers that it has.

    Args:
        max_workers: tasks at a time; by default as many as the cluster has CPUs now. Each has a
            thread in this process, which waits for it.
        task_options: for ``ray.remote``, such as ``num_cpus=0.25`` or ``runtime_env=``.

    Raises:
        ImportError: Ray is not installed.
        TypeError, ValueError: ``max_workers`` is not a positive integer.
    """

    def __init__(self, max_workers: int | None = None, **task_options: Any) -> None:
        try:
            self._ray: Any = import_module("ray")
        except ImportError as error:
            raise ImportError(f"RayExecutor needs Ray: {install_command('ray')}") from error
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
        self._in_flight: set[_TaskFuture] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a call as a task.

        Raises:
            RuntimeError: the executor is shut down.
        """
        future = _TaskFuture(self._ray.cancel)
        waiting = self._threads.submit(self._run, future, fn, args, kwargs)
        waiting.add_done_callback(future.follow)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. Ray is not shut down.

        Calls in flight continue, except that the workers of those that were cancelled are killed.

        Args:
            wait: whether to return only after all calls have ended.
            cancel_futures: whether calls that wait are cancelled.
        """
        for future in list(self._in_flight):
            future.kill_if_cancelled()
        self._threads.shutdown(wait, cancel_futures=cancel_futures)

    def _run(self, future: _TaskFuture, *call: Any) -> None:
        """Give a call to Ray and wait for its result."""
        if not future.set_running_or_notify_cancel():
            return
        self._in_flight.add(future)
        errors = self._ray.exceptions
        try:
            reference = self._task.remote(*call)
            future.set_reference(reference)
            future.set_result(self._ray.get(reference))
        except errors.TaskCancelledError:
            future.set_exception(CancelledError())
        except errors.RayTaskError as error:
            future.set_exception(error.cause)
        except BaseException as error:
            future.set_exception(error)
        finally:
            self._in_flight.discard(future)


class _TaskFuture(Future[Any]):
    """The future of a call, which can be cancelled also while its task is in flight.

    One thread waits for the task, and others may cancel it at any time. A cancellation just when
    the task begins is not missed: the thread stores the reference before it looks whether the
    future was cancelled, and ``cancel`` notes that before it looks for the reference.

    Args:
        cancel_task: Ray's function.
    """

    def __init__(self, cancel_task: Callable[..., None]) -> None:
        super().__init__()
        self._cancel_task = cancel_task
        self._cancelled = False
        self._reference: Any = None

    def cancel(self) -> bool:
        """Cancel a call that waits, or interrupt its task; ``True`` if it will not run."""
        self._cancelled = True
        if super().cancel():
            return True
        if self._reference is not None:
            self._cancel_task(self._reference)
        return False

    def set_reference(self, reference: Any) -> None:
        """The task was given to Ray."""
        self._reference = reference
        if self._cancelled:
            self._cancel_task(reference)

    def kill_if_cancelled(self) -> None:
        """Kill the worker of a task that was interrupted and has not ended."""
        if self._cancelled and self._reference is not None:
            self._cancel_task(self._reference, force=True)

    def follow(self, waiting: Future[None]) -> None:
        """Cancel the call if the executor's shutdown has removed it from the queue."""
        if waiting.cancelled() and self.cancel():
            self.set_running_or_notify_cancel()


def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return fn(*args, **kwargs)
