"""Translate the model of an MMSegmentation config; its DPT head becomes neck, head and loss."""

from collections.abc import Mapping

from dpt.config.mmseg.keys import Keys
from dpt.config.mmseg.losses import translate_losses

_NORMS = ('BN', 'BN2d', 'SyncBN', 'GN')
_BACKBONE_KEYS = (
    'patch_size',
    'in_channels',
    'embed_dims',
    'num_layers',
    'num_heads',
    'mlp_ratio',
    'drop_rate',
    'attn_drop_rate',
    'final_norm',
    'interpolate_mode',
    'with_cp',
)
"""Arguments of the ViT with the same name, meaning and default in MMSegmentation and dpt."""
_BACKBONE_FIXED = (
    ('with_cls_token', True),
    ('out_origin', False),
    ('patch_pad', 'corner'),
    ('patch_norm', False),
    ('pre_norm', False),
    ('act_cfg', dict(type='GELU')),
    ('num_fcs', 2),
    ('frozen_exclude', ['all']),
)
"""Arguments of MMSegmentation's ViT that must have their default value."""

_NO_OTHER_HEAD = (
    '; to train a DPT with this data and schedule, use _base_/models/dpt_vit-b16.py of MMSegmentation as the '
    'model, or write a config of dpt (docs/own_data.md)'
)
_NO_OTHER_BACKBONE = '; for other backbones write a config of dpt with TimmBackbone (docs/backbones.md)'


def translate_model(model: Mapping | None, lines: list[str]) -> dict:
    """Translate ``model`` of an MMSegmentation config.

    Args:
        model: The value of ``model``.
        lines: List to which a line is appended for each change.

    Raises:
        ValueError: If a value has no equivalent; the message begins with its key.
    """
    return _Model(Keys(model or {}, 'model', lines), lines).translated()


