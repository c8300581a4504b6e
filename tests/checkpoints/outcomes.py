"""What a load did to a module whose tensors were all -1."""

import re

import pytest
import torch


def assert_untouched(module):
    assert all(bool((value == -1).all()) for value in module.state_dict().values())


def assert_holds(module, tensors):
    for key, value in module.state_dict().items():
        torch.testing.assert_close(value, tensors[key].to(value.dtype), rtol=0, atol=0, msg=key)


def refused(load, module, path, *words, **kwargs):
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        load(module, path, **kwargs)
    assert_untouched(module)
    for word in words:
        assert word in str(caught.value)
    return str(caught.value)
