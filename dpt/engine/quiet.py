"""Less on the console."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.logging import MMLogger
from mmengine.runner import Runner
from torch import nn

from dpt.engine.unwrapped import unwrapped

TABLES = ('System environment:', 'Config:\n', 'Hooks will be executed in the following order')
"""How what the engine reports of hundreds of lines begins."""

FROM_IMAGES = ('backbone', 'backbone.patch_embed', 'backbone.stem')
"""Parts whose input is the image, which has no gradient."""


@contextmanager
def only_errors() -> Iterator[MMLogger]:
    """Hold back what the engine reports below the level of errors; yields its logger."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield logger
    finally:
        logger.setLevel(level)


def is_no_table(record: logging.LogRecord) -> bool:
    """Whether a record is none of :data:`TABLES`."""
    return not str(record.msg).lstrip('\n-').startswith(TABLES)


class QuietRunner(Runner):
    """mmengine's runner whose tables of environment, config and hooks go to the log file alone.

    With ``compile`` in the config it compiles the losses of our models. The engine's own would compile whole
    steps, and start anew in each: images differ in size, and the learning rate changes.
    """

    def train(self) -> nn.Module:
        """Train.

        Raises:
            ValueError: If ``activation_checkpointing`` names a part whose input has no gradient: as the
                engine computes it again, it would silently get none itself.
        """
        names = self.cfg.get('activation_checkpointing') or ()
        for name in [names] if isinstance(names, str) else names:
            if name in FROM_IMAGES:
                raise ValueError(
                    f'activation_checkpointing={names!r}: {name} would not be trained so. Set '
                    'model.backbone.with_cp=True, or name parts inside, such as backbone.layers.0'
                )
        return super().train()

    def _maybe_compile(self, target: str) -> None:
        model = unwrapped(self.model)
        options = self.cfg.get('compile')
        if options is None or options is False or not hasattr(model, 'compile_losses'):
            super()._maybe_compile(target)
        elif target == 'train_step':
            model.compile_losses(**(options if isinstance(options, dict) else {}))
            self.logger.info('the losses are compiled in the first iteration, which takes minutes')

    def build_logger(self, log_level: int | str = 'INFO', log_file: str | None = None, **kwargs) -> MMLogger:
        """Build the logger, before the engine's first line."""
        logger = super().build_logger(log_level, log_file, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(is_no_table)
        return logger
