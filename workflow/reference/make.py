"""Writes the library's reference as HTML, from its docstrings; `make docs` runs it.

The pages ask nothing of the network. What pdoc warns of is an error.
"""

import sys
import warnings
from pathlib import Path
from pkgutil import resolve_name

import pdoc

import imcl
from imcl.study.listing import bounds
from imcl.study.spec import Options

# What a training loop of one's own can use. `imcl COMMAND --help` explains the commands.
MODULES = (
    "imcl",
    "imcl.collaboration",
    "imcl.errors",
    "imcl.ways",
    "imcl.baselines",
    "imcl.models",
    "imcl.study.options",
)


def make(folder: Path) -> None:
    """Write the pages to a folder."""
    # pdoc shows what a module holds, and this name is loaded when it is first used.
    vars(imcl)["Collaboration"] = imcl.Collaboration
    pdoc.render.configure(
        docformat="google", show_source=False, template_directory=Path(__file__).parent
    )
    pdoc.render.env.filters["bounds"] = bounds_of
    with warnings.catch_warnings():
        warnings.filterwarnings("error", module="pdoc")
        pdoc.pdoc(*MODULES, output_directory=folder)


def bounds_of(variable: pdoc.doc.Variable) -> str:
    """The values that an option may have, as `imcl settings` prints them; empty for the rest."""
    owner = resolve_name(f"{variable.modulename}:{variable.qualname.rpartition('.')[0]}")
    if not (isinstance(owner, type) and issubclass(owner, Options)):
        return ""
    schema = owner.model_json_schema()["properties"].get(variable.name)
    return bounds(schema) if schema else ""


if __name__ == "__main__":
    make(Path(sys.argv[1]))
