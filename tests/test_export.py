"""The graph that is exported computes what the model's own prediction does."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dpt.apis import Predictor, init_model
from dpt.config.walk import first_test_dataset
from dpt.export import ExportedModel, _describe_resizing, describe, labels_from, trace, write
from dpt.models import SegDataPreProcessor
from dpt.models.backbones import TimmBackbone
from dpt.registry import TRANSFORMS


@pytest.fixture(scope='module')
def predictor(model_file: Path) -> Predictor:
    return Predictor(model_file, device='cpu')


@torch.no_grad()
@pytest.mark.parametrize('divisor', [None, 32])
def test_the_graph_predicts_as_the_model(model_file: Path, pictures: Path, divisor: int | None) -> None:
    options = {'model.data_preprocessor.test_cfg.size_divisor': divisor}
    predictor = Predictor(model_file, device='cpu', cfg_options=options)
    graph = ExportedModel(predictor.model).eval()
    for name in ('a.png', 'c.png'):
        result = predictor(pictures / name)
        image = predictor.prepare(pictures / name)['inputs'].permute(1, 2, 0)[None]
        logits = graph(image)
        assert logits.shape == (1, 6, *image.shape[1:3])
        labels = labels_from(logits.numpy(), result.labels.shape)
        assert (labels != result.labels).mean() < 1e-3  # ties alone
        assert len(np.unique(labels)) > 1


def test_half_precision_leaves_the_model_as_it_was(predictor: Predictor) -> None:
    graph = ExportedModel(predictor.model, half=True)
    norms = {name for name, part in predictor.model.named_modules() if isinstance(part, torch.nn.BatchNorm2d)}
    for name, _ in predictor.model.named_parameters():
        owner, _, last = name.rpartition('.')
        name = f'{owner}.norm.{last}' if owner in norms else name
        expected = torch.float32 if owner in norms else torch.float16
        assert graph.model.get_parameter(name).dtype is expected
    assert {parameter.dtype for parameter in predictor.model.parameters()} == {torch.float32}


@torch.no_grad()
def test_half_precision_holds_activations_whose_variance_it_does_not(
    model_file: Path, pictures: Path
) -> None:
    predictor = Predictor(model_file, device='cpu')
    project = predictor.model.decode_head.project
    project.conv.weight *= 300  # of a trained model: a deviation of hundreds, a variance above 65504
    project.bn.running_mean *= 300
    project.bn.running_var *= 9e4
    assert project.bn.running_var.max() > torch.finfo(torch.float16).max
    expected = predictor(pictures / 'a.png').labels
    image = predictor.prepare(pictures / 'a.png')['inputs'].permute(1, 2, 0)[None]
    labels = labels_from(ExportedModel(predictor.model, half=True).eval()(image).numpy(), expected.shape)
    assert len(np.unique(expected)) > 1
    assert (labels == expected).mean() > 0.97


def test_what_the_caller_must_know_is_described(predictor: Predictor) -> None:
    meta = describe(predictor.model, first_test_dataset(predictor.model.cfg)['pipeline'])
    assert (meta['scale'], meta['keep_ratio'], meta['size_divisor']) == ([160, 120], True, 32)
    assert meta['classes'][5] == 'car'
    assert len(meta['palette']) == 6
    assert np.allclose(meta['mean'], [123.675, 116.28, 103.53])
    assert describe(predictor.model, [dict(type='LoadImageFromFile')])['scale'] is None


def test_what_a_graph_cannot_hold_is_refused(model_file: Path, predictor: Predictor) -> None:
    slide = {'model.test_cfg': dict(mode='slide', crop_size=(64, 64), stride=(32, 32))}
    with pytest.raises(ValueError, match=r"model.test_cfg.mode='slide' cannot be exported"):
        ExportedModel(Predictor(model_file, device='cpu', cfg_options=slide).model)
    with pytest.raises(ValueError, match='ResizeToMultiple'):
        describe(predictor.model, [dict(type='ResizeToMultiple')])


def test_the_servers_resizing_is_that_of_the_pipeline(
    predictor: Predictor, tool_module, pictures: Path
) -> None:
    pytest.importorskip('onnxruntime')
    serve = tool_module('tools/serve_onnx.py')
    for path in sorted(pictures.rglob('*.[jp][pn]g')):
        expected = predictor.prepare(path)['inputs'].permute(1, 2, 0).numpy()
        assert np.array_equal(serve.resized(cv2.imread(str(path)), [160, 120], True), expected), path


@pytest.mark.parametrize('method', ['lower_bound', 'upper_bound', 'minimal'])
def test_the_server_resizes_to_a_bound_as_the_pipeline(tool_module, method: str) -> None:
    pytest.importorskip('onnxruntime')
    serve = tool_module('tools/serve_onnx.py')
    step = dict(type='ResizeToBound', scale=[112, 84], method=method, size_divisor=14)
    random = np.random.default_rng(0)
    for size in ((97, 131), (60, 200), (300, 80), (84, 112)):
        image = random.integers(0, 256, (*size, 3), dtype=np.uint8)
        expected = TRANSFORMS.build(step).transform(dict(img=image, img_shape=size))['img']
        found = serve.resized(image, **_describe_resizing(step))
        assert np.array_equal(found, expected), size


@torch.no_grad()
def test_a_hybrid_is_traced_for_any_size(repository: Path) -> None:
    """Its stem pads as TensorFlow does, by amounts that follow from the size: they must not stay symbols."""
    options = {
        'model.backbone.init_cfg': None,
        'model.backbone.embed_dims': 32,
        'model.backbone.num_heads': 2,
        'model.backbone.num_layers': 2,
        'model.backbone.out_indices': (0, 1),
        'model.backbone.stem_channels': 32,
        'model.backbone.stage_channels': (128, 256, 512),
        'model.backbone.stage_depths': (1, 2, 1),
        'model.neck.in_channels': 32,
        'model.neck.channels': 8,
        'model.neck.post_process_channels': (128, 256, 8, 8),
        'model.decode_head.in_channels': 8,
        'model.decode_head.channels': 8,
        'model.auxiliary_heads': None,
    }
    config = repository / 'configs' / 'dpt_hybrid_512x512_160k_ade20k.py'
    graph = ExportedModel(init_model(str(config), device='cpu', cfg_options=options)).eval()
    traced = trace(graph, (64, 96), dynamic=True).module()
    for size in ((64, 96), (75, 101)):
        image = torch.randint(0, 256, (1, *size, 3), dtype=torch.uint8)
        torch.testing.assert_close(traced(image), graph(image))


class Plain(torch.nn.Module):
    """A segmentor around a backbone that has no ``patch_embed``."""

    resize_mode, align_corners = 'bilinear', False

    def __init__(self, divisor: int | None) -> None:
        super().__init__()
        self.test_cfg = dict(mode='whole')
        test_cfg = None if divisor is None else dict(size_divisor=divisor)
        self.data_preprocessor = SegDataPreProcessor(mean=[0.0] * 3, std=[255.0] * 3, test_cfg=test_cfg)
        self.backbone = torch.nn.Conv2d(3, 6, 8, stride=8)

    def forward(self, inputs: torch.Tensor, mode: str) -> torch.Tensor:
        return self.backbone(inputs)


@torch.no_grad()
@pytest.mark.parametrize(('divisor', 'smallest'), [(48, 192), (8, 64), (None, 128)])
def test_a_backbone_without_patches_is_traced_for_any_size(divisor: int | None, smallest: int) -> None:
    graph = ExportedModel(Plain(divisor)).eval()
    program = trace(graph, (256, 288), dynamic=True)
    assert {int(limits.lower) for limits in program.range_constraints.values()} >= {smallest}
    for size in ((smallest, 256), (201, 333)):
        image = torch.randint(0, 256, (1, *size, 3), dtype=torch.uint8)
        torch.testing.assert_close(program.module()(image), graph(image))


def test_a_model_too_large_for_onnx_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('dpt.export.MAX_ONNX_BYTES', 4 * (6 * 3 * 64 + 6) - 1)
    program = trace(ExportedModel(Plain(8)), (64, 64), dynamic=False)
    with pytest.raises(ValueError, match=r'big.onnx: the model with .* GiB.*use --format torch_export'):
        write(program, tmp_path / 'big.onnx', 'onnx', {})
    assert not list(tmp_path.iterdir())


def test_what_protobuf_cannot_encode_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx = pytest.importorskip('onnx')
    pytest.importorskip('onnxscript')
    message = pytest.importorskip('google.protobuf.message')

    def fail(proto: object) -> None:
        raise message.EncodeError('Failed to serialize proto')

    monkeypatch.setattr(onnx.checker, 'check_model', fail)
    program = trace(ExportedModel(Plain(8)), (64, 64), dynamic=False)
    with pytest.raises(ValueError, match='use --format torch_export'):
        write(program, tmp_path / 'big.onnx', 'onnx', {})
    assert not list(tmp_path.iterdir())


@torch.no_grad()
def test_a_graph_that_fits_one_size_only_is_refused() -> None:
    model = Plain(8)
    model.backbone.forward = lambda x: x[:, :1, ::8, ::8] / float(x.shape[-1])  # type: ignore[method-assign]
    with pytest.raises(ValueError, match='cannot trace this model: .*; try --no-dynamic --size') as caught:
        trace(ExportedModel(model), (64, 64), dynamic=True)
    assert '\n' not in str(caught.value)


@torch.no_grad()
def test_dinov3_is_traced_for_any_size() -> None:
    """timm's rotary embedding turns the size of the grid into numbers, which would stay in the graph."""
    timm = pytest.importorskip('timm')
    name, tiny = 'vit_base_patch16_dinov3', dict(embed_dim=16, depth=1, num_heads=2)
    model = Plain(16)
    model.backbone = TimmBackbone(name, (0,), model_args=tiny, output_cls_token=False).eval()
    model.forward = lambda inputs, mode: model.backbone(inputs)[0]  # type: ignore[method-assign]
    graph = ExportedModel(model).eval()
    traced = trace(graph, (128, 160), dynamic=True).module()
    for size in ((128, 160), (75, 201)):
        image = torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8)
        torch.testing.assert_close(traced(image), graph(image))
    rope = timm.create_model(name, **tiny).rope
    for grid in ((5, 7), (16, 9)):
        assert model.backbone.model.rope.get_embed(grid).equal(rope.get_embed(grid))
