"""Models with parts that this package does not know: files in the model's own names load."""

import pytest
from outcomes import assert_holds, assert_untouched, refused

from dpt.checkpoints import load_backbone, load_model
from dpt.checkpoints.rules import MODEL_FORMATS, recognise

OWN_BACKBONE = {'stem.weight': (4, 3, 2, 2), 'block1.conv.weight': (4, 4, 3, 3), 'block1.scale': (4,)}
OWN_HEAD = {'classify.weight': (5, 4, 1, 1), 'classify.bias': (5,)}


def under(prefix, shapes):
    return {f'{prefix}.{key}': shape for key, shape in shapes.items()}


@pytest.fixture
def own_head(tiny):
    return {**under('backbone', tiny.backbone_shapes()), **under('decode_head', OWN_HEAD)}


class TestModel:
    def test_model_with_own_head_loads(self, tiny, save, own_head):
        path, tensors = save(own_head)
        module = tiny.Holder(own_head)
        report = load_model(module, path)
        assert_holds(module, tensors)
        assert report.mapped == {key: key for key in tensors}

    def test_model_with_own_backbone_loads(self, tiny, save):
        shapes = {**under('backbone', OWN_BACKBONE), 'decode_head.conv_seg.weight': (5, 4, 1, 1)}
        path, tensors = save(shapes)
        module = tiny.Holder(shapes)
        load_model(module, path)
        assert_holds(module, tensors)

    def test_own_names_come_before_those_of_mmsegmentation(self, tiny, save):
        path, tensors = save(tiny.mmseg_shapes())
        module = tiny.Holder(tiny.mmseg_shapes())
        load_model(module, path)
        assert_holds(module, tensors)

    def test_dropped_keys_do_not_count_as_differences(self, tiny, save, own_head):
        path, tensors = save({**own_head, 'decode_head.classify.weight': (7, 4, 1, 1)})
        module = tiny.Holder(own_head)
        report = load_model(module, path, drop=('decode_head',))
        state = module.state_dict()
        assert bool((state['decode_head.classify.weight'] == -1).all())
        assert bool((state['backbone.pos_embed'] == tensors['backbone.pos_embed']).all())
        assert set(report.kept) == set(report.dropped) == set(under('decode_head', OWN_HEAD))

    def test_another_size_of_an_own_part_is_told(self, tiny, save, own_head):
        path, _ = save({**own_head, 'decode_head.classify.bias': (7,)})
        message = '1 of another shape: decode_head.classify.bias: 7 float32 in the file'
        refused(load_model, tiny.Holder(own_head), path, message)

    def test_missing_and_unexpected_own_names_are_listed(self, tiny, save, own_head):
        def edit(tensors):
            del tensors['decode_head.classify.bias']
            tensors['decode_head.temperature'] = tensors['backbone.cls_token']

        path, _ = save(own_head, edit)
        refused(
            load_model,
            tiny.Holder(own_head),
            path,
            'looked for the keys of',
            'vit2mmseg.py',
            '1 missing in the file: decode_head.classify.bias',
            '1 not in the model: decode_head.temperature',
        )


def test_a_key_that_was_found_is_not_looked_for():
    with pytest.raises(ValueError, match='looked for the keys of') as caught:
        recognise(['backbone.stem.weight', 'decode_head.conv_seg.weight'], MODEL_FORMATS)
    looked_for, found = str(caught.value).split('; found ')
    assert 'decode_head.conv_seg.weight' not in looked_for
    assert 'dpt (backbone.patch_embed.projection.weight)' in looked_for
    assert 'decode_head.conv_seg.weight' in found


class TestBackbone:
    @pytest.mark.parametrize('prefix', ['', 'backbone.'])
    def test_own_backbone_loads_bare_and_under_its_prefix(self, tiny, save, prefix):
        path, tensors = save({f'{prefix}{key}': shape for key, shape in OWN_BACKBONE.items()})
        module = tiny.Holder(OWN_BACKBONE)
        load_backbone(module, path)
        assert_holds(module, {key.removeprefix(prefix): value for key, value in tensors.items()})

    def test_own_backbone_is_taken_out_of_a_model(self, tiny, save):
        path, tensors = save({**under('backbone', OWN_BACKBONE), **under('decode_head', OWN_HEAD)})
        module = tiny.Holder(OWN_BACKBONE)
        report = load_backbone(module, path)
        assert_holds(module, {key.removeprefix('backbone.'): value for key, value in tensors.items()})
        assert set(report.dropped) == set(under('decode_head', OWN_HEAD))

    def test_other_parts_beside_an_own_backbone_are_refused(self, tiny, save):
        path, _ = save({**under('backbone', OWN_BACKBONE), 'teacher.weight': (4,)})
        refused(load_backbone, tiny.Holder(OWN_BACKBONE), path, 'teacher.weight')

    @pytest.mark.parametrize('prefix', ['', 'backbone.'])
    def test_differences_of_an_own_backbone_are_listed(self, tiny, save, prefix):
        shapes = {**OWN_BACKBONE, 'block2.scale': (4,)}
        path, _ = save({f'{prefix}{key}': shape for key, shape in shapes.items() if key != 'block1.scale'})
        words = '1 missing in the file: block1.scale', '1 not in the model: block2.scale'
        refused(load_backbone, tiny.Holder(OWN_BACKBONE), path, *words)

    def test_a_file_without_a_common_name_lists_nothing(self, tiny, save):
        path, _ = save({'conv1.weight': (3, 3)})
        module = tiny.Holder(OWN_BACKBONE)
        assert '\n' not in refused(load_backbone, module, path, 'conv1.weight')
        assert_untouched(module)
