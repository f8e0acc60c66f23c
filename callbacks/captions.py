"""What are the curves and pictures of TensorBoard about? A title and a sentence for every tag, and the pictures' order.

TensorBoard sorts by tag. Pictures stand before curves, as digits do before letters, in the order of their numbers.
"""

from __future__ import annotations

import re
from typing import Final

from dynamo.event_files import Caption

PICTURES: Final = {
    "map/pca": "map/1_plane",
    "map/accuracy": "map/2_accuracy",
    "map/similarity": "map/3_similarity",
    "fidelity/val": "map/4_fidelity",
    "fidelity/test": "map/5_fidelity_test",
}
"""Name of a picture (`map/pca` is `RUN/figures/map_pca.png`) -> its tag."""

_FIDELITY = """One bar per member: the share of the variance of its hidden states that its emulator explains, and how
often both give the same answer; beside them the accuracies of emulators and originals. A map of poor emulators shows
nothing."""
_EXPLAINED = "Share of the variance of the originals' hidden states that the emulators explain; 1 is perfect. "
_AGREEMENT = "How often an emulator gives its original's answer. "
_OF_GROUP = "Mean of the group."

_CAPTIONS: Final = {
    "map/1_plane": (
        "The map: theta on its first two principal components",
        """Every point is a network, coloured by what the meta-model was never told. Close points compute alike; axes
and signs mean nothing. Below: how many directions the population varies in (dotted: 95 % of the variance).""",
    ),
    "map/2_accuracy": (
        "How good is the network at every point of the plane?",
        """Accuracy of the network at each point, divided by that of the best member, on held-out items; X marks the
best point. Members are drawn as points.""",
    ),
    "map/3_similarity": (
        "Does the map agree with distances between representations?",
        """Left: members placed by the distances of their hidden states (multidimensional scaling). Middle: theta.
Right: one kind of distance against the other, over all pairs of members.""",
    ),
    "map/4_fidelity": ("How well does each emulator follow its original?", f"{_FIDELITY} Validation items."),
    "map/5_fidelity_test": ("The same on test items", f"{_FIDELITY} Test items."),
    "map/silhouette": (
        "Silhouette of the groups, all dimensions",
        "How clearly the groups lie apart in theta, from -1 to 1. `dynamo analyze embedding` says with which p.",
    ),
    "map/silhouette_plane": ("Silhouette of the groups, on the plane", "The same on the first two components."),
    "map/dims_95": ("Components that hold 95 % of the variance", "In how many directions the population varies."),
    "map/accuracy_maximum": (
        "Best accuracy on the plane / best member's",
        "At X, which is chosen on the items that it is measured on: slightly too high.",
    ),
    "map/accuracy_mean_theta": (
        "Accuracy at the mean of all theta / best member's",
        "A network that nobody trained; above 1 it beats every member.",
    ),
    "similarity/theta_r": (
        "Correlation of the two kinds of distance",
        "Pearson's r over all pairs of members: distances in theta against distances of hidden states.",
    ),
    "similarity/emulators": (
        "Distance of an emulator to its original, mean",
        "Of their hidden states, by the measure that was chosen (SVCCA by default), in [0, 1].",
    ),
    "similarity/emulators_worst": ("Distance of an emulator to its original, largest", "As in the mean."),
    "train/hidden": ("Hidden loss", "Mean over the members of the step: distance of hidden states, L_hidden."),
    "train/output": ("Output loss", "Mean over the members of the step: divergence of the answers, L_output."),
    "train/loss": ("Training loss", "Mean over the members; of a map L_hidden + lambda * L_output."),
    "train/loss/(.+)": ("Training loss, {0}", _OF_GROUP),
    "(val|test)/loss": (
        "Loss, {0}",
        "Of a population cross-entropy. Of a map unexplained variance + lambda * KL; the smallest makes `best.ckpt`.",
    ),
    "(val|test)/kl": ("KL of the answers, {0}", "From originals to emulators, mean over members."),
    "(val|test)/agreement": ("Agreement, {0}", f"{_AGREEMENT}Mean over members."),
    "(val|test)/agreement_worst": ("Agreement of the worst emulator, {0}", _AGREEMENT),
    "(val|test)/agreement/(.+)": ("Agreement, {0}, {1}", f"{_AGREEMENT}{_OF_GROUP}"),
    "(val|test)/variance_explained": ("Variance explained, {0}", f"{_EXPLAINED}Mean over members."),
    "(val|test)/variance_explained/(.+)": ("Variance explained, {0}, {1}", f"{_EXPLAINED}{_OF_GROUP}"),
    r"(val|test)/variance_explained_stage(\d+)": ("Variance explained, {0}, stage {1}", f"{_EXPLAINED}Of one stage."),
    "(val|test)/original_accuracy": ("Accuracy of the originals, {0}", "Mean over members; it does not change."),
    "(val|test)/accuracy": ("Accuracy, {0}", "Mean over members: of a population's, or of a map's emulators."),
    "(val|test)/accuracy/(.+)": ("Accuracy, {0}, {1}", _OF_GROUP),
    "(val|test)_members/accuracy/(.+)": ("Accuracy of {1}, {0}", "One member."),
    "cost/(.+)": ("Time of {0}", "Seconds the callback took / seconds of the epoch so far."),
}


def caption(tag: str) -> Caption | None:
    """The title and the text of a tag; None for tags of others."""
    for pattern, (title, text) in _CAPTIONS.items():
        if (found := re.fullmatch(pattern, tag)) is not None:
            return Caption(title.format(*found.groups()), " ".join(text.split()))
    return None
