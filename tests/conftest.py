"""Fixtures that several test modules share."""

import importlib.metadata
import os
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / 'shared'


def _let_torchvision_import_beside_a_cpu_build() -> None:
    """Declare the operators that torchvision registers fakes for and that a CPU build of torch lacks."""
    try:
        version = importlib.metadata.version('torchvision')
    except importlib.metadata.PackageNotFoundError:
        return
    if '+cpu' not in torch.__version__ or '+cpu' in version:
        return
    library = torch.library.Library('torchvision', 'DEF')
    names = 'nms qnms roi_align _roi_align_backward roi_pool _roi_pool_backward ps_roi_align'
    names += ' _ps_roi_align_backward ps_roi_pool _ps_roi_pool_backward deform_conv2d _deform_conv2d_backward'
    for name in names.split():
        library.define(f'{name}(Tensor x) -> Tensor')
    globals()['_TORCHVISION_LIBRARY'] = library  # the definitions live as long as this object


_let_torchvision_import_beside_a_cpu_build()
torch.set_num_threads(int(os.environ.get('DPT_TEST_THREADS', '2')))


@pytest.fixture(scope='session')
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY


def _shared(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f'{path} is absent: this test needs data that is not part of the repository')
    return path


@pytest.fixture(scope='session')
def camvid_root() -> Path:
    """CamVid in ADE20K's layout."""
    return _shared('data/camvid')


@pytest.fixture(scope='session')
def ade_sample_root() -> Path:
    """Three real ADE20K images with annotations."""
    return _shared('data/ade_sample')


@pytest.fixture(scope='session')
def vit_small_weights() -> Path:
    """Pretrained ViT-S/14 in timm's keys."""
    return _shared('weights/vit_small_patch14_timm_fp16.pth')


@pytest.fixture(autouse=True)
def _default_scope():
    """Every test resolves registered names in the scope 'dpt', as a config with ``default_scope`` does."""
    from mmengine.registry import DefaultScope

    if not DefaultScope.check_instance_created('test'):
        DefaultScope.get_instance('test', scope_name='dpt')
    with DefaultScope.overwrite_default_scope('dpt'):
        yield
