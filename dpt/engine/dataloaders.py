"""The data loaders of a config, the data sets in them and their workers."""

import signal
from collections.abc import Callable, Sequence


def begin_worker(then: Callable[[int], None] | None, ignored: Sequence[signal.Signals], worker: int) -> None:
    """Set up the process of a loader's worker: it leaves signals to the run.

    Whoever signals the whole job (scancel, torchrun) must not take the workers away from the step that is
    to be finished. Torch's own handler, set before this, would end them. They go when their process does.

    Args:
        then: The loader's own function to begin with.
        ignored: Signals.
        worker: Its number.
    """
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    if then is not None:
        then(worker)
