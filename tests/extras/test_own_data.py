"""A user's folders become a data set: pairing, kinds of annotation, classes, split, files."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import ConfigDict
from PIL import Image

from dpt.extras.own_data.annotations import (
    IndexReader,
    LabelmeReader,
    Reader,
    image_reader,
    pair,
    read_coco,
)
from dpt.extras.own_data.classes import propose, read_classes
from dpt.extras.own_data.config import path_from, settings_of_classes
from dpt.extras.own_data.dataset import (
    apply_table,
    check_target,
    reads_in_place,
    split,
    survey,
    whole_folder,
    write_dataset,
)

LABELS = np.array([[0, 1, 2, 255]], np.uint8).repeat(3, 0)
COLOURS = np.array([[[0, 0, 0], [255, 0, 0], [0, 0, 255], [9, 9, 9]]], np.uint8).repeat(3, 0)  # RGB


@pytest.fixture
def photos(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Write an image, 3x4, and an annotation by ``write(path)`` for each name; return both folders."""

    def make(write: Callable[[Path], object], *names: str, end: str = '.png') -> tuple[Path, Path]:
        for name in names or ('a', 'b'):
            for folder in ('images', 'masks'):
                (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(tmp_path / 'images' / f'{name}.jpg'), np.zeros((3, 4, 3), np.uint8))
            write(tmp_path / 'masks' / f'{name}{end}')
        return tmp_path / 'images', tmp_path / 'masks'

    return make


def masks(labels: np.ndarray) -> Callable[[Path], object]:
    return lambda path: cv2.imwrite(str(path), labels)


def look(images: Path, annotations: Path):
    pairs = pair(images, annotations)
    reader = image_reader(annotations / pairs.found[0][1])
    return pairs, reader, survey(pairs, reader, 1)


@pytest.mark.parametrize('end', ['.png', '_L.png', '_mask.tif'])
def test_annotations_are_found_by_name_and_common_end(photos, end: str) -> None:
    images, folder = photos(masks(LABELS), 'a', 'a_1', 'sub/c', end=end)
    cv2.imwrite(str(images / 'alone.jpg'), np.zeros((3, 4, 3), np.uint8))
    pairs = pair(images, folder)
    assert pairs.found == [(f'{name}.jpg', f'{name}{end}') for name in ('a', 'a_1', 'sub/c')]
    assert (pairs.mask_end, pairs.image_suffix) == (end, '.jpg')
    assert pairs.notes == ['skipped 1 images without annotation, such as alone.jpg']


@pytest.mark.parametrize(
    ('image_end', 'mask_end'), [('_img.jpg', '_gt.png'), ('_leftImg8bit.png', '_gtFine_labelIds.png')]
)
def test_images_and_masks_may_have_two_endings(tmp_path: Path, image_end: str, mask_end: str) -> None:
    for folder, end in (('i/city', image_end), ('m/city', mask_end)):
        (tmp_path / folder).mkdir(parents=True)
        for name in ('a_0', 'a_1', 'b_0'):
            cv2.imwrite(str(tmp_path / folder / f'{name}{end}'), LABELS)
    (tmp_path / 'm' / 'city' / 'a_0_gtFine_polygons.json').write_text('{}')
    pairs = pair(tmp_path / 'i', tmp_path / 'm')
    names = ('city/a_0', 'city/a_1', 'city/b_0')
    assert pairs.found == [(f'{name}{image_end}', f'{name}{mask_end}') for name in names]
    assert (pairs.image_suffix, pairs.mask_end) == (image_end, mask_end)
    assert pairs.notes == ['1 annotations are not used, such as city/a_0_gtFine_polygons.json']
    for name in names:
        cv2.imwrite(str(tmp_path / 'm' / f'{name}_gtFine_color.png'), LABELS)
    if mask_end == '_gtFine_labelIds.png':
        with pytest.raises(ValueError, match='equally many annotations end in _gtFine_color.png and in _gtF'):
            pair(tmp_path / 'i', tmp_path / 'm')
    chosen = pair(tmp_path / 'i', tmp_path / 'm', image_end, '_gtFine_color.png')
    assert chosen.found[0] == (f'city/a_0{image_end}', 'city/a_0_gtFine_color.png')


