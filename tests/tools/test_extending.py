"""The code of docs/extending.md, used as its readers would: trained, tested, resumed, exported, loaded."""

import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from outputs import logged, result_of

from dpt.apis import Predictor, inference_model, init_model
from dpt.export import labels_from, load
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
    assert set(files) == {'my_parts.py', 'my_config.py', 'my_joint.py', 'my_joint_config.py'}
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


def test_own_fusion_blocks_train_in_two_processes(project: Path, run_tool: Callable) -> None:
    (project / 'my_vit.py').write_text(
        "_base_ = ['configs/quickstart.py']\n"
        "custom_imports = dict(imports=['my_parts'])\n"
        'model = dict(\n'
        '    backbone=dict(embed_dims=24, num_heads=3),\n'
        "    neck=dict(type='GatedDPTNeck', in_channels=24, channels=8, post_process_channels=[8] * 4),\n"
        '    decode_head=dict(in_channels=8, channels=8),\n'
        ')\n'
        'train_cfg = dict(val_interval=9)\n'
    )
    work = project / 'vit'
    run_tool('tools/train.py', project / 'my_vit.py', '--work-dir', work, processes=2)
    content = torch.load(work / 'iter_2.pth', weights_only=True)
    gates = [name for name in content['state_dict'] if name.endswith('gate.weight')]
    assert gates == [f'neck.fusion_blocks.{i}.gate.weight' for i in (1, 2, 3)]
    assert len(content['optimizer']['state']) == len(content['optimizer']['param_groups'][0]['params'])


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


def test_segmentation_and_depth_train_from_one_config(project: Path, call: Callable) -> None:
    for mask in (project / 'data' / 'annotations').rglob('*.png'):
        depth = project / 'data' / 'depth' / mask.parent.name / mask.name
        depth.parent.mkdir(parents=True, exist_ok=True)
        labels = cv2.imread(str(mask), cv2.IMREAD_UNCHANGED).astype(np.uint16)
        cv2.imwrite(str(depth), 8000 * labels)  # millimetres
    config, work = project / 'my_joint_config.py', project / 'joint'
    assert call('train', config, '--work-dir', work)[0] == 0
    for line in logged(work, 'loss'):
        total = line['segmentation.loss_ce'] + line['depth.loss_silog']
        assert line['loss'] == pytest.approx(total, rel=1e-4)
    weights = torch.load(work / 'iter_2.pth', weights_only=True)['state_dict']
    assert {'decode_head.segmentation.conv_seg.weight', 'decode_head.depth.conv_depth.weight'} < set(weights)
    arguments = ('test', config, work / 'iter_2.pth', '--work-dir')
    single = result_of(call(*arguments, project / 'joint_test')[1])
    for key in ('mIoU', 'abs_rel'):
        assert single[key] == logged(work, key)[-1][key]
    averaged = result_of(call(*arguments, project / 'joint_aug', '--aug-test')[1])
    assert averaged['abs_rel'] != single['abs_rel']
