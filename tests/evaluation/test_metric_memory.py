"""The metric keeps counts, not label maps."""

import torch

from dpt.evaluation import IoUMetric
from dpt.extras.profiling.timing import AddedMemory


def test_memory_does_not_grow_with_the_images() -> None:
    metric = IoUMetric()
    metric.dataset_meta = dict(classes=[str(i) for i in range(150)])
    label = torch.randint(0, 150, (1, 512, 683), dtype=torch.uint8)

    def process(images: range) -> None:
        for i in images:
            sample = dict(pred_sem_seg=dict(data=(label + i) % 150), gt_sem_seg=dict(data=label))
            metric.process(None, [dict(sample, img_path=f'{i}.jpg')])

    process(range(20))
    memory = AddedMemory(torch.device('cpu'))
    process(range(20, 320))
    assert memory.mib() < 40  # the maps would take 100
    metric.evaluate(320)
