"""``tools/print_config.py`` as a user runs it."""


def test_every_value_has_its_file(call, repository, monkeypatch):
    monkeypatch.chdir(repository)
    status, printed, _ = call('print_config', 'configs/quickstart.py', '--cfg-options', 'total_batch_size=4')
    assert status == 0
    lines = printed.splitlines()
    assert 'model.backbone.embed_dims = 128  # configs/quickstart.py' in lines
    assert "model.backbone.type = 'VisionTransformer'  # configs/_base_/models/dpt_vit-b16.py" in lines
    assert 'total_batch_size = 4  # command line' in lines
    assert 'train_dataloader.dataset.pipeline = [  # configs/_base_/datasets/quickstart_96x128.py' in lines
    assert "    {'type': 'LoadImageFromFile'}," in lines
