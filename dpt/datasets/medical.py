"""Published data sets of medical images, with the files that MMSegmentation's converters write."""

from dpt.datasets.published import colours
from dpt.datasets.segmentation import BaseSegDataset
from dpt.registry import DATASETS

_REFUGE_CLASSES = ('background', ' Optic Cup', 'Optic Disc')  # with MMSegmentation's blank
_SYNAPSE_CLASSES = 'background aorta gallbladder left_kidney right_kidney liver pancreas spleen stomach'
_SYNAPSE_PALETTE = '000000 0000ff 00ff00 ff0000 00ffff ff00ff ffff00 3cffff f0f0f0'


@DATASETS.register_module()
class HRFDataset(BaseSegDataset):
    """High-Resolution Fundus: 45 images of 3504x2336 of the retina, with vessels.

    Masks contain 0 (background) and 1 (vessel). For the arguments see :class:`BaseSegDataset`. Budai et al.,
    *Robust Vessel Segmentation in Fundus Images*, 2013.
    """

    METAINFO: dict = {'classes': ('background', 'vessel'), 'palette': colours('787878 06e6e6')}

    def __init__(self, ann_file: str = '', img_suffix: str = '.png', **kwargs) -> None:
        super().__init__(ann_file, img_suffix, **kwargs)


@DATASETS.register_module()
class DRIVEDataset(HRFDataset):
    """DRIVE: 20 training and 20 test images of 565x584 of the retina, with the classes of HRF.

    For the arguments see :class:`BaseSegDataset`. Staal et al., *Ridge-Based Vessel Segmentation in Color
    Images of the Retina*, 2004.
    """

    def __init__(self, ann_file: str = '', *, seg_map_suffix: str = '_manual1.png', **kwargs) -> None:
        super().__init__(ann_file, seg_map_suffix=seg_map_suffix, **kwargs)


@DATASETS.register_module()
class STAREDataset(HRFDataset):
    """STARE: 20 images of 700x605 of the retina, with the classes of HRF.

    For the arguments see :class:`BaseSegDataset`. Hoover, Kouznetsova, Goldbaum, *Locating Blood Vessels in
    Retinal Images by Piecewise Threshold Probing of a Matched Filter Response*, 2000.
    """

    def __init__(self, ann_file: str = '', *, seg_map_suffix: str = '.ah.png', **kwargs) -> None:
        super().__init__(ann_file, seg_map_suffix=seg_map_suffix, **kwargs)


@DATASETS.register_module()
class ChaseDB1Dataset(HRFDataset):
    """CHASE_DB1: 28 images of 999x960 of the retina, with the classes of HRF.

    For the arguments see :class:`BaseSegDataset`. Fraz et al., *An Ensemble Classification-Based Approach
    Applied to Retinal Blood Vessel Segmentation*, 2012.
    """

    def __init__(self, ann_file: str = '', *, seg_map_suffix: str = '_1stHO.png', **kwargs) -> None:
        super().__init__(ann_file, seg_map_suffix=seg_map_suffix, **kwargs)


@DATASETS.register_module()
class REFUGEDataset(BaseSegDataset):
    """REFUGE: images of the retina with optic cup and optic disc, 3 classes including background.

    Masks contain 0 to 2. For the arguments see :class:`BaseSegDataset`. Orlando et al., *REFUGE Challenge*,
    2020.
    """

    METAINFO: dict = {'classes': _REFUGE_CLASSES, 'palette': colours('787878 06e6e6 383b78')}

    def __init__(self, ann_file: str = '', img_suffix: str = '.png', **kwargs) -> None:
        super().__init__(ann_file, img_suffix, **kwargs)


@DATASETS.register_module()
class SynapseDataset(BaseSegDataset):
    """Synapse: slices of abdominal CT scans, 8 organs and background.

    Masks contain 0 (background) to 8. For the arguments see :class:`BaseSegDataset`. Landman et al.,
    *Multi-Atlas Labeling Beyond the Cranial Vault*, 2015.
    """

    METAINFO: dict = {'classes': tuple(_SYNAPSE_CLASSES.split()), 'palette': colours(_SYNAPSE_PALETTE)}
