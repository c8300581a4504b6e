"""Test-time augmentation."""

from mmengine.model import BaseTTAModel
from mmengine.structures import PixelData
from torch import Tensor

from dpt.models.inference import Geometry, label_map, restored
from dpt.registry import MODELS
from dpt.structures import SegDataSample


@MODELS.register_module()
class SegTTAModel(BaseTTAModel):
    """Average the softmax scores of several views (scales and flips) of an image at its original size.

    The model predicts one view at a time and adds its scores to a single map, so memory use is independent of
    the number of views.
    """

    def test_step(self, data: dict) -> list[SegDataSample]:
        """Predict from the views that ``TestTimeAug`` created.

        Args:
            data: ``inputs`` and ``data_samples``, each a list over views of lists over images.

        Returns:
            One sample per image, with ``pred_sem_seg`` of shape 1xHxW.
        """
        totals: dict[int, Tensor] = {}
        for inputs, data_samples in zip(data['inputs'], data['data_samples'], strict=True):
            self._add_view(totals, inputs, data_samples)
        samples = self.module.data_preprocessor.cast_data(data['data_samples'][0])
        for i, sample in enumerate(samples):
            size = (totals[i].shape[-2], totals[i].shape[-1])
            sample.pred_sem_seg = PixelData(data=label_map(totals[i], lambda x: x, size))
        return samples

    def _add_view(self, totals: dict[int, Tensor], inputs: list[Tensor], data_samples: list) -> None:
        view = self.module.data_preprocessor(dict(inputs=inputs, data_samples=data_samples), False)
        for i, rows, strip, restore, size in self.module.restorable_strips(**view):
            scores = restored(strip, restore, size)
            if i not in totals:
                shape = view['inputs'].shape
                meta = view['data_samples'][i].metainfo
                height = Geometry.of(meta, (shape[-2], shape[-1])).ori_shape[0]
                totals[i] = scores.new_zeros(1, scores.shape[1], height, scores.shape[-1])
            totals[i][..., rows, :] += scores.softmax(dim=1)

    def merge_preds(self, data_samples_list: list) -> list:
        """Not used: ``test_step`` accumulates the scores."""
        raise NotImplementedError('SegTTAModel merges in test_step')


@MODELS.register_module()
class DepthTTAModel(BaseTTAModel):
    """Average the predicted depth of several views (flips and scales) of an image at its original size."""

    def test_step(self, data: dict) -> list[SegDataSample]:
        """Predict from the views that ``TestTimeAug`` created.

        Args:
            data: ``inputs`` and ``data_samples``, each a list over views of lists over images.

        Returns:
            One sample per image, with ``pred_depth_map`` of shape 1xHxW.
        """
        totals: list[Tensor] = []
        for inputs, data_samples in zip(data['inputs'], data['data_samples'], strict=True):
            view = self.module.data_preprocessor(dict(inputs=inputs, data_samples=data_samples), False)
            maps = [sample.pred_depth_map.data for sample in self.module.predict(**view)]
            totals = [a + b for a, b in zip(totals, maps, strict=True)] if totals else maps
        samples = self.module.data_preprocessor.cast_data(data['data_samples'][0])
        for sample, total in zip(samples, totals, strict=True):
            sample.pred_depth_map = PixelData(data=total / len(data['inputs']))
        return samples

    def merge_preds(self, data_samples_list: list) -> list:
        """Not used: ``test_step`` averages."""
        raise NotImplementedError('DepthTTAModel merges in test_step')