@pytest.mark.parametrize('ends', [('.png', '_mask.png'), ('.tif', '.png'), ('_rgb.png', '_label.png')])
def test_images_and_masks_may_share_a_folder(tmp_path: Path, ends: tuple[str, str]) -> None:
    for end in ends:
        for name in ('1', '10', '2'):
            cv2.imwrite(str(tmp_path / f'{name}{end}'), LABELS)
    expected = [(f'{name}{ends[0]}', f'{name}{ends[1]}') for name in ('1', '10', '2')]
    assert pair(tmp_path, tmp_path, *ends).found == expected
    if ends[1] == '_mask.png':
        assert pair(tmp_path, tmp_path).found == expected
    else:
        with pytest.raises(ValueError, match='give the endings of both with --img-suffix'):
            pair(tmp_path, tmp_path)
    assert pair(tmp_path, tmp_path, seg_map_suffix=ends[1]).found == expected


def test_linked_folders_are_followed(photos, tmp_path: Path) -> None:
    images, folder = photos(masks(LABELS), 'a', 'b')
    for one in (images, folder):
        (tmp_path / 'linked' / one.name).mkdir(parents=True)
        (tmp_path / 'linked' / one.name / 'seq').symlink_to(one)
        (one / 'loop').symlink_to(one)
    pairs = pair(tmp_path / 'linked' / 'images', tmp_path / 'linked' / 'masks')
    assert [image for image, _ in pairs.found] == ['seq/a.jpg', 'seq/b.jpg']


def test_names_in_two_unicode_forms_are_told(photos) -> None:
    images, folder = photos(masks(LABELS), 'u\u0308ber', 'b')
    (folder / 'u\u0308ber.png').rename(folder / '\u00fcber.png')
    (note, _) = pair(images, folder).notes
    assert r"(the names 'u\u0308ber.jpg' and '\xfcber.png' are written differently)" in note


def test_jpeg_masks_are_refused(photos) -> None:
    images, folder = photos(masks(LABELS), 'a', end='.jpg')
    with pytest.raises(ValueError, match='JPEG files cannot be masks, .* save them as PNG'):
        pair(images, folder)


def test_folders_without_common_names_are_refused(photos, tmp_path: Path) -> None:
    images, folder = photos(masks(LABELS), 'a')
    (folder / 'a.png').rename(folder / 'z.png')
    with pytest.raises(
        ValueError, match=r'no file in .*masks matches the name of an image .*z.png and a.jpg'
    ):
        pair(images, folder)
    with pytest.raises(FileNotFoundError, match='nowhere is not a folder'):
        pair(images, tmp_path / 'nowhere')


def labels(*present: int) -> tuple[dict[int, int], Reader]:
    return dict.fromkeys(present, 9), IndexReader('index masks', True)


def test_names_of_a_longer_list_go_by_label_value() -> None:
    names = read_classes('a,b,c,d')

    def named(*present: int, ignore: list[str] | None = None) -> dict[int, str]:
        proposal = propose(*labels(*present), names, ignore)
        assert proposal.classes == ['a', 'b', 'c', 'd']
        named = {number: proposal.table[number] for number in present if str(number) not in (ignore or ())}
        return {number: proposal.classes[label] for number, label in named.items()}

    assert named(1, 2, 4) == {1: 'a', 2: 'b', 4: 'd'}
    assert propose(*labels(1, 2, 4), names).reduce_zero_label
    assert propose(*labels(1, 2, 4), names).notes[-1] == 'classes without pixels: c'
    assert named(0, 1, 3) == {0: 'a', 1: 'b', 3: 'd'}
    assert named(0, 10, 20, 30) == {0: 'a', 10: 'b', 20: 'c', 30: 'd'}
    with pytest.raises(ValueError, match='which may count from 0 or from 1: pass --ignore 255'):
        named(1, 2, 3)
    assert named(1, 2, 3, ignore=['255']) == {1: 'b', 2: 'c', 3: 'd'}
    assert named(1, 2, 3, ignore=['0', '255']) == {1: 'a', 2: 'b', 3: 'c'}
    with pytest.raises(ValueError, match=r'4 names for 4 classes .*: 0; 1; 2; 4; name all, or pass'):
        named(0, 1, 2, 4)  # 0 means 'no label', and d is 4, not 3
    assert named(0, 1, 2, 4, ignore=['0']) == {1: 'a', 2: 'b', 4: 'd'}


