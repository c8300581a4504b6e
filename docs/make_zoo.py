"""Write docs/zoo.md from the table in dpt/zoo.py: python docs/make_zoo.py"""

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from dpt.zoo import DEPTH, SEGMENTATION, ZOO, Published  # noqa: E402

HEAD = """# Model zoo

This page is made by `python docs/make_zoo.py` from `dpt/zoo.py`.

{total} published DPT models: {segmentation} for segmentation, {depth} for depth.
{loads} of them load by one line, which says what the file is and loads it strictly:

```python
import dpt

model = dpt.load('dpt_large-ade20k')  # a name of this page, or a path, a URL, hf://OWNER/NAME
result = model('image.jpg')
result.areas()
result.save('overlay.png')
```

Names with a slash need the extra `hub`. The heads `dinov2_*` need `foundation`: their encoder is downloaded,
too.

To fine-tune a segmentation model, start a training with its config from its weights: the link in the table,
or `hf://OWNER/NAME` for a page of Hugging Face.
For other classes than those of the file, [set the config up for your data](own_data.md) and drop the
classifier with
`model.init_cfg=dict(type='Pretrained', checkpoint=LINK, drop=['decode_head.conv_seg'])` instead:

```bash
python tools/train.py configs/dpt_vit-l16_512x512_160k_ade20k.py --cfg-options \\
    load_from=https://github.com/intel-isl/DPT/releases/download/1_0/dpt_large-ade20k-b12dca68.pt
```

The configs of the depth table test these models; depth models are fine-tuned as in
[Fine-tune Depth Anything on your own pairs](depth.md#fine-tune-depth-anything-on-your-own-pairs). Models of
transformers have no config in it: they are the weights of another row, which has one.

The figures are those of the authors. **None of these files has been loaded or scored with dpt yet.** The last
column says what was checked instead: the keys and the results of a model with random weights, of at least one
size of each source.
Mind the licences: some forbid commercial use.
"""


def row(name: str, one: Published) -> str:
    """Return the line of a table."""
    link = one.source.replace('hf://', 'https://huggingface.co/')
    state = one.checked if not one.missing else f'not loaded: {one.missing}'
    config = one.config.replace('_', '_<wbr>')  # where a browser may break the line
    return f'| [`{name}`]({link}) | {one.licence} | {one.figures} ({one.reference}) | {config} | {state} |'


def table(models: dict[str, Published]) -> str:
    """Return the table of some models."""
    head = ['| model | licence | published figures | config here | checked here |', '|---|---|---|---|---|']
    return '\n'.join([*head, *(row(name, one) for name, one in models.items())])


def page() -> str:
    """Return the content of docs/zoo.md."""
    loads = sum(not one.missing for one in ZOO.values())
    counts = dict(total=len(ZOO), segmentation=len(SEGMENTATION), depth=len(DEPTH), loads=loads)
    parts = [HEAD.format(**counts), '## Segmentation\n', table(SEGMENTATION), '\n## Depth\n', table(DEPTH)]
    return '\n'.join(parts) + '\n'


if __name__ == '__main__':
    (DOCS / 'zoo.md').write_text(page(), encoding='utf-8')
