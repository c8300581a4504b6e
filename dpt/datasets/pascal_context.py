"""Pascal Context, whole scenes in 59 classes and the background."""

from dpt.datasets.ade20k import ADE20KDataset
from dpt.datasets.segmentation import BaseSegDataset
from dpt.registry import DATASETS

_CLASSES = """\
aeroplane bag bed bedclothes bench bicycle bird boat book bottle building bus cabinet car cat ceiling chair
cloth computer cow cup curtain dog door fence floor flower food grass ground horse keyboard light motorbike
mountain mouse person plate platform pottedplant road rock sheep shelves sidewalk sign sky snow sofa table
track train tree truck tvmonitor wall water window wood"""


@DATASETS.register_module()
class PascalContextDataset(BaseSegDataset):
    """Pascal Context with the background as a class: 4,998 training and 5,105 validation images, 60 classes.

    Masks hold 0 (background) to 59; tools/dataset_converters/pascal_context.py makes them. Arguments:
    :class:`BaseSegDataset`. Mottaghi et al., *The Role of Context for Object Detection and Semantic
    Segmentation in the Wild*, 2014.
    """

    METAINFO: dict = {
        'classes': ('background', *_CLASSES.split()),
        'palette': ADE20KDataset.METAINFO['palette'][:60],
    }


@DATASETS.register_module()
class PascalContextDataset59(BaseSegDataset):
    """Pascal Context without the background: the same files, 0 means 'no label', 59 classes."""

    METAINFO: dict = {
        'classes': PascalContextDataset.METAINFO['classes'][1:],
        'palette': PascalContextDataset.METAINFO['palette'][1:],
    }

    def __init__(self, ann_file: str = '', *, reduce_zero_label: bool = True, **kwargs) -> None:
        super().__init__(ann_file, reduce_zero_label=reduce_zero_label, **kwargs)