@pytest.mark.parametrize(
    'content',
    [
        b'\xef\xbb\xbfroad 128 64 128\r\nsky,0,0,142\r\n\r\n',
        'name,r,g,b\nroad,128,64,128\nsky,0,0,142\n'.encode('utf-16'),
        b'# names\n#804080 road\nsky #00008E\n \n',
    ],
)
def test_class_files_are_read_in_every_form(tmp_path: Path, content: bytes) -> None:
    (tmp_path / 'labels.txt').write_bytes(content)
    assert read_classes(str(tmp_path / 'labels.txt')) == [('road', (128, 64, 128)), ('sky', (0, 0, 142))]
    (tmp_path / 'labels.txt').write_bytes(b'caf\xe9\n')
    with pytest.raises(ValueError, match=r'labels.txt is not text: .* save it as UTF-8'):
        read_classes(str(tmp_path / 'labels.txt'))


@pytest.mark.parametrize('suffix', ['jpg', 'tif'])
def test_exif_orientation_counts_for_the_size(photos, suffix: str) -> None:
    images, folder = photos(masks(LABELS))
    tags = Image.Exif()
    tags[274] = 6
    for name in 'ab':
        (images / f'{name}.jpg').unlink()
        Image.new('RGB', (3, 4)).save(images / f'{name}.{suffix}', exif=tags)
    Image.new('L', (3, 4)).save(folder / 'b.png')
    _, _, found = look(images, folder)
    assert found.sizes == {f'a.{suffix}': (3, 4)}
    assert found.rotated == {f'a.{suffix}': 6, f'b.{suffix}': 6}
    assert 'if the masks were drawn on the stored pixels, remove the orientation' in str(found.problems)


@pytest.mark.parametrize(
    ('labels', 'names', 'ignore', 'classes', 'table', 'in_place'),
    [
        (LABELS, None, None, ['class_0', 'class_1', 'class_2'], {0: 0, 1: 1, 2: 2, 255: 255}, True),
        (LABELS, 'road,car', ['0', '255'], ['road', 'car'], {0: 255, 1: 0, 2: 1, 255: 255}, True),
        (LABELS * 10, 'a,b,c', ['246'], ['a', 'b', 'c'], {0: 0, 10: 1, 20: 2, 246: 255}, False),
        (np.uint8([[0, 0, 255, 255]] * 3), None, None, ['background', 'foreground'], {0: 0, 255: 1}, False),
    ],
    ids=['from 0', '0 is ignored', 'with gaps', 'black and white'],
)
def test_labels_of_index_masks_become_classes(
    photos, labels, names, ignore, classes, table, in_place: bool
) -> None:
    pairs, reader, found = look(*photos(masks(labels)))
    assert sum(found.pixels.values()) == 2 * 3 * 4
    proposal = propose(found.pixels, reader, read_classes(names) if names else None, ignore)
    assert (proposal.classes, proposal.table) == (classes, table)
    assert reads_in_place(pairs, proposal) == proposal.in_place == in_place
    assert proposal.reduce_zero_label == (table[0] == 255)
    if not names and in_place:
        assert "if it means 'no label', add --ignore 0" in proposal.notes[0]
    expected = [[table[label] for label in row] for row in labels.tolist()]
    assert apply_table(labels, proposal.table).tolist() == expected


