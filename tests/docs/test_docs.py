"""What the pages show exists: links, tools and their options, configs, keys, messages, code."""

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import Registry

from dpt import registry
from dpt.config.load import load_config
from dpt.config.parts import CONSUMED
from dpt.registry import DATASETS, MODELS
from dpt.zoo import ZOO

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PAGES = sorted(
    [*REPOSITORY.glob('*.md'), *(REPOSITORY / 'docs').glob('*.md'), *(REPOSITORY / 'benchmarks').glob('*.md')]
)
sys.path.insert(0, str(REPOSITORY / 'docs'))
from tool_pages import tool_help  # noqa: E402

tool_help = cache(tool_help)
each_page = pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf'^```{language}\n(.*?)^```', page.read_text(encoding='utf-8'), flags=re.DOTALL | re.M)


def commands(page: Path) -> Iterator[list[str]]:
    """Words of each command of the shell blocks, from the name of the tool on."""
    for block in blocks(page, 'bash'):
        for line in block.replace('\\\n', ' ').splitlines():
            words = shlex.split(line.replace('[@]', ''), comments=True)
            for i, word in enumerate(words):
                if word.startswith('tools/') and word.endswith('.py'):
                    yield words[i:]
                elif word == 'dpt' and i == 0 and words[1] not in ('--help', 'where'):
                    yield [f'tools/{words[1]}.py', *words[2:]]


@each_page
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r'^```.*?^```', '', page.read_text(encoding='utf-8'), flags=re.DOTALL | re.M)
    for target in re.findall(r'\]\(([^)\s]+)\)', text):
        if '://' not in target and not target.startswith('#'):
            assert (page.parent / target.split('#')[0]).exists(), target


@each_page
def test_every_command_has_its_tool_and_options(page: Path) -> None:
    for tool, *arguments in commands(page):
        assert (REPOSITORY / tool).is_file(), tool
        told = tool_help(REPOSITORY / tool)
        if told.startswith('('):  # needs a package that is not installed
            continue
        for option in (word.split('=')[0] for word in arguments if word.startswith('--')):
            assert re.search(rf'{re.escape(option)}\b', told), f'{tool} has no {option}'


@pytest.mark.parametrize('tool', sorted((REPOSITORY / 'tools').rglob('*.py')), ids=lambda tool: tool.stem)
def test_help_of_tools_shows_an_example_and_the_exit_status(tool: Path) -> None:
    told = tool_help(tool)
    if told.startswith('('):
        pytest.skip(told)
    assert 'example:' in told.lower()
    assert re.search(rf'^ +(python )?.*{tool.name} ', told, flags=re.M)
    assert re.search(r'[Ee]xit status:? 0 if .*1 ', told)


@each_page
def test_every_file_named_is_there(page: Path) -> None:
    text = page.read_text(encoding='utf-8')
    named = re.findall(r'(?<![\w/])(?:tools|configs|benchmarks|tests)/[\w./-]+\.(?:py|sh|md)\b', text)
    for path in set(named) - {
        'configs/mine.py',
        'configs/rooms.py',
        'configs/camvid_raw.py',
        'tools/NAME.py',
    }:
        assert (REPOSITORY / path).is_file(), path


@each_page
def test_every_python_block_compiles(page: Path) -> None:
    for block in blocks(page, 'python'):
        compile(block, page.name, 'exec')


def test_every_config_is_listed() -> None:
    page = (REPOSITORY / 'docs' / 'configs.md').read_text(encoding='utf-8')
    rows = re.findall(r'^\| (`(?:dpt|depth|quickstart)_?.*?\.py`) \|', page, flags=re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r'`([\w.-]+\.py)`', row)}
    assert listed == {path.name for path in (REPOSITORY / 'configs').glob('*.py')}


def test_the_config_for_own_data_builds(tmp_path: Path) -> None:
    block = next(code for code in blocks(REPOSITORY / 'docs' / 'own_data.md', 'python') if '_base_' in code)
    base = REPOSITORY / 'configs' / 'dpt_vit-s14_364x476_4k_camvid.py'
    (tmp_path / 'mine.py').write_text(block.replace(f"'{base.name}'", repr(str(base))))
    config = load_config(str(tmp_path / 'mine.py'))
    assert MODELS.build(config.model).decode_head.num_classes == 3
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset = config[loader].dataset
        assert dataset.data_root == 'data/mine'
        assert len(DATASETS.build(dict(dataset, lazy_init=True)).metainfo['classes']) == 3
    assert config.test_dataloader.dataset.data_prefix.img_path == 'images/validation'


