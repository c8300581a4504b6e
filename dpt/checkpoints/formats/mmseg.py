"""Checkpoints of complete models of MMSegmentation and of this package."""

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
    {'auxiliary_head.**': 'auxiliary head, used only in training, with a different layout'},
)
"""DPT of MMSegmentation 0.17 to 1.2, whose head contains the neck of this package."""

DPT = Format('dpt', ('backbone.patch_embed.projection.weight', 'decode_head.conv_seg.weight'), {'**': '**'})
"""Complete models trained with this package; the keys are those of the model."""

TO_MMSEG = Format(
    'MMSegmentation DPT',
    DPT.signature,
    {ours: theirs for theirs, ours in MMSEG_DPT.keys.items() if isinstance(ours, str)},
    dict.fromkeys(
        ('auxiliary_head.**', 'auxiliary_heads.**'),
        'auxiliary head, used only in training, with a different layout in MMSegmentation',
    ),
)
"""The inverse of :data:`MMSEG_DPT`."""
