"""Models are pushed to, and loaded from, a stand-in for Hugging Face on this machine."""

import re
from pathlib import Path

import numpy as np
import pytest
from hub_server import Hub, serve

import dpt
from dpt.apis import Predictor
from dpt.checkpoints import read_meta, read_state_dict, save_weights

hub_client = pytest.importorskip('huggingface_hub')


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with serve() as server:
        constants = hub_client.constants
        monkeypatch.setattr(constants, 'ENDPOINT', server.url)
        monkeypatch.setattr(
            constants,
            'HUGGINGFACE_CO_URL_TEMPLATE',
            f'{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}',
        )
        monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
        monkeypatch.setattr(constants, 'HF_HUB_DISABLE_XET', True)
        yield server


@pytest.fixture
def trained_file(model_file: Path, tmp_path: Path) -> Path:
    """The tiny model with the score of its run."""
    meta = dict(read_meta(model_file), metric=dict(mIoU=41.5, aAcc=80.0), iter=700)
    save_weights(read_state_dict(model_file), meta, tmp_path / 'best.pth')
    return tmp_path / 'best.pth'


def test_a_pushed_model_predicts_the_same(
    hub: Hub, trained_file: Path, pictures: Path, tmp_path: Path, tool_main, capsys: pytest.CaptureFixture
) -> None:
    push = ('--push', 'me/tiny', '--license', 'cc-by-4.0', '--pictures', pictures / 'a.png')
    status = tool_main('tools/publish_model.py')(trained_file, tmp_path / 'tiny.safetensors', *push)
    assert status == 0, capsys.readouterr().err
    assert f'pushed to {hub.url}/me/tiny' in capsys.readouterr().out
    files = hub.repositories['me/tiny']
    assert set(files) == {'model.safetensors', 'README.md', 'config.json', 'config.py', 'pictures/1.png'}
    for model in (dpt.load('hf://me/tiny', device='cpu'), Predictor.from_pretrained('me/tiny', device='cpu')):
        expected = dpt.load(trained_file, device='cpu')(pictures / 'b.png')
        assert np.array_equal(model(pictures / 'b.png').labels, expected.labels)
    card = files['README.md'].decode()
    for words in (
        '---\nlicense: cc-by-4.0\nlibrary_name: dpt\npipeline_tag: image-segmentation\n',
        "model = dpt.load('hf://me/tiny')",
        '6: sky, ground, tree, house, sun, car.',
        '| mIoU | 41.50 |',
        'at iteration 700, on BaseSegDataset (data_root=',
        'dpt test config.py model.safetensors',
        '- images: LoadImageFromFile(), Resize(',
        '- optimiser: AdamW(',
        '- several scales and flips at test time',
        '![prediction](pictures/1.png)',
    ):
        assert words.replace('(), Resize', '() -> Resize') in card, card
    metadata = hub_client.ModelCard(card).data
    assert (metadata.license, metadata.eval_results[0].metric_value) == ('cc-by-4.0', 41.5)


def test_push_to_hub_and_save_pretrained_write_the_same(
    hub: Hub, trained_file: Path, pictures: Path, tmp_path: Path
) -> None:
    model = dpt.load(trained_file, device='cpu')
    assert model.push_to_hub('me/tiny', license='mit', private=True) == f'{hub.url}/me/tiny'
    model.save_pretrained(tmp_path / 'saved', license='mit', repo_id='me/tiny')
    saved = {file.name: file.read_bytes() for file in (tmp_path / 'saved').iterdir()}
    assert saved == hub.repositories['me/tiny']
    other = Predictor.from_pretrained(tmp_path / 'saved', device='cpu')
    assert np.array_equal(other(pictures / 'a.png').labels, model(pictures / 'a.png').labels)


@pytest.mark.parametrize('fault', ['cut', 'altered'])
def test_damaged_downloads_are_never_used(
    hub: Hub, trained_file: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('time.sleep', lambda seconds: None)  # between attempts
    dpt.load(trained_file, device='cpu').push_to_hub('me/tiny', license='mit')
    getattr(hub, fault).add('model.safetensors')
    with pytest.raises(ValueError, match='download failed|does not match its hash and was deleted'):
        dpt.load('hf://me/tiny', device='cpu')
    getattr(hub, fault).clear()
    assert dpt.load('hf://me/tiny', device='cpu').classes[5] == 'car'


def test_what_cannot_be_pushed_is_one_line(hub: Hub, trained_file: Path, tool_main, tmp_path, capsys) -> None:
    publish = tool_main('tools/publish_model.py')
    assert publish(trained_file, tmp_path / 'x.pth', '--push', 'me/tiny') == 2
    assert 'needs --license' in capsys.readouterr().err
    assert publish(trained_file, tmp_path / 'x.pth', '--push', 'tiny', '--license', 'mit') == 1
    assert "'tiny' must be OWNER/NAME" in capsys.readouterr().err
    save_weights(read_state_dict(trained_file), {}, tmp_path / 'bare.pth')
    assert publish(tmp_path / 'bare.pth', tmp_path / 'y.pth', '--push', 'me/tiny', '--license', 'mit') == 1
    assert 'has no config' in capsys.readouterr().err
    assert not hub.repositories
    hub.shutdown()
    hub.server_close()
    with pytest.raises(
        ValueError, match=r'^me/tiny: the upload failed .* log in with "hf auth login"'
    ) as caught:
        dpt.load(trained_file, device='cpu').push_to_hub('me/tiny', license='mit')
    assert not re.search('\n', str(caught.value))
