"""Published data sets other than ADE20K: street scenes, PASCAL and COCO-Stuff."""

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

_COCO_STUFF_CLASSES = """\
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop
sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack,
umbrella, handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball
glove, skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana,
apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed,
dining table, toilet, tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink,
refrigerator, book, clock, vase, scissors, teddy bear, hair drier, toothbrush, banner, blanket, branch,
bridge, building-other, bush, cabinet, cage, cardboard, carpet, ceiling-other, ceiling-tile, cloth,
clothes, clouds, counter, cupboard, curtain, desk-stuff, dirt, door-stuff, fence, floor-marble,
floor-other, floor-stone, floor-tile, floor-wood, flower, fog, food-other, fruit, furniture-other, grass,
gravel, ground-other, hill, house, leaves, light, mat, metal, mirror-stuff, moss, mountain, mud, napkin,
net, paper, pavement, pillow, plant-other, plastic, platform, playingfield, railing, railroad, river,
road, rock, roof, rug, salad, sand, sea, shelf, sky-other, skyscraper, snow, solid-other, stairs, stone,
straw, structural-other, table, tent, textile-other, towel, tree, vegetable, wall-brick, wall-concrete,
wall-other, wall-panel, wall-stone, wall-tile, wall-wood, water-other, waterdrops, window-blind,
window-other, wood"""
_COCO_STUFF_PALETTE = """\
00c040 00c040 004060 80c0c0 004040 00c0e0 00c0c0 80c040 00c060 80c040 8020c0 0000e0 000040 00a0c0 800060
8000c0 0020c0 8080e0 0000c0 80a0c0 808000 800020 802000 800080 408020 00a000 000000 c080a0 002000 008080
4080a0 80a000 008000 c08020 806080 000080 400020 00e080 800000 c000a0 006080 808080 4000a0 80e080 808040
c00020 806000 8000c0 008020 40e000 000040 8080a0 406000 0080c0 0080a0 c0e000 008040 808020 c02080 0040c0
000020 40a080 804040 8000a0 402080 80c0c0 0000a0 c0a080 80c000 800060 c02000 804080 408060 40a000 004000
c080e0 402000 00c080 4080e0 c0a000 00c000 c08060 c06080 004080 400060 40e080 804000 c000e0 406080 80c080
4000e0 c0e080 80c040 c00060 c06000 8040c0 008060 00e000 404040 8080e0 006000 40c0c0 0080e0 80e000 40c040
808060 802080 4000c0 004060 00a080 c00040 8040e0 002080 c080c0 0040e0 80a080 c08000 804020 802040 c00080
40c020 00a040 400000 c0c0a0 002040 408080 40c0a0 80a040 408000 c0c020 8060c0 400080 404020 00e0c0 c00000
c040a0 0060c0 c08080 4040a0 80e0c0 c08040 c04020 806040 c000c0 00c020 40e040 400040 80c0a0 406040 4080c0
00c0a0 c0e040 408040 80c020 c020c0 4040c0 004020 40a0c0 c04040 8040a0 4020c0 c0c0c0 0040a0 c0a0c0 c0c000
804060 c02040 c04080 40c060 40a040 404000"""


def _names(classes: str) -> tuple[str, ...]:
    return tuple(classes.replace('\n', ' ').split(', '))


def colours(palette: str) -> list[list[int]]:
    """Return the RGB colours of hexadecimal numbers separated by blanks."""
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
        'palette': colours(_CAMVID_PALETTE),
    }


@DATASETS.register_module()
class CityscapesDataset(BaseSegDataset):
    """Cityscapes with fine annotations: 2,975 training, 500 validation and 1,525 test images of 2048x1024.

    Masks contain the 19 train ids, and 255 elsewhere; tools/dataset_converters/cityscapes.py converts the
    published ``*_gtFine_labelIds.png``. For the arguments see :class:`BaseSegDataset`. Cordts et al., *The
    Cityscapes Dataset for Semantic Urban Scene Understanding*, 2016.
    """

    METAINFO: dict = {
        'classes': _names(_CITYSCAPES_CLASSES),
        'palette': colours(_CITYSCAPES_PALETTE),
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


@DATASETS.register_module()
class DarkZurichDataset(CityscapesDataset):
    """Dark Zurich: 50 validation and 151 test images of 1920x1080 at night, with the classes of Cityscapes.

    For the arguments see :class:`BaseSegDataset`. Sakaridis, Dai, Van Gool, *Guided Curriculum Model
    Adaptation and Uncertainty-Aware Evaluation for Semantic Nighttime Image Segmentation*, 2019.
    """

    def __init__(
        self,
        ann_file: str = '',
        img_suffix: str = '_rgb_anon.png',
        *,
        seg_map_suffix: str = '_gt_labelTrainIds.png',
        **kwargs,
    ) -> None:
        super().__init__(ann_file, img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)


@DATASETS.register_module()
class NightDrivingDataset(CityscapesDataset):
    """Nighttime Driving: 50 coarsely labelled test images of 1920x1080, with the classes of Cityscapes.

    For the arguments see :class:`BaseSegDataset`. Dai, Van Gool, *Dark Model Adaptation: Semantic Image
    Segmentation from Daytime to Nighttime*, 2018.
    """

    def __init__(
        self,
        ann_file: str = '',
        img_suffix: str = '_leftImg8bit.png',
        *,
        seg_map_suffix: str = '_gtCoarse_labelTrainIds.png',
        **kwargs,
    ) -> None:
        super().__init__(ann_file, img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)


@DATASETS.register_module()
class BDD100KDataset(BaseSegDataset):
    """BDD100K: 7,000 training and 1,000 validation images of 1280x720, with the classes of Cityscapes.

    Masks contain the 19 train ids, and 255 elsewhere. For the arguments see :class:`BaseSegDataset`. Yu et
    al., *BDD100K: A Diverse Driving Dataset for Heterogeneous Multitask Learning*, 2020.
    """

    METAINFO: dict = CityscapesDataset.METAINFO


@DATASETS.register_module()
class COCOStuffDataset(BaseSegDataset):
    """COCO-Stuff 164k: 118,287 training and 5,000 validation images, 171 classes of things and stuff.

    Masks contain 0 to 170, and 255 elsewhere. For COCO-Stuff 10k, whose masks contain 0 for 'no label' and 1
    to 171, set ``reduce_zero_label=True``. For the arguments see :class:`BaseSegDataset`. Caesar, Uijlings,
    Ferrari, *COCO-Stuff: Thing and Stuff Classes in Context*, 2018.
    """

    METAINFO: dict = {
        'classes': _names(_COCO_STUFF_CLASSES),
        'palette': colours(_COCO_STUFF_PALETTE),
    }

    def __init__(
        self,
        ann_file: str = '',
        img_suffix: str = '.jpg',
        *,
        seg_map_suffix: str = '_labelTrainIds.png',
        **kwargs,
    ) -> None:
        super().__init__(ann_file, img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)
