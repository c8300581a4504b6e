"""A file with the confusion matrix and the scores of each image of an evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dpt.files import whole_file


@dataclass
class Scores:
    """The confusion matrix and the scores of each image of an evaluation.

    Args:
        classes: Names of the K classes.
        confusion: int64 pixel counts of shape KxK; rows are the ground truth, columns the prediction.
        images: Paths of the N images.
        accuracy: Share of correct labelled pixels per image in percent, of shape N; NaN if no pixel is
            labelled.
        miou: Mean IoU per image in percent over the classes in its ground truth or prediction, of shape N.
        left_out: Class that the evaluation left out, by its ``ignore_index``.
    """

    classes: list[str]
    confusion: np.ndarray
    images: list[str]
    accuracy: np.ndarray
    miou: np.ndarray
    left_out: int | None = None

    def save(self, path: str | Path) -> None:
        """Write a ``.npz`` file atomically."""
        with whole_file(Path(path)) as file:
            np.savez_compressed(
                file,
                classes=np.array(self.classes),
                confusion=self.confusion,
                images=np.array(self.images, dtype=str),
                accuracy=self.accuracy,
                miou=self.miou,
                left_out=np.array([] if self.left_out is None else [self.left_out], dtype=int),
            )

    @classmethod
    def load(cls, path: str | Path) -> 'Scores':
        """Read a file written by :meth:`save`.

        Raises:
            FileNotFoundError: If the file does not exist.
            ValueError: If the file was not written by :meth:`save`.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                if 'names' in file.files:
                    raise ValueError('it contains scores of depth, which has no classes')
                scores = cls(
                    file['classes'].tolist(),
                    file['confusion'],
                    file['images'].tolist(),
                    file['accuracy'],
                    file['miou'],
                    next(iter(file['left_out'].tolist()), None),
                )
            size = len(scores.classes)
            if scores.confusion.shape != (size, size):
                raise ValueError(f'confusion matrix of shape {scores.confusion.shape} for {size} classes')
        except FileNotFoundError:
            raise FileNotFoundError(
                f'{path} does not exist; create it with tools/test.py --scores {path}'
            ) from None
        except Exception as error:  # numpy raises various exceptions for damaged files
            raise ValueError(f'{path}: not a file written by tools/test.py --scores ({error})') from error
        return scores


@dataclass
class DepthScores:
    """The depth scores of each image of an evaluation.

    Args:
        names: Names of the S scores.
        images: Paths of the N images.
        values: Scores of shape NxS; NaN for an image without a valid pixel.
    """

    names: list[str]
    images: list[str]
    values: np.ndarray

    def save(self, path: str | Path) -> None:
        """Write a ``.npz`` file atomically."""
        with whole_file(Path(path)) as file:
            names, images = np.array(self.names), np.array(self.images, dtype=str)
            np.savez_compressed(file, names=names, images=images, values=self.values)

    @classmethod
    def load(cls, path: str | Path) -> 'DepthScores':
        """Read a file written by :meth:`save`.

        Raises:
            ValueError: If the file was not written by :meth:`save`.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                return cls(file['names'].tolist(), file['images'].tolist(), file['values'])
        except Exception as error:  # numpy raises various exceptions for damaged files
            raise ValueError(f'{path}: not a file of depth scores ({error})') from error

    def column(self, name: str) -> np.ndarray:
        """Return one score of all images, of shape N."""
        return self.values[:, self.names.index(name)]


def load_scores(path: str | Path) -> Scores | DepthScores:
    """Read a file written by :meth:`Scores.save` or :meth:`DepthScores.save`.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file was not written by either.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            of_depth = 'names' in file.files
    except Exception:  # reported by the reader
        of_depth = False
    return DepthScores.load(path) if of_depth else Scores.load(path)


def image_scores(confusion: Tensor, left_out: int | None = None) -> Tensor:
    """Return the accuracy and mean IoU of an image in percent, on the device of its confusion matrix.

    Args:
        confusion: Pixel counts of shape KxK; rows are the ground truth, columns the prediction.
        left_out: Class that the mean leaves out.
    """
    counts = confusion.double()
    hits, truth, predicted = counts.diagonal(), counts.sum(dim=1), counts.sum(dim=0)
    iou = hits / (truth + predicted - hits)
    if left_out is not None:
        iou[left_out] = torch.nan
    return 100 * torch.stack([hits.sum() / truth.sum(), iou.nanmean()])


def check_scores_file(path: str | None) -> None:
    """Raise ValueError if the name of the file does not end in ``.npz``."""
    if path is not None and Path(path).suffix != '.npz':
        raise ValueError(f'{path}: the name of a scores file must end in .npz')


def order_by_score(values: Sequence[float] | np.ndarray) -> list[int]:
    """Return the indices that sort the values, omitting NaN."""
    numbers = np.asarray(values, np.float64)
    return [int(i) for i in np.argsort(numbers, kind='stable') if not np.isnan(numbers[i])]