def test_a_palette_gives_the_colours(photos) -> None:
    def indices(path: Path) -> None:
        image = Image.frombytes('P', (4, 3), LABELS.tobytes())
        image.putpalette([9, 8, 7, 10, 20, 30, 1, 2, 3, *[0] * 759])
        image.save(path)

    _, reader, found = look(*photos(indices))
    proposal = propose(found.pixels, reader)
    assert proposal.palette == [(9, 8, 7), (10, 20, 30), (1, 2, 3)]
    assert proposal.in_place


def test_colours_become_classes_in_the_order_of_the_file(photos, tmp_path: Path) -> None:
    _, reader, found = look(*photos(masks(COLOURS[..., ::-1])))
    (tmp_path / 'labels.txt').write_text('# names\n0 0 255 sky blue\nred: 255,0,0\n0,0,0 night\n')
    wanted = read_classes(str(tmp_path / 'labels.txt'))
    with pytest.raises(ValueError, match='no name for 1 colours of the masks: 9,9,9'):
        propose(found.pixels, reader, wanted)
    proposal = propose(found.pixels, reader, wanted, ['#090909'])
    assert proposal.classes == ['sky blue', 'red', 'night']
    assert proposal.palette == [(0, 0, 255), (255, 0, 0), (0, 0, 0)]
    labels = apply_table(reader.read(tmp_path / 'masks' / 'a.png', (3, 4)), proposal.table)
    assert labels.tolist() == [[2, 1, 0, 255]] * 3
    assert propose(found.pixels, reader).classes[0] == 'colour_000000'


def test_a_name_with_several_colours_is_one_class(photos, tmp_path: Path) -> None:
    _, reader, found = look(*photos(masks(COLOURS[..., ::-1])))
    (tmp_path / 'labels.txt').write_text(
        '9 9 9 car\n0 0 255 Void\n255 0 0 car\n0 0 0 road\n1 1 1 Void\n2 2 2 train\n'
    )
    proposal = propose(found.pixels, reader, read_classes(str(tmp_path / 'labels.txt')), ['Void'])
    assert (proposal.classes, proposal.palette) == (
        ['car', 'road', 'train'],
        [(9, 9, 9), (0, 0, 0), (2, 2, 2)],
    )
    labels = apply_table(reader.read(tmp_path / 'masks' / 'a.png', (3, 4)), proposal.table)
    assert labels.tolist() == [[1, 0, 255, 0]] * 3
    assert proposal.notes[-1] == 'classes without pixels: train'


@pytest.mark.parametrize(
    ('names', 'message'),
    [
        ('0 0 300 road\n255 0 0 car\n', r'\(0, 0, 300\) is not a colour'),
        ('9 9 9 car\n9 9 9 bus\n', r'\(9, 9, 9\) has several names'),
    ],
)
def test_wrong_files_of_names_are_refused(tmp_path: Path, names: str, message: str) -> None:
    (tmp_path / 'labels.txt').write_text(names)
    with pytest.raises(ValueError, match=message):
        read_classes(str(tmp_path / 'labels.txt'))


def test_mistakes_in_names_are_explained(photos, tmp_path: Path) -> None:
    _, reader, found = look(*photos(masks(COLOURS[:, :3, ::-1].repeat(2, 1)[:, :4])))
    with pytest.raises(FileNotFoundError, match=r'lists/labels.txt does not exist'):
        read_classes('lists/labels.txt')
    assert read_classes('road/path,car') == [('road/path', None), ('car', None)]
    (tmp_path / 'labels.txt').write_text('0 0 255 road\n255 0 0 car\n0 0 0 Void\n')
    wanted = read_classes(str(tmp_path / 'labels.txt'))
    with pytest.raises(ValueError, match=r'--ignore void: .*; did you mean Void\?'):
        propose(found.pixels, reader, wanted, ['void'])
    with pytest.raises(ValueError, match='separate several with spaces: Void car'):
        propose(found.pixels, reader, wanted, ['Void,car'])


