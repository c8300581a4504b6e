"""Published data sets of aerial and satellite images."""

from dpt.datasets.published import colours
from dpt.datasets.segmentation import BaseSegDataset
from dpt.registry import DATASETS

_LOVEDA_CLASSES = 'background building road water barren forest agricultural'
_LOVEDA_PALETTE = 'ffffff ff0000 ffff00 0000ff 9f81b7 00ff00 ffc380'

_ISPRS_CLASSES = 'impervious_surface building low_vegetation tree car clutter'
_ISPRS_PALETTE = 'ffffff 0000ff 00ffff 00ff00 ffff00 ff0000'

_ISAID_CLASSES = """\
background ship store_tank baseball_diamond tennis_court basketball_court Ground_Track_Field Bridge
Large_Vehicle Small_Vehicle Helicopter Swimming_pool Roundabout Soccer_ball_field plane Harbor"""
_ISAID_PALETTE = """\
000000 00003f 003f3f 003f00 003f7f 003fbf 003fff 007f3f 007f7f 00007f 0000bf 0000ff 00bf7f 007fbf 007fff
00649b"""


class _AerialDataset(BaseSegDataset):
    """PNG images and masks in which 0 means 'no label' and 1 is the first class."""

    def __init__(
        self,
        ann_file: str = '',
        img_suffix: str = '.png',
        *,
        reduce_zero_label: bool = True,
        **kwargs,
    ) -> None:
        super().__init__(ann_file, img_suffix, reduce_zero_label=reduce_zero_label, **kwargs)


@DATASETS.register_module()
class LoveDADataset(_AerialDataset):
    """LoveDA: 2,522 training, 1,669 validation and 1,796 test images of 1024x1024, 7 classes.

    Masks contain 1 to 7, and 0 for 'no label'. For the arguments see :class:`BaseSegDataset`. Wang et al.,
    *LoveDA: A Remote Sensing Land-Cover Dataset for Domain Adaptive Semantic Segmentation*, 2021.
    """

    METAINFO: dict = {'classes': tuple(_LOVEDA_CLASSES.split()), 'palette': colours(_LOVEDA_PALETTE)}


@DATASETS.register_module()
class PotsdamDataset(_AerialDataset):
    """ISPRS Potsdam, cut into tiles: 6 classes.

    Masks contain 1 to 6, and 0 for the boundaries that are not evaluated. For the arguments see
    :class:`BaseSegDataset`. International Society for Photogrammetry and Remote Sensing, *2D Semantic
    Labeling Contest*, 2012.
    """

    METAINFO: dict = {'classes': tuple(_ISPRS_CLASSES.split()), 'palette': colours(_ISPRS_PALETTE)}


@DATASETS.register_module()
class ISPRSDataset(PotsdamDataset):
    """ISPRS Vaihingen, cut into tiles, with the classes and labels of :class:`PotsdamDataset`."""


@DATASETS.register_module()
class iSAIDDataset(BaseSegDataset):  # noqa: N801 (MMSegmentation's name)
    """iSAID, cut into tiles: 16 classes including background.

    Masks contain 0 (background) to 15, and 255 elsewhere. For the arguments see :class:`BaseSegDataset`.
    Zamir et al., *iSAID: A Large-scale Dataset for Instance Segmentation in Aerial Images*, 2019.
    """

    METAINFO: dict = {'classes': tuple(_ISAID_CLASSES.split()), 'palette': colours(_ISAID_PALETTE)}

    def __init__(
        self,
        ann_file: str = '',
        img_suffix: str = '.png',
        *,
        seg_map_suffix: str = '_instance_color_RGB.png',
        **kwargs,
    ) -> None:
        super().__init__(ann_file, img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)
