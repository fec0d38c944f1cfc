"""How Sphinx makes the site of these pages and of the docstrings; ``scripts/docs`` runs it."""

from __future__ import annotations

import importlib.metadata
import json
import os

project = "kraken-historical-data"
author = "the kraken-historical-data team"
release = version = importlib.metadata.version(project)

extensions = [
    "myst_parser",  # the pages are Markdown, which GitHub shows, too
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
suppress_warnings = ["config.cache"]

# Links between pages name a heading as GitHub does.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
# What lies outside of the pages is shown where the code is.
myst_url_schemes = ("http", "https", "mailto")

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "inherited-members": False, "undoc-members": False}
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"{project} {release}"
html_show_sphinx = False
html_show_copyright = False
html_sidebars = {
    "**": [
        "sidebar/scroll-start.html",
        "sidebar/brand.html",
        "sidebar/search.html",
        "sidebar/navigation.html",
        "versions.html",
        "sidebar/scroll-end.html",
    ]
}
# scripts/docs names the versions that it makes.
html_context = {"versions": json.loads(os.environ.get("DOCS_VERSIONS", "[]")), "this_version": release}