def test_paths_in_the_config_are_relative_if_possible(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'elsewhere' / 'data').mkdir(parents=True)
    assert path_from(Path('data/own'), Path('data/photos')) == '../photos'
    assert path_from(Path('data/own'), tmp_path / 'photos') == str(tmp_path / 'photos')
    assert path_from(tmp_path / 'own', Path('photos')) == str(tmp_path / 'photos')
    (tmp_path / 'data').symlink_to('elsewhere/data')  # from where ../.. is another folder
    assert path_from(Path('data/own'), Path('photos')) == str(tmp_path / 'photos')
    assert path_from(Path('data/own'), Path('data/photos')) == '../photos'


def test_photographs_are_refused_as_masks(photos) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    images, folder = photos(masks(noise), 'a')
    cv2.imwrite(str(images / 'a.jpg'), np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(ValueError, match='more than 1000 distinct values up to a.jpg'):
        look(images, folder)


def test_different_sizes_are_problems(photos) -> None:
    images, folder = photos(masks(LABELS))
    cv2.imwrite(str(folder / 'b.png'), np.zeros((4, 3), np.uint8))
    (folder / 'a.png').write_bytes(b'\x89PNG')
    with pytest.raises(ValueError, match=r'a.png is damaged or not an image'):
        look(images, folder)
    masks(LABELS)(folder / 'a.png')
    _, _, found = look(images, folder)
    assert found.problems == {'b.jpg': 'image b.jpg is 3x4 (height x width), but its mask b.png is 4x3'}


def test_labelme_polygons_are_painted_in_order(photos) -> None:
    shapes = [
        dict(label='wall', points=[[0, 0], [3, 0], [3, 2], [0, 2]], shape_type='polygon'),
        dict(label='door', points=[[2, 0], [3, 2]], shape_type='rectangle'),
        dict(label='wall', points=[[0, 0], [1, 1]], shape_type='line'),
    ]
    content = json.dumps(dict(shapes=shapes, imageHeight=3, imageWidth=4))
    images, folder = photos(lambda path: path.write_text(content), end='.json')
    pairs = pair(images, folder)
    reader = LabelmeReader.scan(pairs)
    assert reader.names == {0: 'background', 1: 'door', 2: 'wall'}
    assert reader.read(folder / 'a.json', (3, 4)).tolist() == [[2, 2, 1, 1]] * 3
    proposal = propose(survey(pairs, reader, 1).pixels, reader)
    assert proposal.classes == ['door', 'wall']  # nothing is uncovered
    assert pairs.notes == ['skipped 2 shapes that are not areas: 2 line']
    (folder / 'b.json').write_text('{}')
    assert "b.json has no 'shapes'" in survey(pairs, LabelmeReader.scan(pairs), 1).problems['b.jpg']


def test_labelme_masks_are_painted(photos) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.array([[True, False], [True, True]])).save(buffer, 'PNG')
    shape = dict(label='x', points=[[1, 1], [2, 2]], shape_type='mask')
    shape['mask'] = base64.b64encode(buffer.getvalue()).decode()
    images, folder = photos(lambda path: path.write_text(json.dumps(dict(shapes=[shape]))), end='.json')
    reader = LabelmeReader.scan(pair(images, folder))
    assert reader.read(folder / 'a.json', (3, 4)).tolist() == [[0] * 4, [0, 1, 0, 0], [0, 1, 1, 0]]
    (folder / 'b.json').write_text(json.dumps(dict(shapes=[dict(shape, mask='junk'), dict(shape, points=1)])))
    pairs = pair(images, folder)
    assert 'b.json: the shape x cannot be drawn' in survey(pairs, reader, 1).problems['b.jpg']


