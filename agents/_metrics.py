"""Metrics: a CSV file that a resumed run continues as if nothing had happened."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class MetricsFile:
    """Appends rows to a CSV file and can go back to an earlier end of it.

    Parameters
    ----------
    path : Path
        The file; begun anew unless `position` is given.
    columns : tuple of str
        Names, in order.
    position : int, optional
        Size in bytes at which to go on; what was written beyond it is cut off.

    Raises
    ------
    ValueError
        If the file is shorter than `position`.
    """

    def __init__(self, path: Path, columns: tuple[str, ...], position: int | None = None) -> None:
        self._path = path
        self._columns = columns
        if position is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(",".join(columns) + "\n")
        else:
            self._cut(position)

    def _cut(self, position: int) -> None:
        size = self._path.stat().st_size if self._path.exists() else 0
        if size < position:
            raise ValueError(
                f"{self._path} has {size} bytes, the run to resume had written {position}: it was cut; train again in an empty directory"
            )
        if size > position:
            os.truncate(self._path, position)

    @property
    def position(self) -> int:
        """Size of the file in bytes."""
        return self._path.stat().st_size

    def append(self, row: Mapping[str, float]) -> None:
        """Write one row (shortest decimals that give the same floats) and push it to the disk."""
        with self._path.open("a") as file:
            file.write(",".join(repr(row[name]) for name in self._columns) + "\n")
            file.flush()
            os.fsync(file.fileno())


class TensorBoardLog:
    """Mirrors metrics to TensorBoard where it is installed, else does nothing.

    Parameters
    ----------
    directory : Path
        Where the event files go.
    step : int, optional
        Last step whose row is kept: later events of an interrupted run are hidden, all of them if None.
    """

    def __init__(self, directory: Path, step: int | None = None) -> None:
        self._writer: Any = None
        if importlib.util.find_spec("tensorboard") is not None:
            module = importlib.import_module("torch.utils.tensorboard")
            self._writer = module.SummaryWriter(str(directory), purge_step=0 if step is None else step + 1)

    def append(self, row: Mapping[str, float]) -> None:
        """Write one row; its "step" is the abscissa."""
        if self._writer is None:
            return
        for name, value in row.items():
            self._writer.add_scalar(name, value, int(row["step"]))
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
