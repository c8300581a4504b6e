"""``tools/print_config.py`` as a user runs it."""


def test_help_shows_an_example(run_tool):
    assert 'print_config.py configs/quickstart.py' in run_tool('tools/print_config.py', '--help').stdout


def test_lines_and_mistakes(tool_main, repository, monkeypatch, capsys):
    monkeypatch.chdir(repository)
    main = tool_main('tools/print_config.py')
    assert main('configs/quickstart.py', '--cfg-options', 'total_batch_size=4') == 0
    lines = capsys.readouterr().out.splitlines()
    assert 'model.backbone.embed_dims = 128  # configs/quickstart.py' in lines
    assert "model.backbone.type = 'VisionTransformer'  # configs/_base_/models/dpt_vit-b16.py" in lines
    assert 'total_batch_size = 4  # command line' in lines
    assert 'train_dataloader.dataset.pipeline = [  # configs/_base_/datasets/quickstart_96x128.py' in lines
    assert "    {'type': 'LoadImageFromFile'}," in lines
    assert main('configs/gone.py') == 1
    assert 'config file configs/gone.py does not exist' in capsys.readouterr().err
    assert main('configs/quickstart.py', '--cfg-options', 'total_batch_sise=4') == 1
    assert 'did you mean total_batch_size' in capsys.readouterr().err
