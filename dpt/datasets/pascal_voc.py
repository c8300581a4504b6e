"""PASCAL VOC 2012, 20 classes of objects and the background."""

from dpt.datasets.segmentation import BaseSegDataset
from dpt.registry import DATASETS


def voc_colour(label: int) -> list[int]:
    """RGB colour of a label in VOC's own colour map, which spreads the label's bits over the channels."""
    colour = [0, 0, 0]
    for bit in range(8):
        colour[bit % 3] |= (label >> bit & 1) << (7 - bit // 3)
    return colour


@DATASETS.register_module()
class PascalVOCDataset(BaseSegDataset):
    """PASCAL VOC 2012: 1,464 training and 1,449 validation images with masks, 21 classes.

    Masks hold 0 (background) to 20, and 255 along the outlines of objects. The folder of images has more than
    those with masks, so the split file is needed. Another 9,118 training images get their masks from the
    Semantic Boundaries Dataset through tools/dataset_converters/voc_aug.py. Arguments:
    :class:`BaseSegDataset`. Everingham et al., *The Pascal Visual Object Classes Challenge*, 2015; Hariharan
    et al., *Semantic Contours from Inverse Detectors*, 2011.
    """

    METAINFO: dict = {
        'classes': (
            *('background', 'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair'),
            *('cow', 'diningtable', 'dog', 'horse', 'motorbike', 'person', 'pottedplant', 'sheep', 'sofa'),
            *('train', 'tvmonitor'),
        ),
        'palette': [voc_colour(label) for label in range(21)],
    }

    def __init__(self, ann_file: str, **kwargs) -> None:
        super().__init__(ann_file, **kwargs)
