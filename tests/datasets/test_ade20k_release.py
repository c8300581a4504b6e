"""Whether a folder holds all of ADEChallengeData2016, against the lists of its authors."""

import json

import pytest

from dpt.extras.ade20k.release import SPLITS, compare_with_release


@pytest.fixture(scope='module', params=['training', 'validation'])
def listed(request, ade_sample_root):
    """(height, width) by name, as the authors' list has them."""
    lines = (ade_sample_root / f'{request.param}.odgt').read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return {row['fpath_img'].rsplit('/', 1)[1]: (row['height'], row['width']) for row in rows}


def test_a_complete_split_passes(listed):
    assert compare_with_release(listed) == []
    assert compare_with_release(dict(reversed(listed.items()))) == []


def test_missing_images_are_counted_and_the_first_is_named(listed):
    names = sorted(listed)
    partial = {name: size for name, size in listed.items() if name not in (names[1], names[1500])}
    assert compare_with_release(partial) == [
        f'2 of {len(names):,} images are missing, the first {names[1]}',
    ]


def test_another_size_is_told_by_its_block(listed):
    names = sorted(listed)
    height, width = listed[names[1200]]
    for size in ((width + 1, height), (height, width + 1), (2 * height, 2 * width)):
        (line,) = compare_with_release({**listed, names[1200]: size})
        assert line.startswith(f'sizes of {names[1000]} to {names[1999]} differ')


def test_an_image_that_cannot_be_read_is_not_called_resized(listed):
    assert compare_with_release({**listed, min(listed): None}) == []


def test_the_full_release_is_told_by_its_more_images(listed):
    prefix = min(listed)[: -len('00000001.jpg')]
    (line,) = compare_with_release({**listed, f'{prefix}00099999.jpg': (4, 4)})
    assert 'full ADE20K release, the wrong archive' in line


def test_other_names_and_mixed_splits_are_told():
    assert 'not named as in ADEChallengeData2016, such as a.jpg' in compare_with_release({'a.jpg': (4, 4)})[0]
    mixed = {split.name(1): (4, 4) for split in SPLITS}
    assert compare_with_release(mixed) == ['the folder mixes images of training and validation']
