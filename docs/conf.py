"""Sphinx's settings of the manual: `make docs` builds docs/_build/html. What is generated says _ext/pages.py."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

from maskbench import __version__  # noqa: E402 - from the folder above

project = "maskbench"
author = "the maskbench authors"
copyright = f"2026, {author}"
version = release = __version__

extensions = ["pages", "myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_copybutton"]
exclude_patterns = ["_build", "_ext", "jupyter_execute"]
html_theme = "furo"
html_title = f"maskbench {version}"
html_extra_path = ["result.schema.json"]
html_static_path: list[str] = []
pygments_style, pygments_dark_style = "friendly", "monokai"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nitpicky = False  # types of other packages are not looked for: the build needs no network
default_role = "code"

nb_execution_mode = "auto"  # a notebook without outputs is executed
nb_execution_in_temp = True
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_use_ivar = True  # attributes that are also fields are described once
copybutton_exclude = ".linenos, .gp, .go"
