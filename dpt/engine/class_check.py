"""Model and data set must speak of the same classes."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from dpt.registry import HOOKS

HEADS = {'decode_head', 'auxiliary_heads'}


@HOOKS.register_module()
class ClassCheckHook(Hook):
    """Compare ``num_classes`` of every head with the classes of the data set before anything runs.

    Otherwise too small a number ends, at some iteration, in an error without a name (on a GPU, in one of the
    device), and too large a one trains classes that are never true.
    """

    def before_train(self, runner: Runner) -> None:
        """Check the training data."""
        self._check(runner, runner.train_dataloader.dataset, 'train_dataloader')

    def before_test(self, runner: Runner) -> None:
        """Check the test data."""
        self._check(runner, runner.test_dataloader.dataset, 'test_dataloader')

    @staticmethod
    def _check(runner: Runner, dataset: object, loader: str) -> None:
        classes = getattr(dataset, 'metainfo', {}).get('classes')
        for name, head in runner.model.named_modules():
            count = getattr(head, 'num_classes', None)
            if not HEADS & set(name.split('.')):  # a backbone's own, as of its pretraining, is another matter
                continue
            if classes and isinstance(count, int) and count != len(classes):
                raise ValueError(
                    f'{name} has num_classes={count}, but the data set of {loader} has '
                    f'{len(classes)} classes: set num_classes of the heads to that'
                )
