"""What the README shows exists and works."""

import re
from pathlib import Path

from dpt.config.load import load_config
from dpt.registry import DATASETS, MODELS


def readme(repository: Path) -> str:
    return (repository / 'README.md').read_text(encoding='utf-8')


def test_every_file_it_names_is_there(repository: Path) -> None:
    named = set(re.findall(r'\b((?:tools|configs|benchmarks)/[\w./-]+\.(?:py|sh|md))', readme(repository)))
    assert {'tools/train.py', 'tools/quickstart.sh', 'benchmarks/RESULTS.md'} <= named
    for path in named:
        assert (repository / path).is_file(), path
    for name in re.findall(r'^\| `([\w.-]+\.py)`', readme(repository), flags=re.MULTILINE):
        assert (repository / 'configs' / name).is_file(), name


def test_every_config_is_listed(repository: Path) -> None:
    for path in (repository / 'configs').glob('*.py'):
        assert f'`{path.name}`' in readme(repository), path.name


def test_the_config_for_own_data_builds(repository: Path, tmp_path: Path) -> None:
    blocks = re.findall(r'```python\n(.*?)```', readme(repository), flags=re.DOTALL)
    block = next(block for block in blocks if '_base_' in block)
    base = repository / 'configs' / 'dpt_vit-s14_364x476_4k_camvid.py'
    (tmp_path / 'mine.py').write_text(block.replace(f"'{base.name}'", repr(str(base))))
    config = load_config(str(tmp_path / 'mine.py'))
    assert MODELS.build(config.model).decode_head.num_classes == 3
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset = config[loader].dataset
        assert dataset.data_root == 'data/mine'
        assert len(DATASETS.build(dict(dataset, lazy_init=True)).metainfo['classes']) == 3
    assert config.test_dataloader.dataset.data_prefix.img_path == 'images/validation'
