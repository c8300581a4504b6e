"""Sharded trainings (FSDP2) of two processes."""

from pathlib import Path

import pytest
import torch
from outputs import logged

TRAININGS = """
import sys
from dpt.config import load_config
from dpt.engine import build_runner

config, weights, folder = sys.argv[1:4]
common = {
    'randomness.seed': 1, 'default_hooks.checkpoint.interval': 2, 'default_hooks.logger.interval': 1,
    'train_dataloader.num_workers': 0, 'val_dataloader.num_workers': 0, 'default_hooks.utilization': None,
}
sharded = {'fsdp.min_params': 1}
trainings = dict(
    ddp=({'load_from': weights}, None),
    fsdp=({'load_from': weights, **sharded}, None),
    resumed=(sharded, f'{folder}/fsdp/iter_2.pth'),
)
for name, (options, resume) in trainings.items():
    loaded = load_config(config, {**common, **options}, f'{folder}/{name}')
    build_runner(loaded, 'pytorch', resume).train()
"""


def test_sharded_training_equals_distributed_data_parallel(
    run_tool, best: Path, tiny_config: Path, tmp_path: Path
) -> None:
    script = tmp_path / 'trainings.py'
    script.write_text(TRAININGS)
    run_tool(script, tiny_config, best, tmp_path, processes=2)
    losses = [[line['loss'] for line in logged(tmp_path / kind, 'loss')] for kind in ('ddp', 'fsdp')]
    assert len(losses[0]) == 4
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    ddp, fsdp, resumed = (
        torch.load(tmp_path / kind / 'iter_4.pth', weights_only=True)['state_dict']
        for kind in ('ddp', 'fsdp', 'resumed')
    )
    assert ddp.keys() == fsdp.keys()
    for name, tensor in ddp.items():
        torch.testing.assert_close(fsdp[name], tensor, rtol=0, atol=2e-5, msg=name)
        assert torch.equal(resumed[name], fsdp[name]), name
