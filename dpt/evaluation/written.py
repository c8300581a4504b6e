"""Files of predictions that a metric writes, and the number of samples that it has seen."""

from pathlib import Path

from mmengine.dist import all_gather_object
from mmengine.logging import print_log


class WrittenFiles:
    """Names of the files that a metric has written, to refuse two images with the same stem."""

    def __init__(self) -> None:
        self.paths: dict[str, str] = {}  # image path by file name

    def add(self, folder: str, path: str | None, suffix: str) -> Path:
        """Return the file for the prediction of an image, whose folder then exists.

        Raises:
            ValueError: If the path is unknown or another image has the same stem.
        """
        if path is None:
            raise ValueError('the sample has no img_path, which is needed to name the output file')
        file = Path(folder, Path(path).stem + suffix)
        _check_same_image(file.name, self.paths.setdefault(file.name, path), path)
        file.parent.mkdir(parents=True, exist_ok=True)
        return file

    def check_processes(self, folder: str) -> None:
        """Compare the files of all processes, and log their number."""
        seen: dict[str, str] = {}
        for written in all_gather_object(self.paths):
            for name, path in written.items():
                _check_same_image(name, seen.setdefault(name, path), path)
        print_log(f'wrote {len(seen)} predictions to {folder}', logger='current')


def check_count(count: int, size: int, format_only: bool) -> None:
    """Raise ValueError if the number of samples over all processes is not the length of the data set."""
    # Writing a prediction twice does no harm.
    if count < size or (count > size and not format_only):
        raise ValueError(
            f'{count} samples were processed but the dataset has {size}: some were counted '
            f'twice (the sampler pads) or lost. Set in the dataloader '
            f"sampler=dict(type='DefaultSampler', shuffle=False, round_up=False)"
        )


def _check_same_image(name: str, first: str, second: str) -> None:
    if first != second:
        raise ValueError(f'{first} and {second} would both be written to {name}; run one folder at a time')
