"""Whole models of MMSegmentation and of this package."""

from .table import Format

MMSEG_DPT = Format(
    'MMSegmentation DPT',
    ('backbone.patch_embed.projection.weight', 'decode_head.fusion_blocks.0.project.conv.weight'),
    {
        'backbone.**': 'backbone.**',
        'decode_head.reassemble_blocks.**': 'neck.reassemble_blocks.**',
        'decode_head.convs.**': 'neck.convs.**',
        'decode_head.fusion_blocks.**': 'neck.fusion_blocks.**',
        'decode_head.project.**': 'decode_head.project.**',
        'decode_head.conv_seg.**': 'decode_head.conv_seg.**',
    },
    {'auxiliary_head.**': 'auxiliary head of training, of another layout, without effect on predictions'},
)
"""DPT of MMSegmentation 0.17 to 1.2, whose head holds what is the neck here."""

DPT = Format('dpt', ('backbone.patch_embed.projection.weight', 'decode_head.conv_seg.weight'), {'**': '**'})
"""Whole models that this package trained: the names are the model's own, whatever parts it has."""

TO_MMSEG = Format(
    'MMSegmentation DPT',
    DPT.signature,
    {ours: theirs for theirs, ours in MMSEG_DPT.keys.items() if isinstance(ours, str)},
    dict.fromkeys(
        ('auxiliary_head.**', 'auxiliary_heads.**'),
        'auxiliary head of training, of another layout there, without effect on predictions',
    ),
)
"""The inverse of :data:`MMSEG_DPT`."""
