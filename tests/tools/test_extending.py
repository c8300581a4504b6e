"""The code of docs/extending.md, used as its readers would: trained, tested, resumed, exported, loaded."""

import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from outputs import logged, result_of

from dpt.apis import Predictor, inference_model, init_model
from dpt.config import load_config
from dpt.export import labels_from, load
from dpt.registry import MODELS
from dpt.structures import SegDataSample

BLOCK = re.compile(r'^`(my_\w+\.py)`\n\n```python\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@pytest.fixture(scope='module')
def project(
    repository: Path, run_tool: Callable, tool_main: Callable, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Write the files of the page, with a base of two iterations on eight images beside them."""
    folder = tmp_path_factory.mktemp('project')
    files: dict[str, str] = {}
    for name, code in BLOCK.findall((repository / 'docs' / 'extending.md').read_text()):
        files[name] = f'{files.get(name, "")}\n\n{code}'
    assert set(files) == {'my_parts.py', 'my_config.py'}
    for name, code in files.items():
        (folder / name).write_text(code)
    assert tool_main('tools/make_quickstart_data.py')(folder / 'data', '--train', 8, '--val', 2) == 0
    loader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root=str(folder / 'data')))
    (folder / 'configs').mkdir()
    (folder / 'configs' / 'quickstart.py').write_text(
        f'_base_ = [{str(repository / "configs" / "quickstart.py")!r}]\n'
        'total_batch_size = 2\n'
        'train_cfg = dict(max_iters=2, val_interval=2)\n'
        'default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2))\n'
        f'train_dataloader = val_dataloader = test_dataloader = dict({loader})\n'
    )
    run_tool('tools/train.py', folder / 'my_config.py', '--work-dir', folder / 'work')
    return folder


def test_own_parts_are_trained_and_their_fields_logged(project: Path) -> None:
    weights = torch.load(project / 'work' / 'iter_2.pth', weights_only=True)['state_dict']
    assert {'neck.fusion.2.gate.weight', 'backbone.stages.0.0.weight'} <= set(weights)
    for line in logged(project / 'work', 'loss'):
        assert {'decode.loss_ce', 'decode.loss_soft_dice', 'labelled', 'weight_norm'} <= set(line)
        assert line['loss'] == pytest.approx(line['decode.loss_ce'] + line['decode.loss_soft_dice'], rel=1e-4)


def test_the_tools_test_the_same_model(project: Path, call: Callable) -> None:
    arguments = ('test', project / 'my_config.py', project / 'work' / 'iter_2.pth', '--work-dir')
    single = result_of(call(*arguments, project / 'test')[1])
    assert single['mIoU'] == logged(project / 'work', 'mIoU')[-1]['mIoU']
    assert 0 < result_of(call(*arguments, project / 'aug', '--aug-test')[1])['mIoU'] < 100


def test_resuming_goes_on_with_own_parts(project: Path, run_tool: Callable) -> None:
    arguments = ('tools/train.py', project / 'my_config.py', '--work-dir', project / 'work', '--resume')
    run_tool(*arguments, '--cfg-options', 'train_cfg.max_iters=3', 'train_cfg.val_interval=3')
    assert sorted(line['iter'] for line in logged(project / 'work', 'loss')) == [1, 2, 3]


def test_a_fusion_block_of_its_own_trains_in_a_vit(project: Path) -> None:
    config = load_config(str(project / 'my_config.py'))  # imports my_parts
    vit = dict(type='VisionTransformer', img_size=32, patch_size=8, embed_dims=24, num_layers=4, num_heads=3)
    config.model.backbone = dict(vit, out_indices=(0, 1, 2, 3))
    config.model.neck = dict(
        type='GatedDPTNeck', in_channels=24, channels=32, post_process_channels=(8, 8, 8, 8)
    )
    model = MODELS.build(config.model)
    labels = PixelData(data=torch.randint(0, 6, (1, 64, 64)))
    losses = model.loss(torch.randn(2, 3, 64, 64), [SegDataSample(gt_sem_seg=labels)] * 2)
    model.parse_losses(losses)[0].backward()
    gates = [block.gate.weight.grad for block in model.neck.fusion_blocks[1:]]
    assert all(gradient.abs().sum() > 0 for gradient in gates)


def test_exports_and_the_python_interface_agree(project: Path, call: Callable) -> None:
    config, checkpoint = project / 'my_config.py', project / 'work' / 'iter_2.pth'
    picture = min((project / 'data' / 'images' / 'validation').iterdir())
    export = (config, checkpoint, '--format', 'torch_export', '--check', picture)
    assert call('export', *export, '--out', project / 'my_model.pt2')[0] == 0
    model = init_model(config, checkpoint, device='cpu')
    image = cv2.imread(str(picture))
    labels = inference_model(model, image).pred_sem_seg.data[0].numpy()
    assert np.array_equal(Predictor(checkpoint, config=config, device='cpu')(image).labels, labels)
    # At the network's scale, as the exported graph takes it.
    sample = SegDataSample(metainfo=dict(img_shape=image.shape[:2], ori_shape=image.shape[:2]))
    batch = dict(inputs=[torch.from_numpy(image).permute(2, 0, 1)], data_samples=[sample])
    with torch.no_grad():
        plain = model.test_step(batch)[0].pred_sem_seg.data[0].numpy()
    exported = labels_from(load(project / 'my_model.pt2', 'torch_export')(image[None]), image.shape[:2])
    assert (exported != plain).mean() < 0.001
