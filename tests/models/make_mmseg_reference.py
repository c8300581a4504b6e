"""Write ``mmseg_reference.npz``: what MMSegmentation 1.2.2 computes with a tiny DPT and weights of a formula.

Run it with the Python of an environment that holds MMSegmentation; the tests read the file.
"""

from pathlib import Path

import numpy as np
import torch
from isl_formula import image
from mmengine.structures import PixelData

TINY = dict(img_size=32, embed_dims=32, num_layers=4, num_heads=2, out_indices=(0, 1, 2, 3))
CHANNELS, POST_PROCESS, CLASSES = 16, [8, 16, 24, 32], 5
SIZES = [(32, 32), (48, 64), (40, 50)]
READOUTS = ('ignore', 'add', 'project')


def fill(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Values that depend on the parameter's name and on nothing else."""
    phase = sum(name.encode()) % 97
    wave = torch.sin(torch.arange(tensor.numel(), dtype=torch.float64) * 0.7 + phase).reshape(tensor.shape)
    if name.endswith('running_var'):
        return 1 + 0.2 * wave
    if 'norm' in name or '.ln' in name or '.bn.weight' in name:
        return 0.1 * wave + (1 if name.endswith('weight') else 0)
    return 0.2 * wave


def label(size: tuple[int, int]) -> torch.Tensor:
    """Labels of shape 1xHxW with some ignored pixels."""
    labels = torch.arange(size[0] * size[1]).reshape(1, *size) // 7 % (CLASSES + 1)
    return torch.where(labels == CLASSES, torch.tensor(255), labels)


def main() -> None:
    from mmseg.registry import MODELS
    from mmseg.structures import SegDataSample
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    results = {}
    for readout in READOUTS:
        model = MODELS.build(
            dict(
                type='EncoderDecoder',
                backbone=dict(type='VisionTransformer', final_norm=False, output_cls_token=True, **TINY),
                decode_head=dict(
                    type='DPTHead',
                    in_channels=(TINY['embed_dims'],) * 4,
                    channels=CHANNELS,
                    embed_dims=TINY['embed_dims'],
                    post_process_channels=POST_PROCESS,
                    num_classes=CLASSES,
                    readout_type=readout,
                    input_transform='multiple_select',
                    in_index=(0, 1, 2, 3),
                    norm_cfg=dict(type='BN'),
                    dropout_ratio=0.0,
                    loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
                ),
                test_cfg=dict(mode='whole'),
            )
        )
        model.double()  # so that nothing but a different formula can differ
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(fill(name, tensor))
        model.eval()
        with torch.no_grad():
            for size in SIZES:
                results[f'{readout}_{size[0]}x{size[1]}'] = model(image(size)).numpy()
        size = SIZES[1]
        model.train()
        sample = SegDataSample(gt_sem_seg=PixelData(data=label(size)))
        sample.set_metainfo(dict(img_shape=size, ori_shape=size, pad_shape=size))
        losses = model.loss(image(size), [sample])
        losses['decode.loss_ce'].backward()
        results[f'{readout}_loss'] = losses['decode.loss_ce'].detach().numpy()
        results[f'{readout}_acc'] = losses['decode.acc_seg'].numpy()
        for name in ('backbone.cls_token', 'backbone.layers.0.attn.attn.in_proj_weight'):
            results[f'{readout}_grad_{name}'] = model.get_parameter(name).grad.numpy()
    np.savez_compressed(Path(__file__).with_name('mmseg_reference.npz'), **results)


if __name__ == '__main__':
    main()
