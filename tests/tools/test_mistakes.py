"""Users' mistakes end in an error that names the cause, without traceback, and write nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest

NEEDS = {
    'demo': 'gradio',
    'export': 'onnxscript',
    'dataset_converters/voc_aug': 'scipy',
    'dataset_converters/pascal_context': 'pycocotools',
}
MISTAKES = """
analyze_logs {tmp}/gone => no training log found
analyze_logs {tmp} --out {tmp}/curves.xyz => must end in one of
analyze_logs {tmp} --out {tmp}/gone/curves.png => the folder does not exist
attention_maps {config} {checkpoint} {pictures}/a.png --out {tmp}/a.png --pixel 97 0 => the image of 97x131
attention_maps {config} {checkpoint} gone.png --out {tmp}/a.png => gone.png does not exist
benchmark {config} --device tpu => --device tpu: must be cpu, cuda or cuda:N
benchmark {config} --device cuda:9 => --device cuda:9: this GPU does not exist
benchmark {config} --batch-size 0 => --batch-size 0: must be 1 or more
benchmark {config} --json /nowhere/a.json => --json /nowhere/a.json: the folder does not exist
benchmark {config} --picture a.txt => --picture a.txt: must end in
benchmark {config} --size 0 4 => --size 0 4: both must be 1 or more
browse_dataset {config} --out {tmp}/x.png --number 0 => 1 or more
browse_dataset {config} --out {tmp}/x.pdf => must end in one of
browse_dataset {config} --out {tmp}/x.png --cfg-options train_dataloader.dataset.data_root=gone => gone
check_data {config} --workers -1 => error: --workers -1
confusion_matrix {tmp}/gone.npz => tools/test.py --scores
dataset_converters/cityscapes {tmp} => unpack gtFine_trainvaltest.zip
dataset_converters/pascal_context {tmp} => download trainval_merged.json of PASCAL in Detail
dataset_converters/pascal_context {tmp} --json {tmp}/other.json => other.json is not trainval_merged.json
dataset_converters/voc_aug {tmp} {tmp} => unpack benchmark.tgz of SBD
demo {tmp}/gone.safetensors => gone.safetensors
export {model} --check {pictures} --format onnx --out {tmp}/x.pt2 => must end in .onnx
export {model} --check gone --format onnx --out {tmp}/x.onnx => gone does not exist
export {model} --check {pictures} --format onnx --out {tmp}/gone/x.onnx => the folder does not exist
export {model} --check {pictures} --format onnx --out {tmp}/x.onnx --size 64 64 => --no-dynamic
export {model} --check {pictures} --format torch_export --no-dynamic --out {tmp}/x.pt2 => export with
get_flops {config} --shape 0 1 => error: --shape 0 1: both must be 1 or more
infer {best} {pictures} => give --out, --show-dir or both
infer {best} {pictures} --out {tmp}/o --opacity 2 => from 0 to 1
infer {best} gone.jpg --out {tmp}/o => error: gone.jpg does not exist
infer gone.pth {pictures} --out {tmp}/o => gone.pth
infer {best} {pictures} --out {tmp}/o --show-dir {tmp}/o => must be different folders
infer {best} {pictures} --out {tmp}/o --device gpu => device='gpu' cannot be used
infer {best} {pictures} --out {pictures} => a.png would overwrite an input
infer {best} {pictures}/a.png {tmp}/a.jpg --out {tmp}/o => both results would be named a
make_quickstart_data {tmp} --train 1 --val 1 => not empty
model_converters/dpt2hf {model} {tmp} => must be new or empty
model_converters/dpt2hf {tmp}/gone.pth {tmp}/x => the checkpoint file does not exist
model_converters/dpt2mmseg {model} {model} => must not be the input file
model_converters/dpt2mmseg {model} {tmp}/x.safetensors => MMSegmentation reads .pth
model_converters/dpt2mmseg {tmp}/gone.pth {tmp}/x.pth => the checkpoint file does not exist
model_converters/isl2dpt {model} {model} => must not be the input file
model_converters/isl2dpt {model} {tmp}/x.bin => .safetensors
model_converters/isl2dpt {tmp}/gone.pth {tmp}/x.pth => the checkpoint file does not exist
model_converters/vit2mmseg {model} {model} => must not be the input file
model_converters/vit2mmseg {model} {tmp}/link.safetensors => must not be the input file
model_converters/vit2mmseg {model} {tmp}/x.bin => .safetensors
model_converters/vit2mmseg {tmp}/gone.pth {tmp}/x.pth => the checkpoint file does not exist
model_converters/vit2mmseg {model} => either dst or --dry-run is required
new_dataset {tmp}/empty {tmp}/empty --out {tmp}/x --dry-run => contains no images
new_dataset {tmp} {tmp} --name ../x => --name ../x: use only letters
print_config configs/gone.py => config file configs/gone.py does not exist
print_config {config} --cfg-options total_batch_sise=4 => did you mean total_batch_size
report {tmp} => no training log found
report {tmp} --number -1 => 0 or more
report {tmp} --out {tmp}/gone/report.html => the folder does not exist
test {config} {checkpoint} --work-dir {work} --cfg-options model.decode_head.channels=12 => conv_seg
train {config} --work-dir {work} --resume => nothing to resume
train {config} --work-dir {work} --resume {checkpoint} --cfg-options {layer_scale} => another model
train {config} --work-dir {work} --cfg-options {misspelt}=32 => did you mean embed_dims?
train {config} --work-dir {work} --cfg-options {misspelt}=32 => error: {config}: {misspelt}
train {config} --work-dir {work} --cfg-options model.decode_head.num_classes=7 => 6 classes
train {config} --work-dir {work} --cfg-options {crop}=(128,128) => model.data_preprocessor.size
train dpt_vit-b16_512x512_160k_ade20k.py --work-dir {work} => ADEChallengeData2016.zip
train dpt_vit-b16_512x512_160k_ade20k.py --work-dir {work} --cfg-options data_root=/nowhere => /nowhere
"""


@pytest.fixture
def places(tiny_config, trained, best, model_file, pictures, tmp_path) -> dict[str, Path | str]:
    """What the commands name in braces."""
    (tmp_path / 'a.jpg').write_bytes((pictures / 'below' / 'd.jpg').read_bytes())
    (tmp_path / 'other.json').write_text('{}')
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'link.safetensors').symlink_to(model_file)
    return dict(
        config=tiny_config,
        checkpoint=trained / 'iter_4.pth',
        best=best,
        model=model_file,
        pictures=pictures,
        tmp=tmp_path,
        work=tmp_path / 'work',
        layer_scale='model.backbone.layer_scale_init=0.1',
        misspelt='model.backbone.embed_dim',
        crop='train_dataloader.dataset.pipeline.3.crop_size',
    )


@pytest.mark.parametrize('mistake', MISTAKES.strip().splitlines())
def test_a_mistake_is_an_error_that_names_it(call: Callable, places: dict, mistake: str) -> None:
    command, _, message = mistake.format(**places).partition(' => ')
    tool, *arguments = command.split()
    if tool in NEEDS:
        pytest.importorskip(NEEDS[tool])
    before = sorted(places['tmp'].iterdir())
    status, _, error = call(tool, *arguments)
    assert status == (2 if error.startswith('usage') else 1)
    assert message in error
    assert 'Traceback' not in error
    assert [path for path in sorted(places['tmp'].iterdir()) if path != places['work']] == before
