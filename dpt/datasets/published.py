"""Published data sets other than ADE20K: CamVid, Cityscapes, PASCAL VOC and Pascal Context."""

from dpt.datasets.ade20k import ADE20KDataset
from dpt.datasets.segmentation import BaseSegDataset
from dpt.registry import DATASETS

_CAMVID_CLASSES = 'sky building pole road pavement tree signsymbol fence car pedestrian bicyclist'
_CAMVID_PALETTE = '808080 800000 c0c080 804080 3c28de 808000 c08080 404080 400080 404000 0080c0'

_CITYSCAPES_CLASSES = """\
road, sidewalk, building, wall, fence, pole, traffic light, traffic sign, vegetation, terrain, sky, person,
rider, car, truck, bus, train, motorcycle, bicycle"""
_CITYSCAPES_PALETTE = """\
804080 f423e8 464646 66669c be9999 999999 faaa1e dcdc00 6b8e23 98fb98 4682b4 dc143c ff0000 00008e 000046
003c64 005064 0000e6 770b20"""

_VOC_CLASSES = """\
background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person
pottedplant sheep sofa train tvmonitor"""

_CONTEXT_CLASSES = """\
aeroplane bag bed bedclothes bench bicycle bird boat book bottle building bus cabinet car cat ceiling chair
cloth computer cow cup curtain dog door fence floor flower food grass ground horse keyboard light motorbike
mountain mouse person plate platform pottedplant road rock sheep shelves sidewalk sign sky snow sofa table
track train tree truck tvmonitor wall water window wood"""


def _colours(palette: str) -> list[list[int]]:
    return [list(bytes.fromhex(colour)) for colour in palette.split()]


@DATASETS.register_module()
class CamVidDataset(BaseSegDataset):
    """CamVid at 480x360 with the 11 classes of SegNet: 367 training, 101 validation and 233 test images.

    Masks contain 0 to 10, and 255 for SegNet's label 11, 'void'. Images end in ``.jpg``, masks in ``.png``.
    For the arguments see :class:`BaseSegDataset`. Brostow, Fauqueur, Cipolla, *Semantic object classes in
    video*, 2009; classes and split: Badrinarayanan, Kendall, Cipolla, *SegNet*, 2015.
    """

    METAINFO: dict = {
        'classes': tuple(_CAMVID_CLASSES.split()),
        'palette': _colours(_CAMVID_PALETTE),
    }


@DATASETS.register_module()
class CityscapesDataset(BaseSegDataset):
    """Cityscapes with fine annotations: 2,975 training, 500 validation and 1,525 test images of 2048x1024.

    Masks contain the 19 train ids, and 255 elsewhere; tools/dataset_converters/cityscapes.py converts the
    published ``*_gtFine_labelIds.png``. For the arguments see :class:`BaseSegDataset`. Cordts et al., *The
    Cityscapes Dataset for Semantic Urban Scene Understanding*, 2016.
    """

    METAINFO: dict = {
        'classes': tuple(_CITYSCAPES_CLASSES.replace('\n', ' ').split(', ')),
        'palette': _colours(_CITYSCAPES_PALETTE),
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


def voc_colour(label: int) -> list[int]:
    """Return the RGB colour of a label in the VOC colour map, which spreads its bits over the channels."""
    colour = [0, 0, 0]
    for bit in range(8):
        colour[bit % 3] |= (label >> bit & 1) << (7 - bit // 3)
    return colour


@DATASETS.register_module()
class PascalVOCDataset(BaseSegDataset):
    """PASCAL VOC 2012: 1,464 training and 1,449 validation images with masks, 21 classes.

    Masks contain 0 (background) to 20, and 255 along object boundaries. The split file is required because
    most images have no mask. tools/dataset_converters/voc_aug.py adds the masks of 9,118 training images
    from the Semantic Boundaries Dataset. For the arguments see :class:`BaseSegDataset`. Everingham et al.,
    *The Pascal Visual Object Classes Challenge*, 2015; Hariharan et al., *Semantic Contours from Inverse
    Detectors*, 2011.
    """

    METAINFO: dict = {
        'classes': tuple(_VOC_CLASSES.split()),
        'palette': [voc_colour(label) for label in range(21)],
    }

    def __init__(self, ann_file: str, **kwargs) -> None:
        super().__init__(ann_file, **kwargs)


@DATASETS.register_module()
class PascalContextDataset(BaseSegDataset):
    """Pascal Context with background as a class: 4,998 training and 5,105 validation images, 60 classes.

    Masks contain 0 (background) to 59; tools/dataset_converters/pascal_context.py writes them. For the
    arguments see :class:`BaseSegDataset`. Mottaghi et al., *The Role of Context for Object Detection and
    Semantic Segmentation in the Wild*, 2014.
    """

    METAINFO: dict = {
        'classes': ('background', *_CONTEXT_CLASSES.split()),
        'palette': ADE20KDataset.METAINFO['palette'][:60],
    }


@DATASETS.register_module()
class PascalContextDataset59(BaseSegDataset):
    """Pascal Context without background: the same files with 59 classes, where 0 means 'no label'."""

    METAINFO: dict = {
        'classes': PascalContextDataset.METAINFO['classes'][1:],
        'palette': PascalContextDataset.METAINFO['palette'][1:],
    }

    def __init__(self, ann_file: str = '', *, reduce_zero_label: bool = True, **kwargs) -> None:
        super().__init__(ann_file, reduce_zero_label=reduce_zero_label, **kwargs)