class _Model:
    """Translates the parts of ``model``."""

    def __init__(self, model: Keys, lines: list[str]) -> None:
        self.lines = lines
        self.model = model
        self.head = Keys(self.model.take('decode_head'), 'model.decode_head', lines)
        self.backbone = Keys(self.model.take('backbone'), 'model.backbone', lines)

    def translated(self) -> dict:
        """Return the translated model."""
        self.model.expect('type', 'EncoderDecoder', default=None)
        self.head.expect('type', 'DPTHead', default=None, why=_NO_OTHER_HEAD)
        if self.model.take('neck', None) is not None:
            raise ValueError(
                "model.neck: MMSegmentation's DPT has no neck; its settings are in model.decode_head"
            )
        backbone = self._backbone()
        translated = dict(
            type='EncoderDecoder',
            data_preprocessor=self._preprocessor(),
            backbone=backbone,
            **self._decoder(backbone.get('embed_dims', 768)),
            test_cfg=self._test_cfg(),
        )
        self._auxiliary()
        for key in (
            'auxiliary_heads',
            'auxiliary_loss',
        ):  # keys of dpt without an equivalent in MMSegmentation
            if key in self.model.left:
                translated[key] = self.model.take(key)
        self.model.without_effect('train_cfg')
        init = self.model.take('init_cfg', None)
        if init is not None:
            translated['init_cfg'] = _pretrained(init, 'model.init_cfg', self.lines)
        self.model.close()
        return translated

    def _auxiliary(self) -> None:
        if self.model.take('auxiliary_head', None):
            raise ValueError(
                'model.auxiliary_head cannot be translated: in MMSegmentation it reads the backbone outputs, '
                'which for a DPT are (feature map, class token) pairs that no head accepts. Attach heads to '
                "the fused maps with model.auxiliary_heads=[dict(type='FCNHead', in_channels=256, "
                'num_classes=..., in_index=1)]'
            )

    def _preprocessor(self) -> dict:
        keys = Keys(self.model.take('data_preprocessor'), 'model.data_preprocessor', self.lines)
        keys.expect('type', 'SegDataPreProcessor', default=None)
        keys.expect('batch_augments', None)
        translated = dict(type='SegDataPreProcessor', mean=keys.take('mean'), std=keys.take('std'))
        # In MMSegmentation both reverse the order of the three channels.
        reverse = [keys.take(name, False) for name in ('bgr_to_rgb', 'rgb_to_bgr')]
        if all(reverse):
            raise ValueError('model.data_preprocessor.rgb_to_bgr and .bgr_to_rgb are both set; set only one')
        translated['bgr_to_rgb'] = any(reverse)
        for name in ('size', 'size_divisor', 'pad_val', 'seg_pad_val'):
            if name in keys.left:
                translated[name] = keys.take(name)
        test = keys.take('test_cfg', None)
        if test:
            inner = Keys(test, 'model.data_preprocessor.test_cfg', self.lines)
            translated['test_cfg'] = {k: inner.take(k) for k in ('size', 'size_divisor') if k in inner.left}
            inner.close()
        keys.close()
        return translated

    def _backbone(self) -> dict:
        keys = self.backbone
        keys.expect('type', 'VisionTransformer', default=None, why=_NO_OTHER_BACKBONE)
        translated: dict = dict(type='VisionTransformer', norm_eps=self._norm_eps())
        for name in _BACKBONE_KEYS:
            if name in keys.left:
                translated[name] = keys.take(name)
        translated.update(self._differing())
        translated['out_indices'] = keys.take('out_indices', -1)
        if not isinstance(translated['out_indices'], list) or len(translated['out_indices']) != 4:
            raise ValueError(f'model.backbone.out_indices={translated["out_indices"]!r}: a DPT needs four')
        keys.expect('output_cls_token', True, default=False, why=', because DPTHead needs it')
        for name, default in _BACKBONE_FIXED:
            keys.expect(name, default)
        keys.without_effect('norm_eval')  # a ViT has no batch norms
        if 'patch_bias' not in keys.left:
            self.lines.append(
                'model.backbone.patch_bias: not set -> True, as in the published run; MMSegmentation 1.2 '
                'removed it, so missing biases load as zeros'
            )
        translated['patch_bias'] = keys.take('patch_bias', True)
        init = self._init_cfg()
        if init is not None:
            translated['init_cfg'] = init
        keys.close()
        return translated

    def _differing(self) -> dict:
        """Translate arguments of the ViT whose meaning differs in MMSegmentation."""
        keys = self.backbone
        size = keys.take('img_size', 224)
        translated = dict(img_size=size[0] if isinstance(size, list) and len(size) == 1 else size)
        keys.expect('qkv_bias', True, why=', because False also removes the bias of the attention projection')
        if rate := keys.take('drop_path_rate', 0.0):
            translated.update(drop_path_rate=rate, drop_path_attn=False)
            self.lines.append(
                f'model.backbone.drop_path_rate={rate}: only for feed-forward branches, as in MMSegmentation'
            )
        return translated

    def _norm_eps(self) -> float:
        keys = Keys(self.backbone.take('norm_cfg', dict(type='LN')), 'model.backbone.norm_cfg', self.lines)
        keys.expect('type', 'LN')
        keys.expect('requires_grad', True)
        given = 'eps' in keys.left
        eps = keys.take('eps', 1e-5)
        keys.close()
        self.lines.append(f'model.backbone.norm_eps={eps}: {"from norm_cfg" if given else "the default"}')
        return eps

    def _init_cfg(self) -> dict | None:
        given = {
            'model.pretrained': self.model.take('pretrained', None),
            'model.backbone.pretrained': self.backbone.take('pretrained', None),
            'model.backbone.init_cfg': self.backbone.take('init_cfg', None),
        }
        given = {key: value for key, value in given.items() if value is not None}
        if len(given) > 1:
            raise ValueError(f'{" and ".join(given)} are both set; set only one')
        for key, value in given.items():
            if isinstance(value, str):
                self.lines.append(f'{key} -> model.backbone.init_cfg, {value}')
                return dict(type='Pretrained', checkpoint=value)
            return _pretrained(value, key, self.lines)
        return None

    def _decoder(self, width: int) -> dict:
        """Split MMSegmentation's head into neck, head and loss."""
        keys = self.head
        keys.expect('embed_dims', width, default=768, why=', the embed_dims of the backbone')
        keys.expect('input_transform', 'multiple_select', default=None)
        keys.expect('in_index', (0, 1, 2, 3), default=-1)
        keys.without_effect('in_channels', 'patch_size', 'conv_cfg', 'threshold')
        keys.expect('act_cfg', dict(type='ReLU'))
        for name in ('expand_channels', 'align_corners'):
            keys.expect(name, False)
        classes = self._num_classes()
        keys.expect('init_cfg', None, dict(type='Normal', std=0.01, override=dict(name='conv_seg')))
        channels, norm = keys.take('channels'), self._norm()
        neck = dict(
            type='DPTNeck',
            in_channels=width,
            channels=channels,
            post_process_channels=keys.take('post_process_channels', [96, 192, 384, 768]),
            readout_type=keys.take('readout_type', 'ignore'),
            norm=norm,
        )
        head = dict(type='DPTHead', in_channels=channels, num_classes=classes, norm=norm)
        head['dropout_ratio'] = keys.take('dropout_ratio', 0.1)
        ignored = {}
        loss = translate_losses(keys.take('loss_decode', None), keys.take('sampler', None), self.lines)
        if 'ignore_index' in keys.left:
            ignored['ignore_index'] = keys.take('ignore_index')
            if ignored['ignore_index'] is None:
                raise ValueError('model.decode_head.ignore_index=None cannot be translated: expected a label')
        keys.close()
        self.lines.append(
            'model.decode_head: split into model.neck (DPTNeck: reassemble, convs, fusion) and '
            'model.decode_head (DPTHead: project, classifier)'
        )
        return dict(neck=neck, decode_head=head, loss=loss, **ignored)

    def _num_classes(self) -> int:
        keys = self.head
        classes = keys.take('num_classes')
        if classes == 1:
            raise ValueError(
                'model.decode_head.num_classes=1 cannot be translated: thresholding one logit is not '
                'supported; use two classes'
            )
        why = ', because a softmax over two classes equals a sigmoid of one logit; with use_sigmoid=False'
        keys.expect('out_channels', None, classes, why=why)
        return classes

    def _norm(self) -> str | None:
        norm = self.head.take('norm_cfg', dict(type='BN'))
        if norm is None:
            return None
        keys = Keys(norm, 'model.decode_head.norm_cfg', self.lines)
        name = keys.expect('type', *_NORMS, default=None)
        keys.expect('requires_grad', True)
        keys.expect('eps', 1e-5)
        if name == 'GN':
            keys.expect('num_groups', 32, default=None)
            keys.close()
            return 'GN'
        keys.expect('momentum', 0.1)
        keys.close()
        if name != 'BN':
            self.lines.append(
                f"model.decode_head.norm_cfg: {name} -> norm='BN', which becomes SyncBN on several GPUs"
            )
        return 'BN'

    def _test_cfg(self) -> dict:
        keys = Keys(self.model.take('test_cfg', None) or dict(mode='whole'), 'model.test_cfg', self.lines)
        translated = dict(mode=keys.expect('mode', 'whole', 'slide'))
        for name in ('crop_size', 'stride'):
            if name in keys.left:
                translated[name] = keys.take(name)
        keys.without_effect('rescale')
        keys.close()
        return translated


def _pretrained(init: Mapping, path: str, lines: list[str]) -> dict:
    keys = Keys(init, path, lines)
    keys.expect('type', 'Pretrained', default=None)
    translated = dict(type='Pretrained', checkpoint=keys.take('checkpoint'))
    if path == 'model.init_cfg' and 'drop' in keys.left:  # an argument of dpt, for another number of classes
        translated['drop'] = keys.take('drop')
    keys.close()
    return translated
