"""Test-time augmentation."""

import torch
from mmengine.model import BaseTTAModel
from mmengine.structures import PixelData
from torch import Tensor

from dpt.models.inference import label_map
from dpt.registry import MODELS
from dpt.structures import SegDataSample


@MODELS.register_module()
class SegTTAModel(BaseTTAModel):
    """Average of the softmax over views (scales and flips) of an image, at its original size.

    The views are run one after the other and added to one map, so memory does not grow with their number.
    """

    def test_step(self, data: dict) -> list[SegDataSample]:
        """Predict from the views that ``TestTimeAug`` made.

        Args:
            data: ``inputs`` and ``data_samples``, each a list over views of lists over images.

        Returns:
            One sample an image, with ``pred_sem_seg`` of shape 1xHxW.
        """
        totals: list[Tensor] = []
        for inputs, data_samples in zip(data['inputs'], data['data_samples'], strict=True):
            self._add_view(totals, inputs, data_samples)
        samples = self.module.data_preprocessor.cast_data(data['data_samples'][0])
        for sample, total in zip(samples, totals, strict=True):
            sample.pred_sem_seg = PixelData(data=label_map(total))
        return samples

    def _add_view(self, totals: list[Tensor], inputs: list[Tensor], data_samples: list) -> None:
        """Add a view to the sums, one an image; nothing of it is held when the next one begins."""
        view = self.module.data_preprocessor(dict(inputs=inputs, data_samples=data_samples), False)
        device = view['inputs'].device
        for i, (rows, size) in enumerate(self.module.restored_rows(**view)):
            if i == len(totals):
                totals.append(torch.zeros(self.module.decode_head.num_classes, *size, device=device))
            for top, bottom in self.module.bands(size, view['inputs']):
                totals[i][:, top:bottom] += rows(top, bottom)[0].softmax(dim=0)

    def merge_preds(self, data_samples_list: list) -> list:
        """Not used: ``test_step`` adds up as it goes."""
        raise NotImplementedError('SegTTAModel merges in test_step')
