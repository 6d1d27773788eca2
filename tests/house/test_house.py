"""The house stands as its plan says: folders, links and packaging agree, and rooms import only to their left."""

from __future__ import annotations

import configparser
import importlib
import inspect
from pathlib import Path

import pytest

import worldprobe

ROOT = Path(__file__).parents[2]
ROOMS = ("worlds", "agents", "activations", "probes", "analysis")


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def test_packages_and_package_dir_list_the_same_rooms(setup: configparser.ConfigParser) -> None:
    packages = setup["options"]["packages"].split()
    directories = dict(line.split(" = ") for line in setup["options"]["package_dir"].strip().splitlines())
    assert packages == ["worldprobe", *(f"worldprobe.{room}" for room in ROOMS)]
    assert directories == {"worldprobe": "src/worldprobe", **{f"worldprobe.{room}": room for room in ROOMS}}


@pytest.mark.parametrize("room", ROOMS)
def test_link_points_at_the_room(room: str) -> None:
    link = ROOT / "src" / "worldprobe" / room
    assert link.is_symlink()
    assert link.readlink() == Path("..") / ".." / room
    assert link.resolve() == ROOT / room


@pytest.mark.parametrize("room", ROOMS)
def test_face_of_a_room(room: str) -> None:
    face = importlib.import_module(f"worldprobe.{room}")
    assert face.__doc__ is not None
    assert 4 <= len(face.__doc__.strip().splitlines()) <= 24
    exported = list(face.__all__)
    assert len(exported) == len(set(exported))
    for name in exported:
        assert not name.startswith("_")
        assert getattr(face, name) is not None


@pytest.mark.parametrize("room", ROOMS)
def test_everything_exported_is_documented(room: str) -> None:
    face = importlib.import_module(f"worldprobe.{room}")
    for name in face.__all__:
        thing = getattr(face, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert thing.__doc__, f"worldprobe.{room}.{name} has no docstring"


def test_tests_mirror_the_tree() -> None:
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == {*ROOMS, "house"}
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_there_is_one_version(setup: configparser.ConfigParser) -> None:
    assert setup["metadata"]["version"] == "attr: worldprobe._version.__version__"
    assert worldprobe.__version__ in (ROOT / "CHANGELOG.md").read_text()
    assert f"version: {worldprobe.__version__}" in (ROOT / "CITATION.cff").read_text()
