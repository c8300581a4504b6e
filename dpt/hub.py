"""Share models on Hugging Face; loading them is part of :func:`dpt.load`."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from mmengine.config import Config
from torch import Tensor

import dpt
from dpt.checkpoints import dataset_meta, read_meta
from dpt.checkpoints.meta import config_values
from dpt.checkpoints.write import serialise
from dpt.files import write_whole
from dpt.model_card import model_card
from dpt.models.lora import merged
from dpt.visualization.files import encode_picture

WEIGHTS = 'model.safetensors'
CARD = 'README.md'
INSTALL = "pip install 'dense-prediction-transformers[hub]'"


def kept_meta(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of a checkpoint that describe the model rather than the training run."""
    kept: dict[str, Any] = {'dpt_version': dpt.__version__}
    classes = dataset_meta(meta)
    if classes:
        names = {key: classes[key] for key in ('classes', 'palette') if key in classes}
        kept['dataset_meta'] = {**names, 'classes': list(classes['classes'])}
    for key in ('cfg', 'iter'):
        if isinstance(meta.get(key), (str, int)):
            kept[key] = meta[key]
    if isinstance(meta.get('metric'), Mapping):
        kept['metric'] = {key: value for key, value in meta['metric'].items() if isinstance(value, float)}
    return kept


def model_files(
    repo_id: str,
    tensors: Mapping[str, Tensor],
    meta: Mapping[str, Any],
    licence: str,
    pictures: Sequence[bytes] = (),
) -> dict[str, bytes]:
    """Return the content of the files of a shared model by their path.

    Args:
        repo_id: ``OWNER/NAME``.
        tensors: Weights of the model.
        meta: As :func:`kept_meta` returns; its config makes ``config.py`` and the model card.
        licence: Licence of the weights, as an identifier of Hugging Face.
        pictures: Predictions to show, as content of PNG files.

    Raises:
        ValueError: If an argument is not valid, or there is no config, without which nobody could load it.
    """
    owner, _, name = repo_id.partition('/')
    if not owner or not name or '/' in name:
        raise ValueError(f'{repo_id!r} must be OWNER/NAME')
    if not licence:
        raise ValueError(
            "give the licence of the weights, such as 'apache-2.0', 'cc-by-nc-4.0' or 'other'; those of the "
            'data and of the pretrained weights may restrict it'
        )
    if not isinstance(meta.get('cfg'), str):
        raise ValueError('the checkpoint has no config, without which nobody could load the model')
    config = config_values(meta['cfg'])
    shown = {f'pictures/{number}.png': picture for number, picture in enumerate(pictures, 1)}
    count = sum(tensor.numel() for tensor in tensors.values())
    card = model_card(repo_id, licence, meta, config, count, [*shown])
    described = dict(library_name='dpt', dpt_version=dpt.__version__, model_type=config['model']['type'])
    return {
        WEIGHTS: serialise(tensors, meta, '.safetensors'),
        CARD: card.encode(),
        'config.json': json.dumps(described, indent=2).encode(),
        'config.py': Config(config).pretty_text.encode(),
        **shown,
    }


def save_files(files: Mapping[str, bytes], folder: str | Path) -> None:
    """Write the files of :func:`model_files` to a folder, each one whole or not at all.

    Raises:
        OSError: If a file cannot be written.
    """
    for path, content in files.items():
        write_whole(content, Path(folder, path))


def push_files(
    repo_id: str, files: Mapping[str, bytes], *, private: bool = False, token: str | None = None
) -> str:
    """Upload the files of :func:`model_files` in one commit, creating the repository if needed.

    Args:
        repo_id: ``OWNER/NAME``.
        files: Content by path.
        private: Whether only the owner can see a new repository.
        token: Token with the right to write; ``None`` for that of ``hf auth login`` or ``HF_TOKEN``.

    Returns:
        The URL of the repository.

    Raises:
        ValueError: If huggingface_hub is missing, the upload fails, or the hub has stored other weights.
    """
    hub = import_hub(f'pushing to {repo_id}')
    api = hub.HfApi(token=token)
    operations = [
        hub.CommitOperationAdd(path_in_repo=path, path_or_fileobj=content) for path, content in files.items()
    ]
    try:
        url = api.create_repo(repo_id, private=private, exist_ok=True)
        api.create_commit(repo_id, operations, commit_message=f'Upload a model of dpt {dpt.__version__}')
        (stored,) = api.get_paths_info(repo_id, [WEIGHTS])
    except Exception as error:  # several packages raise it: the network, the name or a permission is missing
        cause = ' '.join(str(error).split())[:200]
        raise ValueError(
            f'{repo_id}: the upload failed ({cause}); check the name and the network, and log in with '
            '"hf auth login" as a user with the right to write'
        ) from None
    sent = operations[[*files].index(WEIGHTS)].upload_info.sha256.hex()
    if stored.lfs is not None and stored.lfs.sha256 != sent:
        raise ValueError(
            f'{repo_id}: the hub has stored {WEIGHTS} with SHA-256 {stored.lfs.sha256[:8]} instead of '
            f'{sent[:8]}: push again'
        )
    return str(url)


def import_hub(purpose: str) -> ModuleType:
    """Import huggingface_hub.

    Raises:
        ValueError: If it is missing.
    """
    try:
        import huggingface_hub
    except ImportError:
        raise ValueError(f'{purpose} needs huggingface_hub: {INSTALL}') from None
    return huggingface_hub


class Shared:
    """The part of :class:`dpt.apis.Predictor` that loads models from Hugging Face and shares them."""

    model: Any
    classes: tuple[str, ...]
    palette: np.ndarray
    checkpoint: str | Path
    stream: Callable[..., Iterator[Any]]

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> Any:
        """Load a model from Hugging Face (``OWNER/NAME``) or from a folder, as :func:`dpt.load` does."""
        from dpt.loading import load

        return load(name if Path(name).exists() else f'hf://{name}', **options)

    def save_pretrained(self, folder: str | Path, *, license: str, repo_id: str = 'me/model') -> None:  # noqa: A002
        """Write the files of :meth:`push_to_hub` to a folder.

        Raises:
            OSError: If a file cannot be written.
        """
        save_files(self._files(repo_id, license, ()), folder)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        license: str,  # noqa: A002
        pictures: Sequence[Any] = (),
        private: bool = False,
        token: str | None = None,
    ) -> str:
        """Upload the model to Hugging Face, with a model card made from what the checkpoint says.

        Args:
            repo_id: ``OWNER/NAME``.
            license: Licence of the weights, such as ``'apache-2.0'``.
            pictures: Images whose predictions the card shows.
            private: Whether only the owner can see a new repository.
            token: Token with the right to write; ``None`` for that of ``hf auth login`` or ``HF_TOKEN``.

        Returns:
            The URL of the repository.

        Raises:
            ValueError: If huggingface_hub is missing, or the upload fails.
        """
        return push_files(repo_id, self._files(repo_id, license, pictures), private=private, token=token)

    def _files(self, repo_id: str, licence: str, pictures: Sequence[Any]) -> dict[str, bytes]:
        values = self.model.cfg.to_dict()
        values['model']['backbone'].pop('lora', None)  # merged below
        meta = kept_meta(read_meta(self.checkpoint))
        meta['cfg'] = Config(values).pretty_text
        if self.classes:
            meta['dataset_meta'] = dict(classes=list(self.classes), palette=self.palette.tolist())
        shown = [encode_picture('.png', one.overlay(legend=True)) for one in self.stream(pictures)]
        return model_files(repo_id, merged(self.model).state_dict(), meta, licence, shown)
