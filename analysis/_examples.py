"""A few episodes kept for the eye: what was true, what could be believed, what the hidden state says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldprobe.analysis._decoders import Decoder
from worldprobe.worlds import FiniteWorld

Arrays = dict[str, NDArray[np.generic]]


def collect_examples(decoder: Decoder, n_episodes: int = 3) -> Arrays:
    """Return true, believed and decoded values of every factor along the longest scored episodes of different fates.

    The arrays are named `<episode>/<factor>/<true|decoded|believed>`: (n_steps, size) each, class probabilities or world units;
    `coordinates/<factor>` (size, 2) places the classes of a finite world on its plane.
    """
    stream = decoder.stream
    arrays: Arrays = {}
    for index, episode in enumerate(_typical_episodes(stream.groups[stream.scored], n_episodes)):
        rows = np.flatnonzero(stream.groups[stream.scored] == episode)
        kinds: dict[str, NDArray[np.floating]] = {"true": stream.targets[stream.scored][rows], "decoded": decoder.predictions[rows]}
        if stream.expected is not None:
            kinds["believed"] = stream.expected[stream.scored][rows]
        for factor in stream.labels.factors:
            unit = 1.0 if factor.is_categorical else factor.scale
            columns = stream.labels.columns[factor.name]
            arrays |= {f"{index}/{factor.name}/{kind}": (values[:, columns] * unit).astype(np.float32) for kind, values in kinds.items()}
    if isinstance(stream.world, FiniteWorld) and stream.world.positions is not None:
        arrays |= {
            f"coordinates/{factor.name}": _class_positions(stream.world, factor.name, factor.size) for factor in stream.world.factors
        }
    return arrays


def _typical_episodes(groups: NDArray[np.int64], n_episodes: int) -> list[int]:
    """Episodes at the upper quartile of length, so that there is something to see."""
    episodes, lengths = np.unique(groups, return_counts=True)
    order = np.argsort(np.abs(lengths - np.quantile(lengths, 0.75)), kind="stable")
    return [int(episode) for episode in episodes[order[:n_episodes]]]


def _class_positions(world: FiniteWorld, factor: str, size: int) -> NDArray[np.float32]:
    """Mean position of the states of each class."""
    assert world.positions is not None
    classes, positions = world.class_maps[factor].numpy(), world.positions.numpy()
    return np.stack([positions[classes == index].mean(0) for index in range(size)]).astype(np.float32)


def save_examples(arrays: Arrays, path: Path) -> None:
    """Write the arrays to an .npz file (no pickle)."""
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes its flag for one of the arrays


def load_examples(path: Path) -> Arrays:
    """Read what `save_examples` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
