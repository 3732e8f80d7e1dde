"""Light things stay light, public names exist, and no file that a user gives is run as it is read.

Which way imports point is import-linter's to check, `eval`, shells and pickle ruff's (S); both are in pyproject.toml.
"""

import re
import subprocess
import sys

import pytest
import yaml

from project_root import ROOT
from search_spaces.yaml_mapping import _Loader

PACKAGES = ("search_spaces", "cells", "nas")
FILES = [ROOT / "search.py", ROOT / "train_genotype.py"]
FILES += sorted(path for folder in (*PACKAGES, "scripts") for path in (ROOT / folder).glob("**/*.py"))
# What ruff's rules do not see: Python's compiler, loaders that may run code; and tensors follow their input's device
NOWHERE = r"(?<![.\w])(?:compile|__import__)\(|jit\.load\(|unsafe_load|full_load|Unpickler\(|\.cuda\("
NOT_THE_SAFE_ONE = r"torch\.load\((?!.*weights_only=True)|yaml\.load\((?!.*, _Loader\))|allow_pickle=(?!False)"


def test_nothing_that_is_read_is_run():
    assert {path.relative_to(ROOT).parts[0] for path in FILES} > set(PACKAGES)
    for path in FILES:
        found = re.search(f"{NOWHERE}|{NOT_THE_SAFE_ONE}", path.read_text(encoding="utf-8"))
        assert not found, f"{path}: {found and found[0]}"
    assert issubclass(_Loader, yaml.SafeLoader)


@pytest.mark.parametrize(
    "statement",
    [
        "import cells.genotype",
        "import search_spaces, cells, nas",
        "from cells import load_genotype; load_genotype('darts_v2')",
    ],
)
def test_reading_a_genotype_does_not_import_torch(statement):
    code = f"import sys; {statement}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_of_a_package_exists(package):
    module = __import__(package)
    assert all(getattr(module, name) is not None for name in module.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = module.no_such_name
