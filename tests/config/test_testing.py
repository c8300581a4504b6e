"""Preparation of a config for a test, and the description of the protocol."""

from pathlib import Path

import pytest
from mmengine.config import Config

from dpt.config.load import load_config
from dpt.config.testing import (
    describe_protocol,
    skip_absent_masks,
    use_test_time_augmentation,
    write_results,
)

ADE = 'configs/dpt_vit-b16_512x512_160k_ade20k.py'


@pytest.fixture
def ade(repository: Path) -> Config:
    return load_config(str(repository / ADE))


def test_aug_test_uses_and_describes_the_published_views(ade: Config) -> None:
    use_test_time_augmentation(ade)
    assert ade.model.type == 'SegTTAModel'
    assert ade.model.module.type == 'EncoderDecoder'
    lines = describe_protocol(ade)
    for scale in ('1024x256', '1536x384', '2048x512', '2560x640', '3072x768', '3584x896'):
        assert scale in lines[0]
    assert 'with and without' in lines[1]


@pytest.mark.parametrize(
    'name', ['dpt_vit-b16_512x512_160k_ade20k', 'dpt_vit-s14_252x336_camvid_cpu', 'quickstart']
)
def test_ratios_of_the_image_can_be_selected(repository: Path, name: str) -> None:
    """``--cfg-options tta_ratios_of=image`` selects the protocol of MMSegmentation 1.x."""
    path = str(repository / f'configs/{name}.py')
    published, config = load_config(path), load_config(path, {'tta_ratios_of': 'image'})
    use_test_time_augmentation(config)
    use_test_time_augmentation(published)
    resizes = config.test_dataloader.dataset.pipeline[1].transforms[0]
    assert [dict(one) for one in resizes] == [
        dict(type='Resize', keep_ratio=True, scale_factor=ratio) for ratio in config.tta_ratios
    ]
    # Nothing else differs: views, flips, annotations.
    others = [c.test_dataloader.dataset.pipeline[1].transforms[1:] for c in (config, published)]
    assert others[0] == others[1]
    assert f'x{config.tta_ratios[0]}; ' in describe_protocol(config)[0]
    assert 'aspect kept' in describe_protocol(published)[0]


def test_without_tta_ratios_of_the_pipeline_keeps_its_scales(ade: Config) -> None:
    ade.tta_ratios_of = None
    ade.tta_pipeline[1].transforms[0] = [dict(type='Resize', scale=(100, 50), keep_ratio=True)]
    use_test_time_augmentation(ade)
    assert describe_protocol(ade)[0] == 'scale (width x height): 100x50 at most, aspect kept'


def test_an_unknown_base_of_the_ratios_is_an_error(ade: Config) -> None:
    ade.tta_ratios_of = 'images'
    with pytest.raises(ValueError, match=r"tta_ratios_of='images' must be one of .*'test_scale', 'image'"):
        use_test_time_augmentation(ade)


def test_ratios_that_contradict_the_pipeline_are_an_error(ade: Config) -> None:
    ade.tta_pipeline[1].transforms[0] = [dict(type='Resize', scale=(100, 50), keep_ratio=True)]
    with pytest.raises(ValueError, match=r'\(100, 50\).*which are not the ratios .*tta_ratios_of=None'):
        use_test_time_augmentation(ade)
    ade.pop('tta_ratios')
    with pytest.raises(ValueError, match='needs tta_ratios'):
        use_test_time_augmentation(ade)


def test_the_single_scale_protocol_is_described(ade: Config) -> None:
    lines = describe_protocol(ade)
    assert '2048x512 at most, aspect kept' in lines[0]
    assert lines[1] == 'flip: no'
    assert 'whole' in lines[2]
    assert lines[3] == 'padding: none'


def test_aug_test_without_its_keys_is_an_error(ade: Config) -> None:
    ade.pop('tta_pipeline')
    with pytest.raises(ValueError, match='tta_pipeline'):
        use_test_time_augmentation(ade)


def test_out_and_show_dir(ade: Config) -> None:
    write_results(ade, out_dir='labels', show_dir='pictures')
    assert ade.test_evaluator.output_dir == 'labels'
    assert ade.default_hooks.visualization.out_dir == 'pictures'
    assert ade.default_hooks.visualization.draw


@pytest.mark.parametrize('folder', ['annotations/validation', 'images/validation/sub'])
def test_results_never_overwrite_the_data(ade: Config, tmp_path: Path, folder: str) -> None:
    ade.test_dataloader.dataset.data_root = str(tmp_path)
    with pytest.raises(ValueError, match='--out .* is a folder of the data set'):
        write_results(ade, out_dir=str(tmp_path / folder))
    with pytest.raises(ValueError, match='--show-dir'):
        write_results(ade, show_dir=str(tmp_path / folder))
    write_results(ade, out_dir=str(tmp_path / 'annotations/predicted'))


def test_an_unwritable_scores_file_fails_before_the_test(ade: Config, tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(FileExistsError, match='file'):
        write_results(ade, scores=str(tmp_path / 'file' / 'scores.npz'))
    write_results(ade, scores=str(tmp_path / 'new' / 'scores.npz'))
    assert (tmp_path / 'new').is_dir()


def test_images_without_masks_need_no_annotations(ade: Config) -> None:
    skip_absent_masks(ade)
    assert 'LoadAnnotations' in str(ade.test_dataloader.dataset.pipeline)
    ade.test_dataloader.dataset.test_mode = True
    use_test_time_augmentation(ade)
    skip_absent_masks(ade)
    pipeline = ade.test_dataloader.dataset.pipeline
    assert 'LoadAnnotations' not in str(pipeline)
    assert [len(views) for views in pipeline[1].transforms] == [6, 2, 1]
