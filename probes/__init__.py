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
from worldprobe.probes._control_tasks import Selectivity, control_labels, estimate_selectivity
from worldprobe.probes._crossfit import CrossFit, cross_fit, cross_validate
from worldprobe.probes._embargo import embargo_mask, time_blocks
from worldprobe.probes._erasers import Eraser, EraserFitter, fit_inlp
from worldprobe.probes._floors import (
    FLOOR_FORMS,
    LEAST_FLOOR_UNITS,
    FeatureMap,
    FloorComparison,
    FloorForm,
    FloorGain,
    compare_floor,
    fit_floor_maps,
)
from worldprobe.probes._fold_moments import FoldMoments, collect_moments
from worldprobe.probes._history import choose_window, history_types, history_windows
from worldprobe.probes._identical_rows import check_identical_rows, count_identical_rows
from worldprobe.probes._intervals import Estimate, RatioEstimate, false_discovery_rate, ratio_interval, sum_interval, t_interval
from worldprobe.probes._logistic import LogisticProbe
from worldprobe.probes._losses import clip_probabilities, group_log_losses, group_losses, group_sums
from worldprobe.probes._low_rank import RankLimitedProbe
from worldprobe.probes._metrics import (
    ClassReport,
    bits_per_label,
    brier_skill,
    class_report,
    estimability,
    log_loss,
    r2,
    usable_information,
)
from worldprobe.probes._mine import MINE
from worldprobe.probes._mlp import MLPProbe
from worldprobe.probes._mutual_information import gaussian_information, nearest_neighbour_information
from worldprobe.probes._nulls import GridTest, grid_test, pseudo_session_test, pseudo_sessions
from worldprobe.probes._random_features import RandomFeatures
from worldprobe.probes._ridge import RidgeProbe
from worldprobe.probes._similarity import linear_cka, representational_similarity, similarity_matrix
from worldprobe.probes._splits import check_groups, group_folds
from worldprobe.probes._storage import load_probe, save_probe
from worldprobe.probes._transition import TRANSITION_CLAIMS, TRANSITION_FORMS, TransitionForm, TransitionProbe
from worldprobe.probes._twins import TwinComparison, compare_twins
from worldprobe.probes._ungrouped import UngroupedRowsWarning
from worldprobe.probes._units import UNIT_SCORES, SparseProbe, UnitRanking, binned_information, equal_count_bins, rank_units
from worldprobe.probes._usable_information import UsableInformation, estimate_usable_information

__all__ = [
    # estimators
    "RidgeProbe", "LogisticProbe", "MLPProbe", "RandomFeatures",
    "RankLimitedProbe", "SparseProbe",
    "TransitionProbe", "TransitionForm", "TRANSITION_FORMS", "TRANSITION_CLAIMS",
    # sums that any number of ridge probes and erasers follow from
    "collect_moments", "FoldMoments",
    # files
    "save_probe", "load_probe",
    # splits and out-of-fold predictions
    "group_folds", "check_groups", "time_blocks", "embargo_mask", "count_identical_rows", "check_identical_rows",
    "UngroupedRowsWarning", "cross_fit", "CrossFit", "cross_validate",
    # losses by group
    "group_losses", "group_log_losses", "group_sums", "clip_probabilities",
    # metrics
    "r2", "brier_skill", "bits_per_label", "log_loss", "class_report", "ClassReport", "estimability", "usable_information",
    # intervals and tests
    "ratio_interval", "RatioEstimate", "sum_interval", "t_interval", "Estimate", "false_discovery_rate",
    # floors and twins
    "history_windows", "choose_window", "history_types", "FLOOR_FORMS", "FloorForm", "LEAST_FLOOR_UNITS",
    "fit_floor_maps", "FeatureMap", "compare_floor", "FloorComparison", "FloorGain", "compare_twins", "TwinComparison",
    # control tasks and nulls
    "control_labels", "estimate_selectivity", "Selectivity", "pseudo_sessions", "pseudo_session_test", "grid_test", "GridTest",
    # usable and mutual information
    "estimate_usable_information", "UsableInformation",
    "MINE", "nearest_neighbour_information", "gaussian_information",
    # single units
    "rank_units", "UnitRanking", "UNIT_SCORES", "equal_count_bins", "binned_information",
    # similarity
    "linear_cka", "representational_similarity", "similarity_matrix",
    # erasers
    "EraserFitter", "Eraser", "fit_inlp",
    # codes
    "online_codelength", "Codelength",
]  # fmt: skip
