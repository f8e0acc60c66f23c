"""What the embedding shows: pure functions, tensors in, tensors out."""

from dynamo.analysis.alignment import Alignment, procrustes_align
from dynamo.analysis.averaging import accuracy_at, averaged_weights, bundle_accuracy, mean_points
from dynamo.analysis.clustering import (
    GroupDistances,
    PermutationTest,
    group_distances,
    permutation_test,
    silhouette,
)
from dynamo.analysis.fidelity import Fidelity, FidelitySums
from dynamo.analysis.pca import PCA, pca
from dynamo.analysis.trajectories import SpreadOverTime, spread_over_time

__all__ = [
    "PCA",
    "Alignment",
    "Fidelity",
    "FidelitySums",
    "GroupDistances",
    "PermutationTest",
    "SpreadOverTime",
    "accuracy_at",
    "averaged_weights",
    "bundle_accuracy",
    "group_distances",
    "mean_points",
    "pca",
    "permutation_test",
    "procrustes_align",
    "silhouette",
    "spread_over_time",
]
