"""Class labels of one or several heads, as codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.multiclass import check_classification_targets

from worldprobe.probes._validation import Booleans, Floats, Integers, check_labelled, check_mask, check_targets


@dataclass(frozen=True, eq=False)
class Classes:
    """What a fitted probe remembers of its labels: each head's sorted classes, and whether Y was flat."""

    heads: list[NDArray[Any]]
    flat: bool

    def check(self) -> None:
        """Refuse heads that are left with one class."""
        for head, present in enumerate(self.heads):
            if len(present) < 2:
                left = f"one class, {present[0]}" if len(present) else "no labels"
                raise ValueError(f"a probe needs labels of at least two classes, but head {head} is left with {left}")

    def answer(self, by_head: list[Floats]) -> Any:
        """Return one array per head, or the array alone where Y had no head axis."""
        return by_head[0] if self.flat else by_head

    def most_probable(self, by_head: list[Floats]) -> NDArray[Any]:
        """Return the labels of greatest probability, (n_samples,) or (n_samples, n_heads) as Y was."""
        columns = [classes[p.argmax(axis=1)] for classes, p in zip(self.heads, by_head, strict=True)]
        return columns[0] if self.flat else np.stack(columns, axis=1)


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels as numbers: heads are columns."""

    codes: Integers
    """Place of each label among its head's classes (n_samples, n_heads); 0 where there is no label."""
    mask: Booleans
    """Which labels exist (n_samples, n_heads)."""
    classes: Classes

    @classmethod
    def of(cls, X: NDArray[Any], Y: ArrayLike, mask: ArrayLike | None) -> Labels:
        """Encode Y of shape (n_samples,) or (n_samples, n_heads).

        Raises
        ------
        ValueError
            If Y is continuous, or a head is left with one class.
        """
        given = check_targets(X, Y)
        check_classification_targets(given)
        columns = given.reshape(len(given), -1)
        labelled = check_labelled(check_mask(mask, columns.shape))
        classes = [np.unique(column[known]) for column, known in zip(columns.T, labelled.T, strict=True)]
        kept = Classes(classes, given.ndim == 1)
        kept.check()
        codes = np.stack([np.searchsorted(present, column) for present, column in zip(classes, columns.T, strict=True)], axis=1)
        return cls(np.where(labelled, codes, 0).astype(np.int64), labelled, kept)

    @property
    def n_classes(self) -> list[int]:
        """Number of classes of each head."""
        return [len(present) for present in self.classes.heads]

    def check_training_sets(self, members: Sequence[Integers]) -> None:
        """Refuse training sets (given as row numbers) that leave some head fewer than two classes."""
        for number, rows in enumerate(members):
            for head, (codes, known) in enumerate(zip(self.codes[rows].T, self.mask[rows].T, strict=True)):
                left = np.unique(codes[known])
                if len(left) < 2:
                    raise ValueError(
                        f"a probe needs labels of at least two classes, but without fold {number} head {head} is left with "
                        f"{f'one class, {self.classes.heads[head][left[0]]}' if len(left) else 'no labels'}; "
                        "ask `estimability` first, and deal other folds"
                    )
