"""Every test computes on one thread: results are a function of the number, and tests run side by side."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import matplotlib as mpl
import pandas as pd
import pytest
import torch
from threadpoolctl import threadpool_limits

torch.set_num_threads(1)
threadpool_limits(1)


@pytest.fixture(scope="session")
def load_study() -> Callable[[str], ModuleType]:
    """Import a study by the name of its file; its figures are drawn off screen."""
    mpl.use("Agg")
    return _load_study


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], pd.DataFrame]:
    """Read a table that a study wrote, if the figure stands beside it."""

    def read(name: str) -> pd.DataFrame:
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        return pd.read_csv(tmp_path / f"{name}.csv")

    return read


def _load_study(name: str) -> ModuleType:
    """Import a study by the name of its file."""
    specification = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "studies" / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # its dataclasses look themselves up there
    specification.loader.exec_module(module)
    return module
