"""Translate configs of MMSegmentation 1.x."""

from dpt.config.mmseg.translate import is_mmseg_config, is_mmseg_module, translate_mmseg_config

__all__ = ['is_mmseg_config', 'is_mmseg_module', 'translate_mmseg_config']
