"""Classes as ``type`` mean the same as names, in configs, dumped configs and translated ones."""

from pathlib import Path

from mmcv.transforms import BaseTransform
from mmengine.config import Config

from dpt.apis import _inference_config
from dpt.config import check_config, load_config
from dpt.config.names import name_types

CLASSES = """
from mmcv.transforms import RandomFlip, RandomResize, Resize, TestTimeAug
from mmengine.dataset import DefaultSampler, RepeatDataset
from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapper, PolyLR
from mmengine.runner import ValLoop
from torch.optim import AdamW

from dpt.datasets import BaseSegDataset, LoadAnnotations, LoadImageFromFile, PackSegInputs, RandomCrop
from dpt.engine.loop import IterBasedTrainLoop
from dpt.engine.runner import PretrainedInit
from dpt.evaluation import IoUMetric
from dpt.models.backbones import VisionTransformer
from dpt.models.heads import DPTHead
from dpt.models.losses import CrossEntropyLoss
from dpt.models.necks import DPTNeck
from dpt.models.preprocessor import SegDataPreProcessor
from dpt.models.segmentor import EncoderDecoder
from dpt.models.tta import SegTTAModel
"""
CONFIG = """
default_scope = 'dpt'
train_pipeline = [
    dict(type=LoadImageFromFile),
    dict(type=LoadAnnotations),
    dict(type=RandomResize, scale=(128, 96), ratio_range=(0.5, 2.0), keep_ratio=True, resize_type=Resize),
    dict(type=RandomCrop, crop_size=(64, 64)),
    dict(type=RandomFlip, prob=0.5),
    dict(type=PackSegInputs),
]
test_pipeline = [dict(type=LoadImageFromFile), dict(type=Resize, scale=(128, 96)), dict(type=LoadAnnotations),
                 dict(type=PackSegInputs)]
data = dict(type=BaseSegDataset, metainfo=dict(classes=('a', 'b', 'c')), data_root='x')
train_dataloader = dict(
    batch_size=2,
    sampler=dict(type=DefaultSampler, shuffle=True),
    dataset=dict(type=RepeatDataset, times=2, dataset=dict(**data, pipeline=train_pipeline)),
)
sampler = dict(type=DefaultSampler, shuffle=False)
val_dataloader = dict(sampler=sampler, dataset=dict(**data, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type=IoUMetric)
test_evaluator = val_evaluator
tta_model = dict(type=SegTTAModel)
tta_pipeline = [
    dict(type=LoadImageFromFile),
    dict(type=TestTimeAug, transforms=[[dict(type=Resize, scale_factor=1.5)], [dict(type=PackSegInputs)]]),
]
model = dict(
    type=EncoderDecoder,
    data_preprocessor=dict(type=SegDataPreProcessor, mean=[1.5] * 3, std=[58.5] * 3, size=(64, 64)),
    backbone=dict(
        type=VisionTransformer,
        img_size=64,
        embed_dims=48,
        num_layers=4,
        num_heads=4,
        out_indices=(0, 1, 2, 3),
        init_cfg=dict(type=PretrainedInit, checkpoint=__file__),
    ),
    neck=dict(type=DPTNeck, in_channels=48, channels=16, post_process_channels=(8, 16, 24, 32)),
    decode_head=dict(type=DPTHead, in_channels=16, num_classes=3),
    loss=dict(type=CrossEntropyLoss),
)
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=AdamW, lr=1e-3))
param_scheduler = [dict(type=PolyLR, power=1.0, by_epoch=False)]
train_cfg = dict(type=IterBasedTrainLoop, max_iters=6)
val_cfg = dict(type=ValLoop)
default_hooks = dict(checkpoint=dict(type=CheckpointHook, interval=6))
"""
MMSEG = """
from mmcv.transforms import Resize
from mmengine.optim import OptimWrapper
from mmseg.datasets import BaseSegDataset, PackSegInputs
from mmseg.models import CrossEntropyLoss, DPTHead, EncoderDecoder, SegDataPreProcessor, VisionTransformer
from torch.optim import AdamW

default_scope = 'mmseg'
model = dict(
    type=EncoderDecoder,
    data_preprocessor=dict(type=SegDataPreProcessor, mean=[1.0] * 3, std=[1.0] * 3, size=(64, 64)),
    backbone=dict(type=VisionTransformer, img_size=64, out_indices=(0, 1, 2, 3), output_cls_token=True),
    decode_head=dict(
        type=DPTHead,
        channels=16,
        embed_dims=768,
        num_classes=3,
        input_transform='multiple_select',
        in_index=(0, 1, 2, 3),
        loss_decode=dict(type=CrossEntropyLoss),
    ),
)
pipeline = [dict(type='LoadImageFromFile'), dict(type=Resize, scale=(8, 8)), dict(type=PackSegInputs)]
test_dataloader = dict(dataset=dict(type=BaseSegDataset, pipeline=pipeline))
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=AdamW, lr=1e-3))
"""


class Unregistered(BaseTransform):
    """A user's class that can be imported."""

    def transform(self, results: dict) -> dict:
        return results


def with_names(text: str) -> str:
    """Write every class of a config as its name."""
    imported = [line for line in text.splitlines() if line.startswith('from')]
    names = [name.strip() for line in imported for name in line.split(' import ')[1].split(',')]
    text = '\n'.join(line for line in text.splitlines() if not line.startswith('from'))
    for name in names:
        text = text.replace(f'type={name},', f'type={name!r},').replace(f'type={name})', f'type={name!r})')
    return text.replace('PretrainedInit', 'Pretrained')


def load(folder: Path, text: str) -> Config:
    path = folder / 'config.py'
    path.write_text(text.replace('__file__', repr(__file__)))
    return load_config(str(path))


def test_classes_load_like_names(tmp_path: Path) -> None:
    config = load(tmp_path, CLASSES + CONFIG)
    assert config.to_dict() == load(tmp_path, with_names(CLASSES + CONFIG)).to_dict()
    check_config(config, 'train')
    check_config(config, 'test')


def test_dumped_config_and_its_dotted_names_mean_the_same(tmp_path: Path) -> None:
    config = load(tmp_path, CLASSES + CONFIG)
    config.dump(tmp_path / 'dumped.py')
    assert load_config(str(tmp_path / 'dumped.py')).to_dict() == config.to_dict()
    # As mmengine dumps it, and as checkpoints of earlier versions hold it.
    (tmp_path / 'config.py').write_text(CLASSES + CONFIG.replace('__file__', repr(__file__)))
    dotted = Config.fromfile(tmp_path / 'config.py').to_dict()
    assert dotted['model']['type'] == 'dpt.models.segmentor.EncoderDecoder'
    name_types(dotted)
    assert dotted['model'] == config.to_dict()['model']
    _inference_config(Config(dotted), has_classes=False)


def test_classes_of_mmsegmentation_are_translated_without_it(tmp_path: Path) -> None:
    config = load(tmp_path, MMSEG)
    assert config.to_dict() == load(tmp_path, with_names(MMSEG)).to_dict()
    assert config.model.neck.type == 'DPTNeck'


def test_unregistered_class_becomes_its_dotted_name() -> None:
    values = dict(pipeline=[dict(type=Unregistered)])
    name_types(values)
    assert values['pipeline'][0]['type'] == f'{__name__}.Unregistered'
