"""Mutual information by a trained network: a lower bound for variables of any kind and dimension."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from worldprobe.probes._validation import Floats, check_finite


class MINE:
    r"""Mutual information neural estimator; several pairs of arrays are learned side by side.

    A network T is trained to raise the bound of Donsker and Varadhan, with y' permuted among the rows,

    .. math:: I(X; Y) \ge \langle T(x, y) \rangle - \log \langle e^{T(x, y')} \rangle ,

    whose second gradient is divided by a moving average of :math:`\langle e^{T(x, y')} \rangle` instead of its value in the batch, which
    would bias it. The weights of the highest bound on the validation rows are kept, and `estimate` is told rows that neither saw.

    Parameters
    ----------
    hidden : sequence of int
        Widths of the ReLU layers.
    n_epochs, batch_size : int
    learning_rate : float
        Of Adam.
    averaging : float
        Rate of the moving average.
    validation_fraction : float
        Share of the rows that weights are chosen by.
    random_state : int
        Seed of weights, batches and permutations. Equal seed and thread count give equal bits.
    device : str
        Where the networks are trained.

    Attributes
    ----------
    validation_ : ndarray, shape (n_epochs, n_pairs)
        Bound on the validation rows after each epoch, in nats.

    Notes
    -----
    Rows must be independent (one random step of each episode), and in nats the bound cannot exceed the logarithm of their number by much.
    The defaults are those of Lambrechts et al.: fit on 10,000 rows, estimate on 10,000 others.

    References
    ----------
    Belghazi et al. 2018, "Mutual information neural estimation"; Lambrechts, Bolland & Ernst 2022, "Recurrent networks, hidden states and
    beliefs in partially observable environments".

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.probes import MINE
    >>> signal, noise = np.random.default_rng(0).normal(size=(2, 4000, 1))
    >>> mine = MINE(hidden=(32,), n_epochs=30, batch_size=256).fit(signal[:2000], (signal + noise)[:2000])
    >>> bool(0.2 < mine.estimate(signal[2000:], (signal + noise)[2000:]) < 0.4)  # log(2) / 2 nats
    True
    """

    def __init__(
        self,
        hidden: Sequence[int] = (256, 256),
        n_epochs: int = 100,
        batch_size: int = 1024,
        learning_rate: float = 1e-3,
        averaging: float = 0.01,
        validation_fraction: float = 0.2,
        random_state: int = 0,
        device: str = "cpu",
    ) -> None:
        self.hidden = hidden
        self.n_epochs = n_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.averaging = averaging
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.device = device

    def fit(self, X: ArrayLike, Y: ArrayLike) -> Self:
        """Train one network per pair of arrays.

        Parameters
        ----------
        X : array_like, shape (n_samples, p) or (n_pairs, n_samples, p)
        Y : array_like, shape (n_samples, q) or (n_pairs, n_samples, q)

        Raises
        ------
        ValueError
            If the shapes do not fit, an entry is NaN, or fewer than two rows are left for training or validation.
        """
        x, y = self._tensors(X, Y)
        generator = torch.Generator().manual_seed(self.random_state)
        n_pairs, n_rows = x.shape[:2]
        n_validation = int(self.validation_fraction * n_rows)
        if min(n_validation, n_rows - n_validation) < 2:
            raise ValueError(f"training and validation need 2 rows or more each; got {n_rows - n_validation} and {n_validation}")
        order = torch.randperm(n_rows, generator=generator)
        held_out, seen = order[:n_validation], order[n_validation:]
        self._units = [_units(part[:, seen]) for part in (x, y)]
        x, y = self._in_units(x, y)
        networks = _Networks(n_pairs, x.shape[2] + y.shape[2], self.hidden, generator, self.device)
        optimiser = torch.optim.Adam(networks.parameters, lr=self.learning_rate)
        average, best, highest, bounds = None, networks.copy(), torch.full((n_pairs,), -math.inf), []
        for _ in range(self.n_epochs):
            for rows in torch.split(seen[torch.randperm(len(seen), generator=generator)], self.batch_size):
                joint, product = networks.scores(x[:, rows], y[:, rows], y[:, rows[torch.randperm(len(rows), generator=generator)]])
                weight = product.exp().mean(1)
                new = weight.detach()
                average = new if average is None else (1 - self.averaging) * average + self.averaging * new
                optimiser.zero_grad()
                torch.autograd.backward((weight / average - joint.mean(1)).sum())
                optimiser.step()
            bound = networks.bound(x[:, held_out], y[:, held_out], generator)
            bounds.append(bound.numpy())
            best.keep(bound > highest, networks)
            highest = torch.maximum(bound, highest)
        self._networks, self.validation_ = best, np.stack(bounds).astype(np.float64)
        return self

    def estimate(self, X: ArrayLike, Y: ArrayLike) -> float | Floats:
        """Return the bound on other rows than those of `fit`, in nats; one value per pair where arrays had an axis of pairs."""
        x, y = self._in_units(*self._tensors(X, Y))
        bound = self._networks.bound(x, y, torch.Generator().manual_seed(self.random_state + 1)).numpy().astype(np.float64)
        return float(bound[0]) if np.asarray(X).ndim == 2 else bound

    def _tensors(self, X: ArrayLike, Y: ArrayLike) -> tuple[Tensor, Tensor]:
        """Return float32 (n_pairs, n, p) and (n_pairs, n, q)."""
        arrays = [np.asarray(X), np.asarray(Y)]
        for name, array in zip(("X", "Y"), arrays, strict=True):
            check_finite(array, name)
        if arrays[0].ndim not in (2, 3) or arrays[0].ndim != arrays[1].ndim or arrays[0].shape[:-1] != arrays[1].shape[:-1]:
            shapes = " and ".join(str(array.shape) for array in arrays)
            raise ValueError(f"X and Y must be (n_samples, p) and (n_samples, q), or both with a leading axis of pairs; got {shapes}")
        x, y = (torch.as_tensor(array.reshape(-1, *array.shape[-2:]), dtype=torch.float32, device=self.device) for array in arrays)
        return x, y

    def _in_units(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Standardise as in `fit`."""
        x, y = ((part - mean) * inverse for part, (mean, inverse) in zip((x, y), self._units, strict=True))
        return x, y


class _Networks:
    """A stack of networks (x, y) -> T; every tensor has a leading axis of pairs."""

    def __init__(self, n_pairs: int, n_inputs: int, hidden: Sequence[int], generator: torch.Generator, device: str) -> None:
        sizes = [n_inputs, *hidden, 1]
        self.parameters: list[Tensor] = []
        for fan_in, fan_out in pairwise(sizes):
            limit = 1 / math.sqrt(fan_in)  # torch's own initialisation of linear layers
            for shape in ((n_pairs, fan_in, fan_out), (n_pairs, 1, fan_out)):
                drawn = (2 * torch.rand(shape, generator=generator) - 1) * limit
                self.parameters.append(drawn.to(device).requires_grad_(True))

    def copy(self) -> _Networks:
        """Return networks of the same weights that are not trained on."""
        other = _Networks.__new__(_Networks)
        other.parameters = [parameter.detach().clone() for parameter in self.parameters]
        return other

    @torch.no_grad()
    def keep(self, which: Tensor, others: _Networks) -> None:
        """Take over the weights of some pairs (n_pairs,)."""
        for mine, theirs in zip(self.parameters, others.parameters, strict=True):
            mine[which] = theirs[which]

    def scores(self, x: Tensor, y: Tensor, other_y: Tensor) -> tuple[Tensor, Tensor]:
        """Return T of the rows, and of the rows with another's y (n_pairs, n)."""
        activity = torch.cat([torch.cat([x, y], 2), torch.cat([x, other_y], 2)], 1)
        layers = list(zip(self.parameters[::2], self.parameters[1::2], strict=True))
        for weight, bias in layers[:-1]:
            activity = torch.relu(torch.baddbmm(bias, activity, weight))
        joint, product = torch.baddbmm(layers[-1][1], activity, layers[-1][0])[..., 0].chunk(2, 1)
        return joint, product

    @torch.no_grad()
    def bound(self, x: Tensor, y: Tensor, generator: torch.Generator, n_permutations: int = 10) -> Tensor:
        """Return the bound (n_pairs,) on the rows, the second mean taken over several permutations."""
        joint, products = x.new_zeros(0), []
        for _ in range(n_permutations):
            joint, product = self.scores(x, y, y[:, torch.randperm(x.shape[1], generator=generator)])
            products.append(product)
        logs = torch.logsumexp(torch.cat(products, 1), 1) - math.log(n_permutations * x.shape[1])
        return (joint.mean(1) - logs).cpu()


def _units(part: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and inverse standard deviation of each feature (n_pairs, 1, p); zero where it is constant."""
    mean, scale = part.mean(1, keepdim=True), part.std(1, correction=0, keepdim=True)
    return mean, torch.where(scale > 0, 1 / scale.clamp_min(torch.finfo(torch.float32).tiny), 0.0)
