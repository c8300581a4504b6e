"""Loading a whole model is all or nothing, and a refusal says what to set."""

import logging

import pytest
import torch
from outcomes import assert_holds, refused

from dpt.checkpoints import load_backbone, load_model


class TestModel:
    @pytest.mark.parametrize('names', ['model_shapes', 'mmseg_shapes'])
    @pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
    def test_own_and_mmseg_files_fill_the_model(self, tiny, save, names, suffix):
        path, source = save(getattr(tiny, names)(), suffix=suffix)
        module = tiny.Holder(tiny.model_shapes())
        report = load_model(module, path)
        assert_holds(module, {report.mapped[key]: value for key, value in source.items()})

    def test_the_patch_bias_that_mmseg_1_2_lacks_is_zero(self, tiny, save, caplog):
        path, source = save(
            tiny.mmseg_shapes(), lambda tensors: tensors.pop('backbone.patch_embed.projection.bias')
        )
        module = tiny.Holder(tiny.model_shapes())
        logger = logging.getLogger('test_load')
        with caplog.at_level(logging.INFO, 'test_load'):
            report = load_model(module, path, logger=logger)
        zeros = {'backbone.patch_embed.projection.bias': torch.zeros(4)}
        assert_holds(module, {report.mapped[key]: value for key, value in source.items()} | zeros)
        (record,) = caplog.records
        assert f'loaded {len(source)}/{len(source) + 1} tensors' in record.getMessage()
        assert '(MMSegmentation DPT keys; patch bias absent: zeros)' in record.getMessage()

    def test_a_backbone_taken_out_of_such_a_file_too(self, tiny, save):
        path, _ = save(
            tiny.mmseg_shapes(), lambda tensors: tensors.pop('backbone.patch_embed.projection.bias')
        )
        module = tiny.Holder(tiny.backbone_shapes())
        load_backbone(module, path)
        assert bool((module.state_dict()['patch_embed.projection.bias'] == 0).all())

    def test_a_patch_bias_is_made_up_for_no_other_file(self, tiny, save):
        path, _ = save(
            tiny.model_shapes(), lambda tensors: tensors.pop('backbone.patch_embed.projection.bias')
        )
        words = 'missing in the file: backbone.patch_embed.projection.bias', 'model.backbone.patch_bias=False'
        refused(load_model, tiny.Holder(tiny.model_shapes()), path, *words)

    def test_a_patch_bias_in_the_file_is_never_dropped(self, tiny, save):
        path, _ = save(tiny.mmseg_shapes())
        shapes = tiny.model_shapes()
        del shapes['backbone.patch_embed.projection.bias']
        refused(load_model, tiny.Holder(shapes), path, 'model.backbone.patch_bias=True')

    def test_a_final_norm_of_a_trained_model_is_not_dropped(self, tiny, save):
        path, _ = save({**tiny.model_shapes(), 'backbone.ln1.weight': (4,)})
        refused(load_model, tiny.Holder(tiny.model_shapes()), path, 'model.backbone.final_norm=True')

    def test_size_of_the_position_embedding(self, tiny, save):
        path, _ = save(tiny.model_shapes(grid=7))
        refused(load_model, tiny.Holder(tiny.model_shapes(grid=3)), path, 'model.backbone.img_size=14 ')

    def test_another_number_of_classes_names_drop(self, tiny, save):
        path, _ = save(tiny.mmseg_shapes(classes=150))
        refused(
            load_model,
            tiny.Holder(tiny.model_shapes(classes=11)),
            path,
            'trained for 150 classes, the model has 11',
            "drop=('decode_head.conv_seg',)",
        )

    def test_dropped_prefixes_keep_the_models_own_tensors(self, tiny, save, caplog):
        path, source = save(tiny.mmseg_shapes(classes=150))
        module = tiny.Holder(tiny.model_shapes(classes=11))
        logger = logging.getLogger('test_load')
        with caplog.at_level(logging.INFO, 'test_load'):
            report = load_model(module, path, drop=('decode_head.conv_seg',), logger=logger)
        state = module.state_dict()
        own = {'decode_head.conv_seg.weight', 'decode_head.conv_seg.bias'}
        assert set(report.kept) == set(report.dropped) == own
        assert all(bool((state[key] == -1).all()) for key in own)
        assert set(report.mapped.values()) == set(state) - own
        for key, target in report.mapped.items():
            assert torch.equal(state[target], source[key])
        line = caplog.records[0].getMessage()
        assert f'loaded {len(state) - 2}/{len(state)} tensors' in line
        assert "kept the model's own: decode_head.conv_seg.weight, decode_head.conv_seg.bias" in line

    def test_drop_in_an_mmseg_file_means_our_names(self, tiny, save):
        path, source = save(tiny.mmseg_shapes())
        module = tiny.Holder(tiny.model_shapes())
        load_model(module, path, drop=('decode_head',))
        state = module.state_dict()
        assert torch.equal(state['neck.convs.0.conv.weight'], source['decode_head.convs.0.conv.weight'])
        assert bool((state['decode_head.project.conv.weight'] == -1).all())

    def test_dropped_tensors_may_be_absent_from_the_file(self, tiny, save):
        shapes = {**tiny.model_shapes(), 'auxiliary_heads.0.conv_seg.bias': (5,)}
        path, _ = save(tiny.model_shapes())
        module = tiny.Holder(shapes)
        refused(load_model, module, path, 'auxiliary_heads.0.conv_seg.bias')
        assert load_model(module, path, drop=('auxiliary_heads',)).kept == (
            'auxiliary_heads.0.conv_seg.bias',
        )

    def test_dropped_tensors_may_be_absent_from_the_model(self, tiny, save):
        path, _ = save({**tiny.model_shapes(), 'auxiliary_heads.0.conv_seg.bias': (5,)})
        module = tiny.Holder(tiny.model_shapes())
        report = load_model(module, path, drop=('auxiliary_heads.',))
        assert set(report.dropped) == {'auxiliary_heads.0.conv_seg.bias'}

    def test_drop_ends_at_a_dot_and_must_hit_something(self, tiny, save):
        path, _ = save(tiny.model_shapes())
        for drop in (('decode_head.conv',), ('decode_head.conv_sge',)):
            refused(load_model, tiny.Holder(tiny.model_shapes()), path, repr(drop[0]), drop=drop)
        with pytest.raises(ValueError, match='must be a tuple'):
            load_model(tiny.Holder(tiny.model_shapes()), path, drop='decode_head')

    def test_a_backbone_file_is_not_a_model(self, tiny, save):
        path, _ = save(tiny.backbone_shapes())
        refused(load_model, tiny.Holder(tiny.model_shapes()), path, 'bare backbone')

    def test_batch_statistics_load_as_buffers(self, tiny, save):
        norm = torch.nn.BatchNorm2d(4)
        module = tiny.Holder(tiny.model_shapes())
        module.decode_head.extra = norm
        shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
        path, tensors = save(
            shapes, lambda tensors: tensors.update({'decode_head.extra.num_batches_tracked': torch.tensor(9)})
        )
        load_model(module, path)
        assert norm.num_batches_tracked.item() == 9
        assert norm.running_var is not None
        assert torch.equal(norm.running_var, tensors['decode_head.extra.running_var'])
