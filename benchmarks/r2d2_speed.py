"""How fast R2D2 learns: optimiser steps per processor second of one thread, beside a plain implementation.

`python benchmarks/r2d2_speed.py [--fast]` prints one JSON object: versions, and for LSTMs and GRUs of 256 and 64 units in the
T-Maze, at two sizes of a step, our R2D2 and one as a competent person writes it down: replay is a list of sequences that are drawn by
priority and stacked, both networks are stepped through time one step after the other with states that are zeroed where an episode
ended, burn-in included, and targets come from a loop over time. It comes in two forms: `plain` calls torch's layer at every step, as
public single-file versions do; `cell` calls torch's cell, which is faster for an LSTM since it does not pack the weights anew. All learn
from the same sequences with the same network, batch, n-step double targets, priorities, optimiser and clipping. Acting is not measured.
All take turns; rates are the best of the turns, ratios are medians over turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn

from worldprobe.activations import package_versions
from worldprobe.agents import Actor, NetworkConfig, R2d2Config, R2d2Learner, RecurrentQNetwork, Rollout, make_network, seeded_generator
from worldprobe.worlds import TMaze

LEARNING_RATE, N_ENVS, EPSILON = 5e-4, 32, 0.3


@dataclass(frozen=True)
class Shape:
    """Size of an optimiser step."""

    batch_size: int
    sequence_length: int
    burn_in: int


SHAPES = (Shape(32, 40, 10), Shape(64, 80, 20))


class PlainR2d2:
    """A learner that takes everything one step at a time, by torch's layer or by its cell."""

    def __init__(self, network: RecurrentQNetwork, config: R2d2Config, discount: float, *, by_cell: bool) -> None:
        self.network, self.config, self.discount, self.by_cell = network, config, discount, by_cell
        self.target = make_network(TMaze(), network.config, seed=0)
        self.optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
        self.sequences: list[dict[str, Tensor]] = []
        self.priorities: list[float] = []
        self.chance = np.random.default_rng(0)

    def add(self, rollout: Rollout) -> None:
        """Keep every row of a rollout as a sequence."""
        names = ("inputs", "successors", "action", "reward", "terminated", "ended", "core_state")
        for env in range(len(rollout.action)):
            self.sequences.append({name: getattr(rollout, name)[env].clone() for name in names})
            self.priorities.append(1.0)

    def step(self, network: RecurrentQNetwork, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return Q (n, A) of inputs (n, input_size), and the state after them."""
        layer = next(each for each in network.core.modules() if isinstance(each, nn.RNNBase))
        x, leaves = network.encoder(inputs), state.chunk(2, 1) if isinstance(layer, nn.LSTM) else (state,)
        if self.by_cell and isinstance(layer, nn.LSTM):
            leaves = torch.lstm_cell(x, leaves, *layer.all_weights[0])
        elif self.by_cell:
            leaves = (torch.gru_cell(x, *leaves, *layer.all_weights[0]),)
        elif isinstance(layer, nn.LSTM):
            _, leaves = layer(x.unsqueeze(0), tuple(leaf.unsqueeze(0).contiguous() for leaf in leaves))
        else:
            leaves = layer(x.unsqueeze(0), state.unsqueeze(0))[1:]
        state = torch.cat([leaf.view(len(x), -1) for leaf in leaves], 1)
        return network.head(leaves[0].view(len(x), -1)), state

    def unroll(self, network: RecurrentQNetwork, rows: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return Q of every step after the burn-in, and of what followed it, (T, n, A): the core is called step by step."""
        state, q_values, following = rows["core_state"], [], []
        for t in range(self.config.sequence_length):
            if t:
                state = state * (~rows["ended"][:, t - 1]).float().unsqueeze(1)
            with torch.set_grad_enabled(t >= self.config.burn_in and network is self.network):
                q, state = self.step(network, rows["inputs"][:, t], state)
            if t == self.config.burn_in - 1:
                state = state.detach()
            if t >= self.config.burn_in:
                with torch.no_grad():
                    q_next, _ = self.step(network, rows["successors"][:, t], state)
                q_values.append(q)
                following.append(q_next)
        return torch.stack(q_values), torch.stack(following)

    def targets(self, value: Tensor, rows: dict[str, Tensor]) -> Tensor:
        """Return the n-step targets (T, n) from the values of what followed every step."""
        names = ("reward", "terminated", "ended")
        reward, terminated, ended = (rows[name][:, self.config.burn_in :].T for name in names)
        targets = torch.zeros_like(value)
        for t in range(len(value)):
            going, factor = torch.ones(value.shape[1]), 1.0
            for j in range(t, min(t + self.config.n_step, len(value))):
                targets[t] += going * factor * reward[j]
                factor *= self.discount
                is_end = ended[j] | torch.full_like(ended[j], j == min(t + self.config.n_step, len(value)) - 1)
                targets[t] += going * factor * value[j] * is_end * ~terminated[j]
                going = going * ~is_end
        return targets

    def update(self) -> None:
        """Take one optimiser step."""
        config = self.config
        mass = np.array(self.priorities) ** config.priority_exponent
        share = mass / mass.sum()
        drawn = self.chance.choice(len(mass), config.batch_size, p=share)
        rows = {name: torch.stack([self.sequences[i][name] for i in drawn]) for name in self.sequences[0]}
        weight = torch.from_numpy((len(mass) * share[drawn]) ** -config.importance_exponent).float()
        q, following = self.unroll(self.network, rows)
        with torch.no_grad():
            _, slow_following = self.unroll(self.target, rows)
            value = slow_following.gather(2, following.argmax(2, keepdim=True)).squeeze(2)
            targets = self.targets(value, rows)
        action = rows["action"][:, config.burn_in :].T.unsqueeze(2)
        errors = q.gather(2, action).squeeze(2) - targets
        self.optimizer.zero_grad()
        torch.autograd.backward((weight / weight.max() * errors.square()).mean() / 2)
        nn.utils.clip_grad_norm_(self.network.parameters(), config.max_gradient_norm)
        self.optimizer.step()
        size = errors.detach().abs()
        priority = config.priority_mixture * size.amax(0) + (1 - config.priority_mixture) * size.mean(0)
        for index, each in zip(drawn, priority.tolist(), strict=True):
            self.priorities[index] = each


def learners(core: str, hidden_size: int, shape: Shape) -> dict[str, Callable[[], None]]:
    """Return one optimiser step of ours and of the plain ones, with the same sequences in their replays."""
    world, architecture = TMaze(), NetworkConfig(core=core, hidden_size=hidden_size)
    config = R2d2Config(n_envs=N_ENVS, n_steps=shape.sequence_length, n_gradient_steps=1, warm_up_steps=0, **asdict(shape))
    network, *others = (make_network(world, architecture, seed=0) for _ in range(3))
    actor = Actor(network, world.driver(N_ENVS, seeded_generator(0, "driver")), seeded_generator(0, "exploration"))
    ours = R2d2Learner(network, config, world.discount, seeded_generator(0, "sequences"))
    plain, by_cell = (PlainR2d2(each, config, world.discount, by_cell=form) for each, form in zip(others, (False, True), strict=True))
    for _ in range(config.replay_steps // (N_ENVS * shape.sequence_length) // 4):
        rollout = actor.collect(shape.sequence_length, EPSILON)
        ours._replay.add(rollout)
        plain.add(rollout)
        by_cell.add(rollout)
    return {"ours": lambda: ours._descend(LEARNING_RATE, "benchmark"), "plain": plain.update, "cell": by_cell.update}


def rate(update: Callable[[], None], seconds: float) -> float:
    """Return optimiser steps per processor second over at least so many seconds."""
    start, count = time.process_time(), 0
    while (elapsed := time.process_time() - start) < seconds:
        update()
        count += 1
    return count / elapsed


def compare(core: str, hidden_size: int, shape: Shape, seconds: float, repeats: int) -> dict[str, object]:
    """Time all in turns."""
    updates = learners(core, hidden_size, shape)
    for update in updates.values():
        update()
    turns = [{name: rate(update, seconds) for name, update in updates.items()} for _ in range(repeats)]
    result: dict[str, object] = {"core": core, "hidden_size": hidden_size, **asdict(shape)}
    result |= {f"{name}_updates_per_s": round(max(turn[name] for turn in turns), 2) for name in updates}
    return result | {
        f"ratio_to_{name}": round(statistics.median(turn["ours"] / turn[name] for turn in turns), 2) for name in ("plain", "cell")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="one short turn each")
    seconds, repeats = (0.5, 1) if parser.parse_args().fast else (3.0, 3)
    torch.set_num_threads(1)
    cores = [("lstm", 256), ("lstm", 64), ("gru", 256), ("gru", 64)]
    results = [compare(core, size, shape, seconds, repeats) for core, size in cores for shape in SHAPES]
    print(json.dumps({"benchmark": "r2d2_speed", "versions": package_versions(), "threads": 1, "results": results}, indent=1))


if __name__ == "__main__":
    main()