def test_coco_polygons_and_run_lengths_are_painted(photos, tmp_path: Path) -> None:
    mask = pytest.importorskip('pycocotools.mask')
    images, _ = photos(masks(LABELS), 'a')
    covered = np.zeros((3, 4), np.uint8, order='F')
    covered[:, 3] = 1
    encoded = mask.encode(covered)
    run_length = dict(encoded, counts=encoded['counts'].decode())
    content = dict(
        images=[dict(id=7, file_name='a.jpg')],
        categories=[dict(id=5, name='cat'), dict(id=2, name='ant'), dict(id=9, name='unused')],
        annotations=[
            dict(id=1, image_id=7, category_id=5, area=3, segmentation=run_length),
            dict(id=2, image_id=7, category_id=2, area=9, segmentation=[[1, 0, 4, 0, 4, 3, 1, 3]]),
        ],
    )
    (tmp_path / 'coco.json').write_text(json.dumps(content))
    pairs, reader = read_coco(images, tmp_path / 'coco.json')
    proposal = propose(survey(pairs, reader, 1).pixels, reader)
    assert proposal.classes == ['background', 'ant', 'cat']
    assert reader.read(Path('a.jpg'), (3, 4)).tolist() == [[0, 1, 1, 2]] * 3
    (tmp_path / 'coco.json').write_text('{"images": []}')
    with pytest.raises(ValueError, match='is not a COCO file'):
        read_coco(images, tmp_path / 'coco.json')


def test_new_images_move_no_others() -> None:
    few = [f'{number}.jpg' for number in range(200)]
    many = [*few, *(f'new_{number}.png' for number in range(200))]
    before, after = split(few, 0.2, 0), split(many, 0.2, 0)
    assert set(before['validation']) == set(after['validation']) & set(few)
    assert 20 <= len(before['validation']) <= 60
    assert split(few[::-1], 0.2, 0) == before
    assert split(few, 0.2, 1) != before
    assert len(split(['a.jpg', 'b.jpg'], 0.01, 0)['validation']) == 1


def test_folders_named_train_and_val_define_the_split() -> None:
    lists = split(['train/b.jpg', 'train/a.jpg', 'val/c.jpg', 'test/d.jpg'], 0.2, 0)
    assert lists == dict(
        training=['train/a.jpg', 'train/b.jpg'], validation=['val/c.jpg'], test=['test/d.jpg']
    )


def test_images_with_several_suffixes_get_converted_masks(photos, tmp_path: Path) -> None:
    images, folder = photos(masks(LABELS))
    (images / 'b.jpg').rename(images / 'b.JPG')
    pairs, reader, found = look(images, folder)
    proposal = propose(found.pixels, reader)
    assert proposal.in_place
    assert not reads_in_place(pairs, proposal)
    lists = dict(training=['a.jpg'], validation=['b.JPG'])
    write_dataset(tmp_path / 'out', pairs, reader, proposal, lists, {})
    written = sorted(path.name for path in (tmp_path / 'out' / 'annotations').iterdir())
    assert written == ['a.jpg.png', 'b.JPG.png']
    assert (tmp_path / 'out' / 'splits' / 'validation.txt').read_text() == 'b.JPG\n'


def test_folders_of_the_user_are_never_replaced(photos, tmp_path: Path) -> None:
    images, folder = photos(masks(LABELS))
    for out in (images, images / 'new', tmp_path):
        with pytest.raises(ValueError, match='overlaps with'):
            check_target(out, (images, folder), True)
    (tmp_path / 'other').mkdir()
    with pytest.raises(ValueError, match='was not created by this tool'):
        check_target(tmp_path / 'other', (images, folder), True)


def test_an_interrupted_folder_is_unchanged(tmp_path: Path) -> None:
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'old').touch()

    def interrupted() -> None:
        with whole_folder(tmp_path / 'out') as folder:
            (folder / 'half').touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in tmp_path.rglob('*')] == ['out', 'old']
    with whole_folder(tmp_path / 'out') as folder:
        (folder / 'new').touch()
    assert [path.name for path in tmp_path.rglob('*')] == ['out', 'new']


def test_class_weights_of_several_losses_are_removed() -> None:
    focal = dict(type='FocalLoss', gamma=1.0)
    losses = [dict(type='CrossEntropyLoss', class_weight=[1.0, 2.0]), focal]
    (line,) = settings_of_classes(ConfigDict(loss=losses, auxiliary_loss=[focal]))
    assert line == f'loss={[dict(type="CrossEntropyLoss"), focal]}'
