"""The data loaders of a config and the data sets in them."""

DATALOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def innermost_datasets(dataset: dict | None) -> list[dict]:
    """Return the data sets inside wrappers such as RepeatDataset (one) and ConcatDataset (several).

    Raises:
        ValueError: If one is no dict.
    """
    if dataset is None:
        return []
    if not isinstance(dataset, dict):
        raise ValueError(
            f'dataset={dataset!r:.60}... of a data loader: a dict was expected; several data sets are '
            "dict(type='ConcatDataset', datasets=[...])"
        )
    inner = [dataset['dataset']] if 'dataset' in dataset else dataset.get('datasets')
    return [dataset] if inner is None else [found for one in inner for found in innermost_datasets(one)]
