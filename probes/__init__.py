"""Probes: how much of something can be read out of activations, on plain arrays.

In go X (n_samples, n_features), Y (n_samples,) or (n_samples, n_targets) and groups (n_samples,), the episode of each row; out come
predictions of rows whose episode no probe has seen, losses per episode, and intervals whose unit is the episode. Nothing here knows what
an agent is.

>>> import numpy as np
>>> from worldprobe.probes import cross_fit, group_folds, r2
>>> rng = np.random.default_rng(0)
>>> activations, episodes = rng.normal(size=(2000, 16)), np.repeat(np.arange(100), 20)
>>> position = activations[:, :2].sum(axis=1) + rng.normal(size=2000)
>>> fit = cross_fit(activations, position, episodes, folds=group_folds(episodes))
>>> float(r2(position, fit.predictions).round(2)[0])
0.63
"""

from worldprobe.probes._codelength import Codelength, online_codelength
from worldprobe.probes._crossfit import CrossFit, cross_fit
from worldprobe.probes._intervals import Estimate, RatioEstimate, false_discovery_rate, ratio_interval, sum_interval, t_interval
from worldprobe.probes._logistic import LogisticProbe
from worldprobe.probes._losses import clip_probabilities, group_log_losses, group_losses, group_sums
from worldprobe.probes._metrics import ClassReport, bits_per_label, brier_skill, class_report, estimability, r2, usable_information
from worldprobe.probes._mlp import MLPProbe
from worldprobe.probes._random_features import RandomFeatures
from worldprobe.probes._ridge import RidgeProbe
from worldprobe.probes._splits import check_groups, count_identical_rows, group_folds
from worldprobe.probes._storage import load_probe, save_probe

__all__ = [
    # estimators
    "RidgeProbe", "LogisticProbe", "MLPProbe", "RandomFeatures",
    # files
    "save_probe", "load_probe",
    # splits and out-of-fold predictions
    "group_folds", "check_groups", "count_identical_rows", "cross_fit", "CrossFit",
    # losses by group
    "group_losses", "group_log_losses", "group_sums", "clip_probabilities",
    # metrics
    "r2", "brier_skill", "bits_per_label", "class_report", "ClassReport", "estimability", "usable_information",
    # intervals and tests
    "ratio_interval", "RatioEstimate", "sum_interval", "t_interval", "Estimate", "false_discovery_rate",
    # codes
    "online_codelength", "Codelength",
]  # fmt: skip
