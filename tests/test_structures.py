"""What a data sample carries."""

import pytest
import torch
from mmengine.structures import PixelData
from torch.utils.data._utils.pin_memory import pin_memory

from dpt.structures import SegDataSample


def test_a_loader_pins_the_pixels_of_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = []
    monkeypatch.setattr(
        torch.Tensor, 'pin_memory', lambda self: (pinned.append(tuple(self.shape)), self + 1)[1]
    )
    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.zeros(1, 4, 5, dtype=torch.uint8)))
    sample.set_metainfo(dict(img_path='a.jpg'))
    batch = pin_memory(dict(inputs=[torch.zeros(3, 4, 5)], data_samples=[sample]))
    assert pinned == [(3, 4, 5), (1, 4, 5)]
    (result,) = batch['data_samples']
    assert (result.gt_sem_seg.data == 1).all()
    assert result.img_path == 'a.jpg'
