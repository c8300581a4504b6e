"""Rules that undo rules."""

import pytest

from dpt.checkpoints import convert
from dpt.checkpoints.format import Rule
from dpt.checkpoints.inverse import inverse
from dpt.checkpoints.rules import MMSEG_DPT
from dpt.checkpoints.vit_formats import TIMM_VIT


@pytest.mark.parametrize(
    ('rule', 'theirs', 'ours'),
    [
        (Rule(r'a\.(\d+)\.b\.(weight|bias)', r'c.\1.\2'), 'a.12.b.bias', 'c.12.bias'),
        (Rule(r'(\w+)\.x\.(\d)', r'y.\2.\1'), 'b.x.7', 'y.7.b'),
        (Rule(r'(a\.(?:b|c)\.\d)', r'z.\1'), 'a.c.3', 'z.a.c.3'),
    ],
)
def test_there_and_back(rule, theirs, ours):
    assert convert({theirs: 1}, [rule])[0] == {ours: 1}
    assert convert({ours: 1}, inverse([rule]))[0] == {theirs: 1}
    assert convert({ours.replace('.', '_'): 1}, inverse([rule]))[1].unmapped


def test_a_whole_model_returns_to_its_keys(tiny):
    theirs = tiny.mmseg_shapes()
    ours, _ = convert(theirs, MMSEG_DPT.rules)
    assert convert(ours, inverse(MMSEG_DPT.rules))[0] == theirs


def test_dropped_keys_have_no_way_back():
    assert len(inverse(TIMM_VIT.rules)) == sum(rule.replacement is not None for rule in TIMM_VIT.rules)


def test_what_cannot_be_undone_is_a_mistake_of_the_programmer():
    for rule in (Rule(r'a.(b)', r'\1'), Rule(r'(a)\.(b)', r'\1'), Rule(r'(a)', r'\1', transform='flat')):
        with pytest.raises(AssertionError):
            inverse([rule])
