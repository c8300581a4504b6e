"""Load and check configs; translate MMSegmentation configs."""

from dpt.config.check import check_config
from dpt.config.load import load_config

__all__ = ['check_config', 'load_config']
