"""The model card of a published model, made from what its checkpoint says about the run."""

from collections.abc import Mapping, Sequence
from typing import Any

from dpt.config.walk import innermost_datasets

TASKS = {'DepthEstimator': ('depth-estimation', 'monocular depth estimation')}
SEGMENTATION = ('image-segmentation', 'semantic segmentation')
PATHS = ('data_root', 'data_prefix', 'ann_file', 'pipeline', 'type', 'metainfo')
"""Arguments of a data set that are shown elsewhere or not at all."""


def model_card(
    repo_id: str,
    licence: str,
    meta: Mapping[str, Any],
    config: Mapping[str, Any],
    parameters: int,
    pictures: Sequence[str] = (),
) -> str:
    """Return the text of ``README.md``.

    Args:
        repo_id: ``OWNER/NAME``.
        licence: Licence of the weights, as an identifier of Hugging Face such as ``'apache-2.0'``.
        meta: Metadata of the checkpoint: ``dataset_meta``, ``metric``, ``iter``, ``dpt_version``.
        config: Values of its config.
        parameters: Number of parameters.
        pictures: Paths of pictures in the repository.
    """
    tag, task = TASKS.get(config['model'].get('type', ''), SEGMENTATION)
    classes = (meta.get('dataset_meta') or {}).get('classes') or ()
    backbone = config['model']['backbone']
    name = backbone.get('model_name') or backbone['type']
    parts = [
        _front_matter(repo_id, licence, tag, meta.get('metric') or {}, config),
        f'# {repo_id.partition("/")[2]}',
        f'A Dense Prediction Transformer ([DPT](https://arxiv.org/abs/2103.13413)) for {task} with the '
        f'backbone {name}; {parameters / 1e6:.1f} M parameters. Trained with dpt {meta["dpt_version"]}.',
        _usage(repo_id, tag),
        *([f'## Classes\n\n{len(classes)}: {", ".join(classes)}.'] if classes else []),
        _scores(meta, config),
        f'## Protocol\n\n{_lines(_protocol(config))}',
        f'## Training\n\n{_lines(_training(config, meta))}',
        f'## Not measured\n\n{_lines(_not_measured(meta))}',
        _pictures(pictures),
        f'## Licence\n\nThe weights: {licence}. The data and the pretrained weights above have licences of '
        'their own, which may restrict the use of this model.',
    ]
    return '\n\n'.join(parts) + '\n'


def _front_matter(
    repo_id: str, licence: str, tag: str, metric: Mapping[str, float], config: Mapping[str, Any]
) -> str:
    lines = [
        '---',
        f'license: {licence}',
        'library_name: dpt',
        f'pipeline_tag: {tag}',
        'tags: [dpt, dense-prediction-transformer]',
    ]
    if metric:
        data = _dataset(config).get('type', 'unknown')
        lines += [
            'model-index:',
            f'- name: {repo_id.partition("/")[2]}',
            '  results:',
            f'  - task: {{type: {tag}}}',
            f'    dataset: {{name: {data}, type: {data}}}',
            '    metrics:',
            *(f'    - {{type: {name}, value: {value:.4f}}}' for name, value in metric.items()),
        ]
    return '\n'.join([*lines, '---'])


def _usage(repo_id: str, tag: str) -> str:
    told = 'areas()  # percent of the image by class' if tag == SEGMENTATION[0] else 'distances()'
    return (
        f"## Use\n\n```python\nimport dpt\n\nmodel = dpt.load('hf://{repo_id}')\n"
        f"result = model('image.jpg')\nresult.{told}\nresult.save('result.png')\n```\n\n"
        'No code in the file runs. To fine-tune it, set `load_from` in a config of dpt to '
        f"`'hf://{repo_id}'`; `config.py` is that of its training."
    )


def _scores(meta: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    metric = meta.get('metric') or {}
    if not metric:
        return '## Scores\n\nThe checkpoint has no scores: this model has not been measured.'
    dataset = _dataset(config)
    rows = [f'| {name} | {value:.2f} |' for name, value in metric.items()]
    place = ', '.join(f'{key}={dataset[key]!r}' for key in PATHS[:3] if dataset.get(key))
    when = f' at iteration {meta["iter"]}' if 'iter' in meta else ''
    return '\n'.join(
        [
            '## Scores',
            '',
            '| metric | value |',
            '|---|---|',
            *rows,
            '',
            f'By the validation of the training{when}, on {dataset.get("type")} ({place}). To measure it:',
            '',
            '```bash',
            'dpt test config.py model.safetensors',
            '```',
        ]
    )


def _dataset(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the data set that was validated, or else that of the tests."""
    for name in ('val_dataloader', 'test_dataloader'):
        found = [*innermost_datasets((config.get(name) or {}).get('dataset'))]
        if found:
            return found[0]
    return {}


def _protocol(config: Mapping[str, Any]) -> list[str]:
    dataset = _dataset(config)
    test = dict(config['model'].get('test_cfg') or dict(mode='whole'))
    mode = test.pop('mode', 'whole')
    steps = [_call(step) for step in dataset.get('pipeline') or [] if step.get('type') != 'PackSegInputs']
    evaluator = config.get('val_evaluator') or config.get('test_evaluator') or {}
    evaluators = evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]
    given = {key: value for key, value in dataset.items() if key not in PATHS}
    return [
        f'images: {" -> ".join(steps) or "not in the config"}',
        f'prediction: {mode} image{"" if mode == "whole" else "s in windows"}, a single scale, no flip'
        + (f' ({_arguments(test)})' if test else ''),
        f'metric: {", ".join(_call(one) for one in evaluators if one) or "not in the config"}',
        *([f'data set: {_arguments(given)}'] if given else []),
    ]


def _training(config: Mapping[str, Any], meta: Mapping[str, Any]) -> list[str]:
    wrapper = config.get('optim_wrapper') or {}
    loop = {key: value for key, value in (config.get('train_cfg') or {}).items() if key.startswith('max_')}
    start = (config['model']['backbone'].get('init_cfg') or {}).get('checkpoint')
    facts = {
        'length': _arguments(loop),
        'batch': config.get('total_batch_size') or (config.get('train_dataloader') or {}).get('batch_size'),
        'optimiser': _call(wrapper['optimizer']) if wrapper.get('optimizer') else None,
        'pretrained weights': config.get('load_from') or start or 'none',
        'seed': (config.get('randomness') or {}).get('seed'),
        'iterations of this checkpoint': meta.get('iter'),
    }
    return [f'{name}: {value}' for name, value in facts.items() if value not in (None, '')]


def _not_measured(meta: Mapping[str, Any]) -> list[str]:
    measured = ', '.join(meta.get('metric') or {})
    return [
        f'anything but {measured} on the data named above' if measured else 'any score',
        'several scales and flips at test time',
        'other data, such as other cameras, weather or places',
        'other seeds: the scores are those of one run, whose best checkpoint was chosen on the same images',
        'speed and memory',
    ]


def _pictures(pictures: Sequence[str]) -> str:
    shown = '\n'.join(f'![prediction]({path})' for path in pictures)
    return f'## Pictures\n\n{shown or "None were given."}'


def _call(part: Mapping[str, Any]) -> str:
    return f'{part.get("type")}({_arguments({k: v for k, v in part.items() if k != "type"})})'


def _arguments(values: Mapping[str, Any]) -> str:
    return ', '.join(f'{key}={value!r}' for key, value in values.items())


def _lines(items: Sequence[str]) -> str:
    return '\n'.join(f'- {item}' for item in items)
