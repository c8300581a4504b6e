"""Comparisons of the depth models with reference code.

Each link is a module with ``rows() -> list[Row]``. Links need no network. Where the reference is a repository
that pip does not install, they take its folder from :data:`~depth_chain.table.REFERENCES` and return a row
without a difference if it is absent.
"""

LINKS = ('weights', 'losses', 'metrics', 'data')
"""Names of the modules, in order of execution."""
