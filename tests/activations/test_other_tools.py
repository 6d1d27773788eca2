"""What other tools make of a recording: labelled arrays, tables, and datasets of offline reinforcement learning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray

from worldprobe.activations import Recording, export_minari


def test_xarray_opens_all_shards_as_one_without_reading_them(whole: Recording) -> None:
    pytest.importorskip("dask")
    rows = xarray.open_mfdataset(
        sorted(whole.path.glob("shard-*.h5")),
        engine="h5netcdf",
        combine="nested",
        concat_dim="step",
        preprocess=lambda shard: shard.drop_dims("episode:number"),
        data_vars="all",
        combine_attrs="drop_conflicts",
    )
    with rows:
        h = rows["site:core.h"]
        assert h.chunks is not None
        assert h.dims == ("step", "site:core.h@1")
        np.testing.assert_array_equal(h.values, whole["core.h"][:])
        np.testing.assert_array_equal(h[(rows["t"] == 0).compute()], whole["core.h"][whole.episodes["start"].to_numpy()])
        np.testing.assert_array_equal(rows["episode"].values, whole.groups)


def test_minari_loads_the_trajectories(common: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    monkeypatch.setattr("worldprobe.activations._minari.EPISODES_AT_ONCE", 5)
    about = {"author": "nobody", "author_email": "nobody@example.org", "code_permalink": "https://example.org"}
    export_minari(common, "worldprobe/maze-v0", **about)
    dataset = minari.load_dataset("worldprobe/maze-v0")
    assert dataset.total_episodes == common.n_episodes
    assert dataset.total_steps == common.n_steps
    assert dataset.action_space.n == 4
    final = common["final_observation"][:]
    for place, episode in enumerate(dataset.iterate_episodes()):
        rows = common["episode"][:] == common.episodes.index[place]
        np.testing.assert_array_equal(episode.observations, np.concatenate([common["observation"][rows], final[place : place + 1]]))
        for theirs, ours in {"actions": "action", "rewards": "reward", "terminations": "terminated", "truncations": "truncated"}.items():
            np.testing.assert_array_equal(getattr(episode, theirs), common[ours][rows])


def test_a_table_has_a_row_per_step_and_a_column_per_entry(whole: Recording) -> None:
    table = whole.to_pandas(["core.h", "reward", "factor/goal"], split="test")
    rows = whole.split("test")
    assert table.index.names == ["episode", "t"]
    assert list(table.columns) == [*(f"core.h[{unit}]" for unit in range(8)), "reward", "factor/goal"]
    np.testing.assert_array_equal(table.iloc[:, :8], whole["core.h"][rows])
    episode = int(whole.groups[rows[0]])
    np.testing.assert_array_equal(table.loc[episode]["reward"], whole["reward"][whole.groups == episode])
