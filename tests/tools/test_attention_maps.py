"""``tools/attention_maps.py`` as a user runs it."""

import cv2


def test_picture_and_mistakes(tool_main, trained, tiny_config, pictures, tmp_path, capsys):
    main = tool_main('tools/attention_maps.py')
    out = tmp_path / 'attention.png'
    common = (tiny_config, trained / 'iter_4.pth', pictures / 'a.png', '--device', 'cpu', '--out', out)
    assert main(*common) == 0
    whole = cv2.imread(str(out))
    assert main(*common, '--pixel', 96, 130) == 0  # the last one of a file of 97x131
    assert cv2.imread(str(out)).shape == whole.shape
    assert main(*common, '--pixel', 97, 0) == 1
    assert 'outside the image of 97x131' in capsys.readouterr().err
    assert main(*common[:2], pictures / 'gone.png', '--out', out) == 1
    assert 'gone.png does not exist' in capsys.readouterr().err
