"""Whole episodes of somebody's policy in a Gymnasium environment."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from worldprobe.activations._episodes import Array, Episodes
from worldprobe.activations._policies import Policy
from worldprobe.activations._recorder import Recorder
from worldprobe.activations._vector_actions import Actions
from worldprobe.activations._vector_steps import VectorSteps
from worldprobe.activations._vector_tape import Tape, flat_site
from worldprobe.agents import seeded_generator

ReadFactors = Callable[[Any], Mapping[str, Any]]
"""Reads the true state: unwrapped vector environment -> {name: class indices (n,), or numbers (n, size)}."""

SEEDS = 2**31 - 2**20
"""Environments are seeded by integers below this, plus their number."""


class Player:
    """Plays the episodes of a shard, and keeps what every step showed and brought."""

    def __init__(
        self, policy: Policy, steps: VectorSteps, recorder: Recorder, factors: ReadFactors, n_classes: Mapping[str, int], epsilon: float
    ) -> None:
        self.policy = policy
        self.steps = steps
        self.recorder = recorder
        self.factors = factors
        self.n_classes = n_classes
        self.actions = Actions(steps.env.single_action_space, steps.n_envs, epsilon)

    def rehearse(self, seed: int) -> tuple[dict[str, int], list[dict[str, Any]]]:
        """Act once, so that sites and factors are known: return the width of every site, and the factors as the manifest lists them."""
        self.steps.reset(0)
        with seeded_globals(self.policy.module, seeded_generator(seed, "rehearsal")):
            action, _ = self.policy.act(self.steps.begun.observation, None, self.steps.begun.reset)
        self.actions.check(action)
        sites = {name: flat_site(name, values, self.steps.n_envs) for name, values in self.recorder.take().items()}
        self._truth("")
        factors = [self._describe_factor(name, read) for name, read in self.factors(self.steps.env.unwrapped).items()]
        return {name: values.shape[1] for name, values in sites.items()}, factors

    def play(self, numbers: range, seed: int, shard: int) -> Episodes:
        """Play the episodes `numbers`, an equal quota in every environment."""
        steps, tape = self.steps, Tape()
        quota = len(numbers) // steps.n_envs + (np.arange(steps.n_envs) < len(numbers) % steps.n_envs)
        left, state = quota.copy(), None
        chance = seeded_generator(seed, "shard", shard, "exploration")
        steps.reset(int(torch.randint(SEEDS, (), generator=seeded_generator(seed, "shard", shard, "environment"))))
        with seeded_globals(self.policy.module, seeded_generator(seed, "shard", shard, "policy")):
            while (left > 0).any():
                begun = steps.begun
                row = {"observation": steps.encode(begun.observation), **self._truth("factor/")}
                action, state = self.policy.act(begun.observation, state, begun.reset)
                parts = self.recorder.take_parts()
                taken = self.actions.explored(self.actions.check(action), chance)
                moved = steps.step(taken)
                row |= {"action": self.actions.as_recorded(taken), "reward": moved.reward}
                row |= {"terminated": moved.terminated, "truncated": moved.truncated}
                final = {"final_observation": moved.final}
                if steps.keeps_final_state and moved.ended.any():
                    final |= {key: values[moved.ended] for key, values in self._truth("final_factor/").items()}
                tape.add(begun.live, row, parts, final)
                left -= moved.ended
                steps.advance()
        return tape.cut(np.asarray(numbers), quota, self.recorder)

    def _describe_factor(self, name: str, read: Any) -> dict[str, Any]:
        """Return what a recording says of a factor that `_truth` let pass."""
        values = np.array(read)
        if values.dtype.kind in "biu":
            return {"name": name, "kind": "categorical", "size": 2 if values.dtype.kind == "b" else self.n_classes[name]}
        return {"name": name, "kind": "continuous", "size": int(values.size // len(values))}

    def _truth(self, prefix: str) -> dict[str, Array]:
        """Return the factors of all environments: int64 (n,) or float32 (n, size)."""
        truth = {}
        for name, read in self.factors(self.steps.env.unwrapped).items():
            values = np.array(read)
            if values.shape[:1] != (self.steps.n_envs,):
                raise ValueError(f"factor {name!r} must have a row per environment, {self.steps.n_envs}; got the shape {values.shape}")
            is_class = values.dtype.kind in "biu"
            if values.dtype.kind in "iu" and not ((values >= 0) & (values < self.n_classes.get(name, 0))).all():
                raise ValueError(
                    f"factor {name!r} holds the integers {np.unique(values)[:9].tolist()}: expected classes from 0 and their number, as "
                    f"in n_classes={{{name!r}: {int(values.max()) + 1}}}, got n_classes={self.n_classes}; "
                    "numbers that are no classes must be floats"
                )
            truth[f"{prefix}{name}"] = values.astype(np.int64) if is_class else values.reshape(len(values), -1).astype(np.float32)
        return truth


@contextmanager
def seeded_globals(module: nn.Module, generator: torch.Generator) -> Iterator[None]:
    """Seed the global generators of torch, numpy and Python, from which foreign policies draw, and give them back as they were."""
    words, numbers = random.getstate(), np.random.get_state()  # noqa: NPY002 (the generator that foreign policies use)
    devices = sorted({parameter.device.index for parameter in module.parameters() if parameter.is_cuda})
    with torch.random.fork_rng(devices):
        seed = generator.initial_seed()
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(words)
            np.random.set_state(numbers)  # noqa: NPY002
