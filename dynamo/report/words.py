"""What the numbers mean, in words: verdicts by stated rules of thumb, and what single numbers say."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Grade = Literal["good", "fair", "poor", "unknown"]

_MEANINGS: Final = {
    "silhouette_theta": "how clearly the groups lie apart in all dimensions of theta, -1 to 1; 0 is no grouping",
    "silhouette_plane": "the same on the plane that is drawn",
    "p_theta": "share of shuffled labels with a silhouette as high: small means that chance does not do it",
    "p_plane": "the same on the plane",
    "null_mean_theta": "silhouette of shuffled labels",
    "dims_95": "components that hold 95 % of the variance of theta",
    "moved_between_runs": "how far theta moves from one seed to another, after alignment",
    "base_median": "accuracy of the median member",
    "base_best": "accuracy of the best member",
    "chance": "accuracy of guessing",
    "distance_mean": "mean distance between the hidden states of two members",
    "emulator_distance_mean": "mean distance between an emulator and its original: small beside that between members",
    "emulator_distance_worst": "the largest of these",
    "stress": "how badly two dimensions hold the distances, 0 to 1",
    "theta_pearson": "correlation of distances in theta with distances between hidden states, over all pairs",
    "theta_p": "share of shuffles that reach this correlation",
    "silhouette_distances": "silhouette of the groups by distances between hidden states",
    "silhouette_mds": "the same on the plane of these distances",
    "mean_theta.all": "accuracy at the mean of all theta: a network that nobody trained",
    "averaged_weights.all": "accuracy of the network of averaged weights, for comparison",
    "map_maximum": "best accuracy on the plane, as a share of the best member's; chosen on the items it is measured on",
    "x_relative": "accuracy at X, chosen on held-out items, as a share of the best member's",
    "x_accuracy": "accuracy at X, the best point found on held-out items",
    "emulators_best_relative": "accuracy of the best emulator, as a share of the best member's",
    "converged_share": "share of the searches that reached a fixed point",
    "spread_early": "how far apart the networks are at first",
    "spread_late": "how far apart they are at the end",
    "late_over_early": "above 1 they part, below 1 they meet",
    "own_group": "share of the newcomers whose nearest group is their own",
    "own_group_before": "the same for their places as members",
    "group_agreement": "share of those left out whose nearest group is the one that they have as members",
    "group_chance": "the same with shuffled names of the members",
    "p_group": "share of shuffles with an agreement as high",
    "neighbour_agreement": "share of their nearest members that are those that they have as members",
    "neighbour_chance": "the same with shuffled names of the members",
    "p_neighbour": "share of shuffles with an agreement as high",
    "distance_change": "by how much distances in theta differ between the two maps, as a share of them",
}


class Verdict(NamedTuple):
    """What is to be thought of a number.

    Attributes:
        grade: at a glance.
        word: what stands beside the number.
        text: a sentence or two.
    """

    grade: Grade
    word: str
    text: str


def meaning(name: str) -> str:
    """What does a number of an analysis say? Empty where its name says it."""
    known = [key for key in _MEANINGS if name == key or name.endswith(f".{key}")]
    return _MEANINGS[known[0]] if known else ""


def of_fidelity(agreement: float, explained: float) -> Verdict:
    """May the map be trusted? Good from agreement 0.9 and 80 % of the variance, poor below 0.8 or 50 %."""
    if agreement >= 0.9 and explained >= 0.8:
        return Verdict("good", "trust the map", "The emulators follow their originals closely: the map can be trusted.")
    if agreement < 0.8 or explained < 0.5:
        text = (
            "The emulators do not follow their originals well, and a map of poor emulators shows nothing: train the "
            "meta-model longer before you read it."
        )
        return Verdict("poor", "do not trust it yet", text)
    text = "The emulators follow their originals, but not closely: trust clear clusters, not single distances."
    return Verdict("fair", "read with care", text)


def of_silhouette(silhouette: float, p: float, least: float = 0.0) -> Verdict:
    """Do the groups lie apart? Not where p is 0.05 or more; clearly from a silhouette of 0.25 on.

    Args:
        silhouette: of the groups in theta.
        p: of the permutation test.
        least: the smallest p that there can be, see `dynamo.analysis.least_p`; where it is 0.05 or more and p comes
            near it, nobody can say.
    """
    if least >= 0.05 and p < 1.5 * least:
        text = (
            f"The groups lie apart as clearly as can be seen with so few networks: no p below {least:.2g} is possible, "
            "so chance cannot be ruled out. Add networks to each group."
        )
        return Verdict("unknown", "too few networks to tell", text)
    if p >= 0.05:
        text = "Groups drawn by chance would lie as far apart: the map does not tell these groups from each other."
        return Verdict("poor", "no grouping seen", text)
    if silhouette >= 0.25:
        text = "The groups form clusters of their own, though the meta-model was never told of them."
        return Verdict("good", "groups lie apart", text)
    text = "The groups lie apart more than chance would have it, but their clusters touch or overlap in theta."
    return Verdict("fair", "groups lie apart, but touch", text)


def of_mean(mean: float, median: float, chance: float | None) -> Verdict:
    """Is the mean of all theta a working network? As good as members down to 0.01 below the median member."""
    if chance is not None and median < chance + 0.02:
        text = (
            "The median member answers these labels no better than guessing, so accuracies say little here: members "
            "may have learnt other labels."
        )
        return Verdict("unknown", "members do not know these labels", text)
    if mean >= median - 0.01:
        text = "The network at the mean of all theta, which nobody trained, is as good as the median member."
        return Verdict("good", "as good as a member", text)
    if chance is not None and mean < chance + 0.5 * (median - chance):
        text = "The network at the mean of all theta has lost most of what the members know."
        return Verdict("poor", "worse than the members", text)
    text = "The network at the mean of all theta works, but not as well as the median member."
    return Verdict("fair", "below the median member", text)
