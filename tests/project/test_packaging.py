"""What `pip install` without a clone would bring: every module, every data file, and commands that exist."""

import importlib
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest
import yaml

from project_root import ROOT

PACKAGES = ("nas", "search_spaces", "cells")
DATA = (".template", ".yaml", ".json", ".html", ".css", ".js")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The names of the files in a wheel that is built from a copy of the project, without a download."""
    pytest.importorskip("setuptools", minversion="77", reason="building a wheel needs setuptools 77 or newer")
    copy = tmp_path_factory.mktemp("project")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    build = "import setuptools.build_meta as backend; backend.build_wheel('wheels')"
    subprocess.run([sys.executable, "-c", build], cwd=copy, check=True, capture_output=True)
    (file,) = (copy / "wheels").glob("*.whl")
    return set(zipfile.ZipFile(file).namelist())


def test_the_wheel_has_every_module_and_every_data_file(wheel):
    wanted = {
        path.relative_to(ROOT).as_posix()
        for name in PACKAGES
        for path in (ROOT / name).rglob("*")
        if path.suffix in (".py", ".typed") or (path.suffix in DATA and "found" not in path.parts)
    }
    assert {"nas/presets/quick.yaml", "search_spaces/darts.yaml", "nas/report/templates/report.js"} <= wanted
    assert "cells/published/darts_v2.json" in wanted
    assert wanted <= wheel


def test_the_wheel_has_the_licence_and_nothing_but_the_packages(wheel):
    assert any(name.endswith("licenses/LICENSE") for name in wheel)
    assert {name.split("/")[0] for name in wheel if ".dist-info/" not in name} == set(PACKAGES)


@pytest.mark.parametrize("entry_point", PROJECT["scripts"].values())
def test_every_console_command_exists(entry_point):
    module, function = entry_point.split(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_the_licence_is_the_one_that_the_project_names():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in text and "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text


def test_the_citation_and_the_changelog_are_of_this_project():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0" and citation["title"].startswith(PROJECT["name"])
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert citation["authors"] == [{"name": "The darts-blocks authors"}] and len(citation["references"]) == 2
    assert f"\n## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
