"""Work beside the training."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Background:
    """One job at a time in a thread; what it raises is raised in the training.

    A job that has begun is finished even if the program ends meanwhile, other than by a signal.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix='checkpoint')
        self._job: Future | None = None

    def submit(self, job: Callable[[], None]) -> None:
        """Start a job, after the one before it has ended."""
        self.join()
        self._job = self._pool.submit(job)

    def check(self) -> None:
        """Raise what the job has raised, if it has ended; wait for nothing."""
        if self._job is not None and self._job.done():
            self.join()

    def join(self) -> None:
        """Wait for the job and raise what it has raised."""
        job, self._job = self._job, None
        if job is not None:
            job.result()
