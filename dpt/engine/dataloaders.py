"""The data loaders of a config, the data sets in them and their workers."""

import signal
from collections.abc import Callable, Sequence

DATALOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def innermost_datasets(dataset: dict | None) -> list[dict]:
    """Return the data sets inside wrappers such as RepeatDataset (one) and ConcatDataset (several).

    Raises:
        ValueError: If one is no dict.
    """
    if dataset is None:
        return []
    if not isinstance(dataset, dict):
        raise ValueError(
            f'dataset={dataset!r:.60}... of a data loader: a dict was expected; several data sets are '
            "dict(type='ConcatDataset', datasets=[...])"
        )
    inner = [dataset['dataset']] if 'dataset' in dataset else dataset.get('datasets')
    return [dataset] if inner is None else [found for one in inner for found in innermost_datasets(one)]


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
