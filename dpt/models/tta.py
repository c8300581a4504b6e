"""Test-time augmentation."""

from mmengine.model import BaseTTAModel
from mmengine.structures import PixelData
from torch import Tensor

from dpt.models.inference import Geometry, label_map, restored
from dpt.registry import MODELS
from dpt.structures import SegDataSample


class AveragingTTAModel(BaseTTAModel):
    """Average what a model predicts for several views of an image, at its original size.

    The model predicts one view at a time, which is added to a single map, so memory use is independent of the
    number of views. Subclasses define ``scores`` and ``store``.
    """

    def test_step(self, data: dict) -> list[SegDataSample]:
        """Predict from the views that ``TestTimeAug`` created.

        Args:
            data: ``inputs`` and ``data_samples``, each a list over views of lists over images.

        Returns:
            One sample per image, with the prediction of shape 1xHxW.
        """
        totals: dict[int, Tensor] = {}
        for inputs, data_samples in zip(data['inputs'], data['data_samples'], strict=True):
            self._add_view(totals, inputs, data_samples)
        samples = self.module.data_preprocessor.cast_data(data['data_samples'][0])
        for i, sample in enumerate(samples):
            self.store(sample, totals[i], len(data['inputs']))
        return samples

    def _add_view(self, totals: dict[int, Tensor], inputs: list[Tensor], data_samples: list) -> None:
        view = self.module.data_preprocessor(dict(inputs=inputs, data_samples=data_samples), False)
        for i, rows, strip, restore, size in self.module.restorable_strips(**view):
            scores = self.scores(restored(strip, restore, size))
            if i not in totals:
                shape = view['inputs'].shape
                meta = view['data_samples'][i].metainfo
                height = Geometry.of(meta, (shape[-2], shape[-1])).ori_shape[0]
                totals[i] = scores.new_zeros(1, scores.shape[1], height, scores.shape[-1])
            totals[i][..., rows, :] += scores

    def merge_preds(self, data_samples_list: list) -> list:
        """Not used: ``test_step`` accumulates the predictions."""
        raise NotImplementedError(f'{type(self).__name__} merges in test_step')

    def scores(self, output: Tensor) -> Tensor:
        """Return what is averaged, from the model's output of shape 1xKxHxW."""
        raise NotImplementedError

    def store(self, sample: SegDataSample, total: Tensor, views: int) -> None:
        """Store the prediction that follows from the sum over the views, of shape 1xKxHxW."""
        raise NotImplementedError


@MODELS.register_module()
class SegTTAModel(AveragingTTAModel):
    """Average the softmax scores of several views (scales and flips) of an image at its original size."""

    def scores(self, output: Tensor) -> Tensor:
        return output.softmax(dim=1)

    def store(self, sample: SegDataSample, total: Tensor, views: int) -> None:
        size = (total.shape[-2], total.shape[-1])
        sample.pred_sem_seg = PixelData(data=label_map(total, lambda x: x, size))


@MODELS.register_module()
class DepthTTAModel(AveragingTTAModel):
    """Average the depth of several views of an image at its original size: the image and its mirror image."""

    def scores(self, output: Tensor) -> Tensor:
        return output

    def store(self, sample: SegDataSample, total: Tensor, views: int) -> None:
        sample.pred_depth_map = PixelData(data=total[0] / views)
        sample.set_field(self.module.relative, 'relative_depth', field_type='metainfo')
