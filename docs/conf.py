"""Sphinx configuration: python -m sphinx -W -b html docs build/docs"""

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

from tool_pages import fill_in  # noqa: E402

import dpt  # noqa: E402

project = 'dpt'
release = version = dpt.__version__
copyright = 'the authors of dpt, Apache License 2.0'  # noqa: A001
extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
html_theme = 'furo'
nb_execution_mode = 'off'  # shows the stored outputs; a test runs the notebook
nb_merge_streams = True
html_static_path = ['_static']
html_css_files = ['wide.css']
myst_heading_anchors = 3
autodoc_typehints = 'none'  # docstrings describe the types
autodoc_inherit_docstrings = False  # omit the generic docstrings of torch and mmengine
napoleon_use_rtype = False  # 'Returns: three maps: ...' is a sentence, not a type
autodoc_member_order = 'bysource'
autodoc_default_options = {'members': True, 'ignore-module-all': False}


def setup(app: object) -> None:
    """Fill the tools page with the help of each tool."""
    app.connect('source-read', lambda app, name, source: source.__setitem__(0, fill_in(source[0])))  # type: ignore[attr-defined]
