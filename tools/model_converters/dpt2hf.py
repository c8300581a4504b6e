"""Write a depth or segmentation model as a folder that ``from_pretrained`` of transformers loads.

Depth models become DepthAnythingForDepthEstimation or DPTForDepthEstimation, segmentation models become
DPTForSemanticSegmentation. Models that none of them can compute are refused, with the reason.

Exit status: 0 if successful, 1 on an error, 2 for invalid arguments.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save

from dpt.apis import config_of, init_model
from dpt.extras.to_transformers import Exported, to_transformers
from dpt.files import explain_os_error, write_whole

EXAMPLE = """example:
  python tools/model_converters/dpt2hf.py work_dirs/mine/iter_20000.pth mine-hf
  python -c "from transformers import pipeline as p; print(p('depth-estimation', 'mine-hf')('image.jpg'))"
"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('src', help='path or http(s) URL of a checkpoint of dpt')
    parser.add_argument('dst', help='output folder, which must be new or empty')
    parser.add_argument('--config', help='config file; needed if the checkpoint holds none')
    parser.add_argument('--size', type=int, help='side in pixels to which transformers resizes images')
    parser.add_argument('--check', action='store_true', help='load the folder and compare the outputs')
    return parser.parse_args()


def write(exported: Exported, folder: Path) -> None:
    """Write the weights and both configs.

    Raises:
        OSError: If a file cannot be written.
    """
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in exported.tensors.items()}
    write_whole(save(tensors, metadata={'format': 'pt'}), folder / 'model.safetensors')
    for name, values in (('config', exported.config), ('preprocessor_config', exported.preprocessor)):
        text = json.dumps(values, indent=2, sort_keys=True) + '\n'
        write_whole(text.encode(), folder / f'{name}.json')


@torch.no_grad()
def largest_difference(model: torch.nn.Module, folder: Path, size: int) -> float:
    """Return the largest difference of the outputs over the largest output, for one random image.

    Raises:
        ImportError: If transformers is missing.
        ValueError: If the outputs differ in shape.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    name = json.loads((folder / 'config.json').read_text())['architectures'][0]
    theirs = getattr(transformers, name).from_pretrained(folder).eval()
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    found, expected = theirs(image), model(image)
    output = found.logits if 'Segmentation' in name else found.predicted_depth[:, None]
    if expected.shape != output.shape:  # segmentation models without upsampling
        options = dict(size=output.shape[-2:], mode='bilinear', align_corners=True)
        expected = torch.nn.functional.interpolate(expected, **options)
    return float((output - expected).abs().max() / expected.abs().max())


def main() -> int:
    args = parse_args()
    folder = Path(args.dst).expanduser()
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f'{folder}: the output folder must be new or empty')
        model = init_model(args.config or config_of(args.src), args.src, device='cpu')
        try:
            classes = tuple(model.dataset_meta.get('classes') or ())
            exported = to_transformers(model, args.size, classes)
        except ValueError as error:
            raise ValueError(f'{args.src}: {error}') from None
        write(exported, folder)
        print(f'{exported.config["architectures"][0]}: {len(exported.tensors)} tensors written to {folder}')
        for note in exported.notes:
            print(f'note: {note}')
        if args.check:
            difference = largest_difference(model, folder, exported.preprocessor['size']['height'])
            print(f'largest difference over the largest output: {difference:.1e}')
            if not difference <= 1e-4:
                raise ValueError(f'{folder}: transformers computes something else')
    except (ValueError, OSError, ImportError) as error:
        message = explain_os_error(error) if isinstance(error, OSError) else error
        print(f'dpt2hf: {message}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
