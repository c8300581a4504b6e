"""CamVid, driving scenes in 11 classes."""

from dpt.datasets.segmentation import BaseSegDataset
from dpt.registry import DATASETS


@DATASETS.register_module()
class CamVidDataset(BaseSegDataset):
    """CamVid at 480x360 in the 11 classes of SegNet, 367 training, 101 validation and 233 test images.

    Masks hold 0..10, and 255 where SegNet has 11, 'void'; there is no label to reduce. Images end in
    ``.jpg``, masks in ``.png``. Brostow, Fauqueur, Cipolla, *Semantic object classes in video*, 2009;
    classes and split: Badrinarayanan, Kendall, Cipolla, *SegNet*, 2015.
    """

    METAINFO: dict = {
        'classes': (
            'sky',
            'building',
            'pole',
            'road',
            'pavement',
            'tree',
            'signsymbol',
            'fence',
            'car',
            'pedestrian',
            'bicyclist',
        ),
        'palette': [
            [128, 128, 128],
            [128, 0, 0],
            [192, 192, 128],
            [128, 64, 128],
            [60, 40, 222],
            [128, 128, 0],
            [192, 128, 128],
            [64, 64, 128],
            [64, 0, 128],
            [64, 64, 0],
            [0, 128, 192],
        ],
    }
