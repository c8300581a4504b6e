"""Prepare a config for ``tools/test.py``: test-time augmentation and output files."""

from pathlib import Path

from mmengine.config import Config, ConfigDict

from dpt.config.walk import first_test_dataset, innermost_datasets, transforms_of, without_annotations

RATIO_BASES = ('test_scale', 'image')
"""Size that ``tta_ratios`` multiply: ``test_scale`` (MMSegmentation 0.x, and the published figures) or the
original image size (MMSegmentation 1.x)."""


def use_test_time_augmentation(config: Config) -> None:
    """Make the test run ``tta_model`` on ``tta_pipeline``, at the scales that ``tta_ratios_of`` selects.

    Without ``tta_ratios_of``, the scales in ``tta_pipeline`` are used unchanged.

    Raises:
        ValueError: If ``tta_model`` or ``tta_pipeline`` is missing, or ``tta_ratios_of`` is not one of
            ``RATIO_BASES`` or contradicts the pipeline.
    """
    for key in ('tta_model', 'tta_pipeline'):
        if key not in config:
            raise ValueError(f'--aug-test needs {key} in the config; see configs/_base_/ for an example')
    if config.get('tta_ratios_of') is not None:
        _set_scales(config)
    for dataset in innermost_datasets(config.test_dataloader.dataset):
        dataset['pipeline'] = config.tta_pipeline
    config.model = ConfigDict(**config.tta_model, module=config.model)


def _set_scales(config: Config) -> None:
    """Write the scales selected by ``tta_ratios_of`` into ``tta_pipeline``."""
    base = config.tta_ratios_of
    if base not in RATIO_BASES:
        raise ValueError(
            f'tta_ratios_of={base!r} must be one of {RATIO_BASES}, or None to use tta_pipeline unchanged'
        )
    for key in ('tta_ratios', 'test_scale'):
        if config.get(key) is None:
            raise ValueError(f'tta_ratios_of={base!r} needs {key} in the config, or set tta_ratios_of=None')
    known = {name: _scales(config, name) for name in RATIO_BASES}
    views = _scale_choices(config.tta_pipeline)
    if len(views) != 1 or [_scale_of(view) for view in views[0]] not in known.values():
        raise ValueError(
            f'tta_pipeline resizes by {[_scale_of(view) for one in views for view in one]}, which are not '
            f'the ratios tta_ratios={tuple(config.tta_ratios)} of test_scale={tuple(config.test_scale)} or '
            'of the image: change them together, or set tta_ratios_of=None to use tta_pipeline unchanged'
        )
    for view, scale in zip(views[0], known[base], strict=True):
        view.pop('scale', None)
        view.pop('scale_factor', None)
        view.update(scale)


def _scales(config: Config, base: str) -> list[dict]:
    """Return the scales as arguments of ``Resize``."""
    if base == 'image':
        return [dict(scale_factor=ratio) for ratio in config.tta_ratios]
    width, height = config.test_scale
    return [dict(scale=(int(width * ratio), int(height * ratio))) for ratio in config.tta_ratios]


def _scale_of(resize: dict) -> dict:
    """Return the scale of one ``Resize``, in the form of :func:`_scales`."""
    if resize.get('scale') is not None:
        return dict(scale=tuple(resize['scale']))
    return dict(scale_factor=resize.get('scale_factor'))


def _scale_choices(pipeline: list) -> list[list]:
    """Return the lists inside ``TestTimeAug`` that contain only ``Resize``."""
    return [
        views
        for transform in pipeline
        if transform['type'] == 'TestTimeAug'
        for views in transform['transforms']
        if views and all(view['type'] == 'Resize' for view in views)
    ]


def write_results(
    config: Config, *, out_dir: str | None = None, show_dir: str | None = None, scores: str | None = None
) -> None:
    """Make the test write label maps to ``out_dir``, overlays to ``show_dir`` and scores to ``scores``.

    Raises:
        ValueError: If ``out_dir`` or ``show_dir`` is a folder of the data set.
        OSError: If the folder of ``scores`` cannot be created.
    """
    _protect_data(config, {'--out': out_dir, '--show-dir': show_dir})
    evaluators = config.test_evaluator
    for evaluator in evaluators if isinstance(evaluators, list) else [evaluators]:
        if out_dir is not None:
            evaluator.output_dir = out_dir
        if scores is not None:
            Path(scores).parent.mkdir(parents=True, exist_ok=True)  # fails before the test, not after it
            evaluator.scores_file = scores
    if show_dir is not None:
        hook = config.default_hooks.setdefault('visualization', dict(type='SegVisualizationHook'))
        hook.update(draw=True, interval=1, num_images=None, out_dir=show_dir)


def _protect_data(config: Config, folders: dict[str, str | None]) -> None:
    sources = [
        Path(dataset.get('data_root') or '', prefix).resolve()
        for dataset in innermost_datasets(config.test_dataloader.dataset)
        for prefix in (dataset.get('data_prefix') or {}).values()
        if prefix
    ]
    for argument, folder in folders.items():
        target = Path(folder).resolve() if folder else None
        if target and any(target == source or source in target.parents for source in sources):
            raise ValueError(f'{argument} {folder} is a folder of the data set; choose another one')


def skip_absent_masks(config: Config) -> None:
    """Remove ``LoadAnnotations`` from test data sets with ``test_mode=True``, which have no masks."""
    for dataset in innermost_datasets(config.test_dataloader.dataset):
        if dataset.get('test_mode'):
            dataset['pipeline'] = without_annotations(dataset['pipeline'])


def describe_protocol(config: Config) -> list[str]:
    """Describe how images are resized, flipped, padded and predicted, one line each."""
    tta = 'tta_model' in config and config.model.type == config.tta_model.type
    model = config.model.module if tta else config.model
    scales, flips = [], set()
    for transform in transforms_of(first_test_dataset(config)['pipeline']):
        if transform['type'] == 'Resize':
            scale = transform.get('scale')
            keep = ' at most, aspect kept' if transform.get('keep_ratio') else ''
            scales.append(f'{scale[0]}x{scale[1]}{keep}' if scale else f'x{transform.get("scale_factor")}')
        if transform['type'] == 'RandomFlip':
            flips.add(bool(transform.get('prob')))
    return [
        f'scale (width x height): {"; ".join(scales) or "as on disk"}',
        f'flip: {"with and without" if flips == {True, False} else "no"}',
        f'mode: {dict(model.get("test_cfg") or dict(mode="whole"))}',
        f'padding: {dict(model.data_preprocessor.get("test_cfg") or {}) or "none"}',
    ]
