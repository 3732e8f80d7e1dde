"""Imports point one way, light things stay light, and nothing that a user gives is run by accident."""

import ast
import subprocess
import sys

import pytest

from project_root import ROOT

PACKAGES = ("search_spaces", "cells", "nas")  # each may import those before it
FILES = [ROOT / "search.py", ROOT / "train_genotype.py"]
FILES += sorted(path for folder in (*PACKAGES, "scripts") for path in (ROOT / folder).glob("**/*.py"))


def label(path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported_modules(path):
    """(line, module) for every import in a file, also those inside functions; relative ones made absolute."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) + "." if node.level else ""
            yield node.lineno, base + (node.module or "")


def calls(path):
    """(line, what is called as it is written, the call) for every call in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func), node


def test_all_packages_are_looked_at():
    assert {path.relative_to(ROOT).parts[0] for path in FILES} > set(PACKAGES)


@pytest.mark.parametrize("path", FILES, ids=label)
def test_imports_point_one_way(path):
    place = path.relative_to(ROOT).parts[0]
    allowed = PACKAGES[: PACKAGES.index(place) + 1] if place in PACKAGES else PACKAGES
    ours = {"scripts", "tests", "search", "train_genotype", *PACKAGES}
    for line, module in imported_modules(path):
        top = module.split(".")[0]
        assert top not in ours or top in allowed, f"{label(path)}, line {line} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=label)
def test_no_text_is_evaluated_and_no_pickle_is_trusted(path):
    for line, name, call in calls(path):
        where = f"{label(path)}, line {line}: {ast.unparse(call)[:80]}"
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert name not in ("eval", "exec", "compile", "os.system", "os.popen", "__import__"), where
        assert name.split(".")[-1] not in ("unsafe_load", "full_load", "Unpickler"), where
        assert not name.startswith(("pickle.load", "torch.jit.load")), where
        assert name not in ("torch.load", "load") or options.get("weights_only") == "True", where
        assert name != "np.load" or options.get("allow_pickle", "False") == "False", where
        assert name != "yaml.load" or "_Loader" in ast.unparse(call), where  # a subclass of yaml.SafeLoader
        assert options.get("shell", "False") == "False", where


@pytest.mark.parametrize("path", FILES, ids=label)
def test_nothing_is_moved_to_cuda_by_name(path):
    """Tensors follow their input's device."""
    assert not [line for line, name, _ in calls(path) if name.endswith(".cuda")]


def test_the_yaml_loader_is_a_safe_one():
    import yaml

    from search_spaces.yaml_mapping import _Loader

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
