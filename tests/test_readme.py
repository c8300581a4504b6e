"""What the README and the pages behind it show exists and works."""

import re
from pathlib import Path

from dpt.config.load import load_config
from dpt.registry import DATASETS, MODELS


def readme(repository: Path) -> str:
    return (repository / 'README.md').read_text(encoding='utf-8')


def test_every_file_it_names_is_there(repository: Path) -> None:
    named = set(re.findall(r'\b((?:tools|configs|benchmarks)/[\w./-]+\.(?:py|sh|md))', readme(repository)))
    assert {'tools/train.py', 'tools/quickstart.sh', 'benchmarks/RESULTS.md'} <= named
    for path in named - {'configs/mine.py'}:  # which new_dataset.py writes
        assert (repository / path).is_file(), path


def test_every_config_is_listed(repository: Path) -> None:
    page = (repository / 'docs' / 'configs.md').read_text(encoding='utf-8')
    listed = {
        name
        for row in re.findall(r'^\| (`dpt_.*?|`quickstart.py`) \|', page, flags=re.MULTILINE)
        for name in re.findall(r'`([\w.-]+\.py)`', row)
    }
    assert listed == {path.name for path in (repository / 'configs').glob('*.py')}


def test_the_config_for_own_data_builds(repository: Path, tmp_path: Path) -> None:
    page = (repository / 'docs' / 'own_data.md').read_text(encoding='utf-8')
    blocks = re.findall(r'```python\n(.*?)```', page, flags=re.DOTALL)
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
