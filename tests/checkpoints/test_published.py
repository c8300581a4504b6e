"""Published models are recognised by their keys, and what the keys do not tell by their names."""

import re
from pathlib import Path

import pytest
import torch

from dpt.checkpoints import convert, published
from dpt.checkpoints.formats import published as sources
from dpt.checkpoints.formats.table import Changed, Format
from dpt.checkpoints.published import recognise_published
from dpt.config.load import load_config
from dpt.registry import MODELS

CONFIGS = {
    'dpt_large_midas': (sources.ISL_DEPTH, 'dpt_large-midas-2f21e586.pt'),
    'dpt_hybrid_midas': (sources.ISL_DEPTH, 'dpt_hybrid_384.pt'),
    'dpt_hybrid_nyu': (sources.ISL_DEPTH, 'dpt_hybrid_nyu-2ce69ec7.pt'),
    'dpt_hybrid_kitti': (sources.ISL_DEPTH, 'dpt_hybrid_kitti-cb926ef4.pt'),
    'depth_anything_v1_b': (sources.DEPTH_ANYTHING, 'depth_anything_vitb14.pth'),
    'depth_anything_v1_l': (sources.DEPTH_ANYTHING, 'depth_anything_vitl14.pth'),
    'depth_anything_v2_s': (sources.DEPTH_ANYTHING, 'depth_anything_v2_vits.pth'),
    'depth_anything_v2_l': (sources.DEPTH_ANYTHING, 'depth_anything_v2_vitl.pth'),
    'depth_anything_v2_b_indoor': (sources.DEPTH_ANYTHING, 'depth_anything_v2_metric_hypersim_vitb.pth'),
    'depth_anything_v2_s_outdoor': (sources.DEPTH_ANYTHING, 'depth_anything_v2_metric_vkitti_vits.pth'),
}


def original_keys(config: dict, source: sources.Source) -> dict[str, torch.Tensor]:
    """The tensors of a model, without content, under the keys of the original."""
    with torch.device('meta'):
        tensors = MODELS.build(config).state_dict()
    table = source.model(source.encoder).keys
    inverse = {ours: theirs for theirs, ours in table.items() if not isinstance(ours, Changed)}
    converted, report = convert(tensors, Format('ours', (), inverse))
    assert not report.unmapped
    return converted


def plain(value: object) -> object:
    """The same with lists for tuples."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize('name', CONFIGS)
def test_published_file_gives_its_config(name, repository: Path, monkeypatch) -> None:
    source, file = CONFIGS[name]
    config = load_config(str(repository / 'configs' / f'{name}.py'))
    model = config.model.to_dict()
    tensors = original_keys(model, source)
    monkeypatch.setattr(published, 'read_state_dict', lambda path: tensors)
    found = recognise_published(file)
    trained = {key: model[key] for key in ('loss', 'max_depth') if key in model}
    assert plain({**published_defaults(found.model), **trained}) == plain(model)
    assert [step for step in plain(config.test_pipeline) if step['type'] != 'LoadDepthAnnotation'] == plain(
        found.pipeline
    )
