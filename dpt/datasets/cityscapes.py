"""Cityscapes, street scenes in 19 classes."""

from dpt.datasets.segmentation import BaseSegDataset
from dpt.registry import DATASETS


@DATASETS.register_module()
class CityscapesDataset(BaseSegDataset):
    """Cityscapes' fine annotations: 2,975 training, 500 validation and 1,525 test images of 2048x1024.

    Masks hold the 19 train ids, and 255 elsewhere; tools/dataset_converters/cityscapes.py makes them of the
    published ``*_gtFine_labelIds.png``. Arguments: :class:`BaseSegDataset`. Cordts et al., *The Cityscapes
    Dataset for Semantic Urban Scene Understanding*, 2016.
    """

    METAINFO: dict = {
        'classes': (
            *('road', 'sidewalk', 'building', 'wall', 'fence', 'pole', 'traffic light', 'traffic sign'),
            *('vegetation', 'terrain', 'sky', 'person', 'rider', 'car', 'truck', 'bus', 'train'),
            *('motorcycle', 'bicycle'),
        ),
        'palette': [
            *([128, 64, 128], [244, 35, 232], [70, 70, 70], [102, 102, 156], [190, 153, 153]),
            *([153, 153, 153], [250, 170, 30], [220, 220, 0], [107, 142, 35], [152, 251, 152]),
            *([70, 130, 180], [220, 20, 60], [255, 0, 0], [0, 0, 142], [0, 0, 70], [0, 60, 100]),
            *([0, 80, 100], [0, 0, 230], [119, 11, 32]),
        ],
    }

    def __init__(
        self,
        ann_file: str = '',
        img_suffix: str = '_leftImg8bit.png',
        *,
        seg_map_suffix: str = '_gtFine_labelTrainIds.png',
        **kwargs,
    ) -> None:
        super().__init__(ann_file, img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)
