"""What the embedding shows: pure functions, tensors in, tensors out."""

from dynamo.analysis.accuracy_map import (
    Answers,
    Emulator,
    answers_at,
    best_point,
    interleave,
    preference,
    relative_accuracy,
)
from dynamo.analysis.alignment import Alignment, procrustes_align
from dynamo.analysis.averaging import (
    accuracy_at,
    averaged_weights,
    base_accuracies,
    bundle_accuracy,
    group_means,
    mean_points,
    with_own_statistics,
)
from dynamo.analysis.bootstrap import Bootstrap
from dynamo.analysis.change_of_basis import in_another_basis, permuted_units
from dynamo.analysis.clustering import (
    GroupDistances,
    PermutationTest,
    distances_to,
    distances_to_groups,
    euclidean_distances,
    group_distances,
    least_p,
    permutation_test,
    silhouette,
)
from dynamo.analysis.emulation_fidelity import emulation
from dynamo.analysis.fidelity import Fidelity, FidelitySums
from dynamo.analysis.fixed_points import FixedPoints, bundle_step, find_fixed_points, network_step
from dynamo.analysis.interpolation import Interpolation, interpolate, interpolate_weights
from dynamo.analysis.labels import draw_labels
from dynamo.analysis.lexicon import Lexicon, Polarities, lexicon, polarities
from dynamo.analysis.line_attractor import LineAttractor, angle, line_attractor
from dynamo.analysis.linearisation import Linearisation, Step, input_jacobians, jacobians, linearise
from dynamo.analysis.local_search import LocalSearch, local_search
from dynamo.analysis.mds import MDS, classical_mds, smacof_mds
from dynamo.analysis.newcomers import Fit, Newcomers, compare_newcomers, embed_newcomers
from dynamo.analysis.pca import PCA, pca
from dynamo.analysis.plane import PlaneAxes, PlaneGrid, plane_grid, plane_of
from dynamo.analysis.semi_supervised import Search, search, search_many, train_from_scratch
from dynamo.analysis.similarity import SVCCA, DistanceCorrelation, distance_correlation, pairwise, svcca
from dynamo.analysis.similarity_sums import SimilaritySums
from dynamo.analysis.states import emulator_states, population_states, state_sizes
from dynamo.analysis.trajectories import SpreadOverTime, spread_over_time
from dynamo.analysis.visited import VisitedStates, mean_input, visited_states
from dynamo.analysis.word_scores import base_word_effects, word_effects, word_scores

__all__ = [
    "MDS",
    "PCA",
    "SVCCA",
    "Alignment",
    "Answers",
    "Bootstrap",
    "DistanceCorrelation",
    "Emulator",
    "Fidelity",
    "FidelitySums",
    "Fit",
    "FixedPoints",
    "GroupDistances",
    "Interpolation",
    "Lexicon",
    "LineAttractor",
    "Linearisation",
    "LocalSearch",
    "Newcomers",
    "PermutationTest",
    "PlaneAxes",
    "PlaneGrid",
    "Polarities",
    "Search",
    "SimilaritySums",
    "SpreadOverTime",
    "Step",
    "VisitedStates",
    "accuracy_at",
    "angle",
    "answers_at",
    "averaged_weights",
    "base_accuracies",
    "base_word_effects",
    "best_point",
    "bundle_accuracy",
    "bundle_step",
    "classical_mds",
    "compare_newcomers",
    "distance_correlation",
    "distances_to",
    "distances_to_groups",
    "draw_labels",
    "embed_newcomers",
    "emulation",
    "emulator_states",
    "euclidean_distances",
    "find_fixed_points",
    "group_distances",
    "group_means",
    "in_another_basis",
    "input_jacobians",
    "interleave",
    "interpolate",
    "interpolate_weights",
    "jacobians",
    "least_p",
    "lexicon",
    "line_attractor",
    "linearise",
    "local_search",
    "mean_input",
    "mean_points",
    "network_step",
    "pairwise",
    "pca",
    "permutation_test",
    "permuted_units",
    "plane_grid",
    "plane_of",
    "polarities",
    "population_states",
    "preference",
    "procrustes_align",
    "relative_accuracy",
    "search",
    "search_many",
    "silhouette",
    "smacof_mds",
    "spread_over_time",
    "state_sizes",
    "svcca",
    "train_from_scratch",
    "visited_states",
    "with_own_statistics",
    "word_effects",
    "word_scores",
]
