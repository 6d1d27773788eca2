"""What is written comes back: any ragged shapes and dtypes, by any way of indexing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldprobe.activations import Identity, Recording, RecordingError, open_recording
from worldprobe.activations._episodes import Array, Episodes
from worldprobe.activations._layout import DTYPES, chunk_rows
from worldprobe.activations._manifest import Manifest
from worldprobe.activations._writer import assign_splits, commit_shard

LENGTHS = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5), min_size=1, max_size=3).filter(
    lambda shards: len({len(shard) for shard in shards}) == 1
)
FORMS = st.dictionaries(
    st.sampled_from(["site/core.h", "site/a.b/c[0]", "state/deep/leaf", "factor/goal", "belief/state", "observation"]),
    st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(1, 4), max_size=3).map(tuple)),
    min_size=1,
)


def identity(n_episodes: int, per_shard: int, **changed: Any) -> Identity:
    fields: dict[str, Any] = {
        "world": {"name": "toy", "actions": ["a"], "factors": []}, "agent": None, "channels": ("action", "observation"),
        "behaviour": {"name": "none"}, "seed": 0, "n_episodes": n_episodes, "n_envs": 1, "episodes_per_shard": per_shard,
        "splits": (0.6, 0.2, 0.2), "sites": {}, "stream": None,
    }  # fmt: skip
    return Identity(**{**fields, **changed})


def draw(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Array:
    if dtype == "bool":
        return rng.random(shape) < 0.5
    if dtype.startswith("float"):
        return rng.normal(size=shape).astype(dtype)
    information = np.iinfo(dtype)
    return rng.integers(information.min, information.max, shape, dtype=dtype, endpoint=True)


def episodes_of(lengths: list[int], first: int, forms: dict[str, tuple[str, tuple[int, ...]]], seed: int) -> Episodes:
    rng, n_steps = np.random.default_rng(seed), sum(lengths)
    arrays = {key: draw(rng, dtype, (n_steps, *shape)) for key, (dtype, shape) in forms.items()}
    finals = {f"final_{key}": draw(rng, *_final(forms[key], len(lengths))) for key in forms if not key.startswith("site/")}
    last = np.cumsum(lengths) - 1
    terminated = np.zeros(n_steps, dtype=bool)
    terminated[last] = rng.random(len(lengths)) < 0.5
    return Episodes(first + np.arange(len(lengths)), np.array(lengths), {**arrays, **finals, "terminated": terminated})


def _final(form: tuple[str, tuple[int, ...]], n_episodes: int) -> tuple[str, tuple[int, ...]]:
    return form[0], (n_episodes, *form[1])


@given(shards=LENGTHS, forms=FORMS, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_every_array_comes_back_in_order(shards: list[list[int]], forms: dict[str, tuple[str, tuple[int, ...]]], seed: int) -> None:
    per_shard = len(shards[0])
    manifest = Manifest(identity(per_shard * len(shards), per_shard), {"versions": {}, "threads": 1})
    written = [episodes_of(lengths, i * per_shard, forms, seed + i) for i, lengths in enumerate(shards)]
    with tempfile.TemporaryDirectory() as folder:
        for index in reversed(range(len(shards))):  # shards may be finished in any order
            manifest = commit_shard(Path(folder), manifest, index, written[index])
        with open_recording(folder) as recording:
            assert recording.is_complete
            for key in written[0].arrays:
                expected = np.concatenate([episodes.arrays[key] for episodes in written])
                np.testing.assert_array_equal(recording[key][:], expected)
                assert recording[key].dtype == expected.dtype
            lengths = np.concatenate(shards)
            np.testing.assert_array_equal(recording.episodes["length"], lengths)
            np.testing.assert_array_equal(recording.episodes["start"], np.cumsum(lengths) - lengths)
            np.testing.assert_array_equal(recording.groups, np.repeat(np.arange(lengths.size), lengths))
            np.testing.assert_array_equal(recording["t"][:], np.concatenate([np.arange(n) for n in lengths]))
            np.testing.assert_array_equal(
                recording["episode/terminated"][:], np.concatenate([e.arrays["terminated"][e.start + e.length - 1] for e in written])
            )


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Recording, Array]]:
    """A recording of three shards whose site holds row x column, with chunks of a few rows."""
    path = tmp_path_factory.mktemp("numbered")
    manifest = Manifest(identity(6, 2), {"versions": {}, "threads": 1})
    first, values = 0, []
    for index in range(3):
        n_steps = 400 + 100 * index
        block = (np.arange(first, first + n_steps)[:, None] * np.arange(1, 1025)).astype(np.float32)
        arrays = {"site/core.h": block, "terminated": np.zeros(n_steps, dtype=bool)}
        manifest = commit_shard(
            path, manifest, index, Episodes(np.array([2 * index, 2 * index + 1]), np.array([150, n_steps - 150]), arrays)
        )
        values.append(block)
        first += n_steps
    with open_recording(path) as recording:
        yield recording, np.concatenate(values)


N_ROWS = 1500
INDICES = st.one_of(
    st.integers(-N_ROWS, N_ROWS - 1),
    st.slices(N_ROWS),
    st.lists(st.integers(-N_ROWS, N_ROWS - 1), max_size=30).map(lambda rows: np.array(rows, dtype=np.int64)),
    st.lists(st.integers(0, N_ROWS - 1), max_size=30).map(lambda rows: np.isin(np.arange(N_ROWS), rows)),
    st.just(Ellipsis),
    st.just(()),
)


@given(rows=INDICES, columns=st.one_of(st.none(), st.integers(-1024, 1023), st.slices(1024)))
@settings(max_examples=100, deadline=None)
def test_indexing_is_that_of_numpy(numbered: tuple[Recording, Array], rows: Any, columns: int | slice | None) -> None:
    recording, values = numbered
    index = rows if columns is None or isinstance(rows, tuple) else (rows, columns)
    np.testing.assert_array_equal(recording["core.h"][index], values[index])


def test_only_the_chunks_asked_for_are_read(numbered: tuple[Recording, Array], monkeypatch: pytest.MonkeyPatch) -> None:
    recording, values = numbered
    rows = np.array([3, 5, 300, 450, 1499])
    taken = []
    original = h5py.Dataset.__getitem__

    def counting(dataset: h5py.Dataset, index: Any) -> Any:
        got = original(dataset, index)
        taken.append((dataset.name, len(got)))
        return got

    monkeypatch.setattr(h5py.Dataset, "__getitem__", counting)
    np.testing.assert_array_equal(recording["core.h"][rows], values[rows])
    rows_of_chunk = chunk_rows(4096, N_ROWS)
    assert rows_of_chunk == 64
    assert {name for name, _ in taken} == {"/site:core.h"}
    assert sum(n for _, n in taken) <= 4 * rows_of_chunk


def test_a_mask_of_the_wrong_length_and_rows_outside_are_refused(numbered: tuple[Recording, Array]) -> None:
    array = numbered[0]["core.h"]
    with pytest.raises(IndexError, match="mask"):
        array[np.ones(3, dtype=bool)]
    with pytest.raises(IndexError, match=r"\[0, 1500\)"):
        array[[1500]]
    with pytest.raises(IndexError, match="integers"):
        array[[0.5]]


def test_a_missing_key_lists_what_there_is(numbered: tuple[Recording, Array]) -> None:
    with pytest.raises(KeyError, match=r"no array 'core\.c'; it has .*site/core\.h"):
        numbered[0]["core.c"]


def test_batches_are_whole_episodes_once_each(numbered: tuple[Recording, Array]) -> None:
    recording, values = numbered
    plain = list(recording.batches(["core.h", "t"], n_steps=300))
    np.testing.assert_array_equal(np.concatenate([batch["core.h"] for batch in plain]), values)
    assert len(plain) > 2
    shuffled = list(recording.batches(["core.h"], n_steps=300, random_state=0))
    assert [batch["groups"][0] for batch in shuffled] != [batch["groups"][0] for batch in plain]
    seen = [set(batch["groups"]) for batch in shuffled]
    assert sum(len(groups) for groups in seen) == len(set.union(*seen)) == recording.n_episodes
    train = np.concatenate([batch["core.h"] for batch in recording.batches(["core.h"], split="train", n_steps=300)])
    np.testing.assert_array_equal(train, values[recording.split("train")])


def test_splits_depend_on_seed_and_episode_alone() -> None:
    numbers = np.arange(20_000)
    whole = assign_splits(numbers, 3, (0.6, 0.2, 0.2))
    np.testing.assert_array_equal(assign_splits(numbers[100:200], 3, (0.6, 0.2, 0.2)), whole[100:200])
    assert (whole != assign_splits(numbers, 4, (0.6, 0.2, 0.2))).any()
    np.testing.assert_allclose(np.bincount(whole) / numbers.size, (0.6, 0.2, 0.2), atol=0.015)  # 4 standard errors


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        ("site/core h", np.zeros((3, 1)), "no key"),
        ("site/h", np.zeros((3, 1), complex), "dtype complex128"),
        ("site/h", np.zeros((2, 1)), r"shape \(2, 1\); expected 3 rows"),
        ("site/h", np.zeros((3, 0)), "at least one entry"),
        ("site/h", np.array([[1.0], [np.nan], [0.0]]), "NaN"),
        ("site/h", np.array([["a"], ["b"], ["c"]], dtype=object), "dtype object"),
    ],
)
def test_what_may_not_be_stored_is_refused_before_anything_is_written(tmp_path: Path, key: str, values: Array, message: str) -> None:
    manifest = Manifest(identity(1, 1), {"versions": {}, "threads": 1})
    episodes = Episodes(np.array([0]), np.array([3]), {"terminated": np.zeros(3, dtype=bool), key: values})
    with pytest.raises(RecordingError, match=message):
        commit_shard(tmp_path, manifest, 0, episodes)
    assert list(tmp_path.iterdir()) == []


def test_shards_must_agree_in_form(tmp_path: Path) -> None:
    manifest = Manifest(identity(2, 1), {"versions": {}, "threads": 1})
    narrow, wide = (episodes_of([3], i, {"site/h": ("float32", (2 + i,))}, 0) for i in range(2))
    manifest = commit_shard(tmp_path, manifest, 0, narrow)
    with pytest.raises(RecordingError, match="differs from those before it in site/h"):
        commit_shard(tmp_path, manifest, 1, wide)
