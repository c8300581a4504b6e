"""Configs of MMSegmentation 1.x, translated on loading."""

from dpt.config.mmseg.translate import is_mmseg_config, is_mmseg_module, translate_mmseg_config

__all__ = ['is_mmseg_config', 'is_mmseg_module', 'translate_mmseg_config']
