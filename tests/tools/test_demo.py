"""``tools/demo.py``: the page answers with overlay, legend and areas."""

import os

import cv2
import numpy as np
import pytest

from dpt.apis import Depth, Predictor, Segmentation


def test_the_table_shows_classes_by_area_and_escapes_their_names(tool_module):
    labels = np.zeros((10, 10), np.uint8)
    labels[:3] = 1
    palette = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    result = Segmentation('x', np.zeros((10, 10, 3), np.uint8), labels, ('<b>road</b>', 'car'), palette)
    table = tool_module('tools/demo.py').area_table(result)
    assert table.index('70.0 %') < table.index('30.0 %')
    assert '&lt;b&gt;road' in table
    assert 'rgb(4,5,6)' in table


def test_the_table_of_depth_has_its_range(tool_module):
    depth = np.geomspace(2, 8, 99, dtype=np.float32).reshape(9, 11)
    result = Depth('x', np.zeros((9, 11, 3), np.uint8), depth)
    table = tool_module('tools/demo.py').table_of(result)
    assert [table.index(text) for text in ('2.00 m', '4.00 m', '8.00 m')]
    assert tool_module('tools/demo.py').table_of(Depth('x', result.image, depth, relative=True)) == ''


def test_the_page_segments_an_rgb_image(tool_module, model_file, pictures, monkeypatch):
    monkeypatch.setitem(os.environ, 'GRADIO_ANALYTICS_ENABLED', 'False')
    pytest.importorskip('gradio')
    predictor = Predictor(model_file, device='cpu')
    page = tool_module('tools/demo.py').build_page(predictor, 'title')
    segment = next(block.fn for block in page.fns.values() if block.api_name == 'segment')
    image = cv2.imread(str(pictures / 'a.png'))
    result, overlay, table = segment(image[..., ::-1], 0.5)
    assert np.array_equal(result.labels, predictor(image).labels)
    assert np.array_equal(overlay, predictor(image).overlay(0.5))
    assert '%' in table
    assert segment(None, 0.5) == (None, None, '')