def test_every_top_level_key_of_the_configs_is_explained() -> None:
    text = (REPOSITORY / 'docs' / 'configs.md').read_text(encoding='utf-8')
    explained = set(re.findall(r'`([\w.]+)`', text))
    for file in (REPOSITORY / 'configs').glob('*.py'):
        unexplained = set(Config.fromfile(str(file))) - explained
        assert not unexplained, f'{file.name}: {unexplained}'
    assert not CONSUMED - {'self', 'cfg'} - explained


@pytest.mark.parametrize(
    'name', ['configs', 'depth', 'losses', 'mmsegmentation', 'own_data', 'recipe', 'trackers']
)
def test_every_part_named_is_registered(name: str) -> None:
    """Names as ``DPTNeck``, of at least two capitals and a small letter."""
    page = REPOSITORY / 'docs' / f'{name}.md'
    text = re.sub(r'^```.*?^```', '', page.read_text(encoding='utf-8'), flags=re.DOTALL | re.M)
    words = {word for code in re.findall(r'`([^`\n]+)`', text) for word in re.findall(r'\w+', code)}
    named = {word for word in words if re.fullmatch(r'(?=.*[a-z])[A-Z]\w*[A-Z]\w*', word)} - {
        'SyncBN',
        'MMSegInferencer',
    }
    registries = [value for value in vars(registry).values() if isinstance(value, Registry)]
    for part in named:
        assert any(one.get(part) is not None for one in registries), part


def test_every_loss_shown_builds() -> None:
    page = (REPOSITORY / 'docs' / 'losses.md').read_text(encoding='utf-8')
    shown = re.findall(r'^- `(dict\(.*\))`', page, flags=re.M)
    for loss in shown:
        MODELS.build(eval(loss))  # noqa: S307
    assert len(shown) >= 9


def test_the_messages_of_troubleshooting_are_those_of_the_code() -> None:
    page = (REPOSITORY / 'docs' / 'troubleshooting.md').read_text(encoding='utf-8')
    messages = re.findall(r'^\| `([^`]+)`', page, flags=re.M)
    assert len(messages) > 40
    strings: list[str] = []  # of the package and the tools
    for file in [*(REPOSITORY / 'dpt').rglob('*.py'), *(REPOSITORY / 'tools').rglob('*.py')]:
        nodes = ast.walk(ast.parse(file.read_text(encoding='utf-8')))
        strings += [
            node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
    code = '\n'.join(strings)
    for message in messages:
        assert all(part in code for part in message.split('…')), message


def test_the_zoo_page_is_made_from_the_table() -> None:
    from make_zoo import page

    stored = (REPOSITORY / 'docs' / 'zoo.md').read_text(encoding='utf-8')
    assert stored == page(), 'run python docs/make_zoo.py'
    for name, one in ZOO.items():
        assert not one.config or (REPOSITORY / 'configs' / one.config).is_file(), name
        assert one.missing or one.checked, name


def test_the_site_builds_and_names_every_tool(tmp_path: Path) -> None:
    pytest.importorskip('sphinx', reason='pip install -e .[docs]')
    pytest.importorskip('myst_nb')
    pytest.importorskip('furo')
    command = [sys.executable, '-m', 'sphinx', '-q', '-W', '--keep-going', '-b', 'html', '-d']
    folders = [tmp_path / 'trees', REPOSITORY / 'docs', tmp_path / 'site']
    done = subprocess.run([*command, *map(str, folders)], text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    site = (tmp_path / 'site' / 'tools.html').read_text(encoding='utf-8')
    for file in (REPOSITORY / 'tools').rglob('*.py'):
        assert file.relative_to(REPOSITORY).as_posix() in site, file
    api = (tmp_path / 'site' / 'api.html').read_text(encoding='utf-8')
    for name in ('dpt.models.segmentor.EncoderDecoder', 'dpt.apis.Predictor.__call__', 'dpt.apis.init_model'):
        assert f'id="{name}"' in api, name
    assert 'Define the computation performed at every call' not in api  # torch's, where ours says nothing
