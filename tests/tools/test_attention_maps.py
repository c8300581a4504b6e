"""``tools/attention_maps.py`` as a user runs it."""

import cv2


def test_pictures_of_an_image_and_of_a_pixel(call, trained, tiny_config, pictures, tmp_path):
    out = tmp_path / 'attention.png'
    arguments = (tiny_config, trained / 'iter_4.pth', pictures / 'a.png', '--device', 'cpu', '--out', out)
    assert call('attention_maps', *arguments)[0] == 0
    whole = cv2.imread(str(out))
    assert call('attention_maps', *arguments, '--pixel', 96, 130)[0] == 0  # the last one of 97x131
    assert cv2.imread(str(out)).shape == whole.shape
