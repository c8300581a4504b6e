"""Weights of published models, compared with the code that they were published with."""

from depth_chain.table import Row


def rows() -> list[Row]:
    """Return one row per source and image size."""
    return []
