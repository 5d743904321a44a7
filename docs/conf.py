"""Sphinx's configuration: `make docs`."""

import os
import sys
from pathlib import Path

# Networks are traced for their number of parameters, never run.
os.environ["JAX_PLATFORMS"] = "cpu"
sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import segjax

project = "segjax"
version = release = segjax.__version__
copyright = "the authors of segjax, Apache-2.0"

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "myst_nb",
    "docstrings",
    "networks",
    "generated_pages",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
highlight_language = "none"
nitpicky = True
# Other projects' inventories would have to be fetched: only names of segjax are links.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!segjax\.).*"),
    # Aliases of types in signatures, which have no entry of their own.
    (r"py:class", r"segjax\..*\.(Annotated|Tree|D|_Save)"),
]

add_module_names = False
# Tables of functions and of weights have values that nobody can read.
autodoc_default_options = {"no-value": True}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
# Notebooks are executed by their tests and not here.
nb_execution_mode = "off"
# There may be no notebooks yet.
suppress_warnings = ["toc.empty_glob"]

html_theme = "furo"
html_title = f"segjax {version}"
html_static_path = ["_static"]
html_css_files = ["segjax.css"]
html_show_sphinx = False
copybutton_exclude = ".linenos, .gp, .go"
