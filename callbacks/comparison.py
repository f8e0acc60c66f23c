"""What do the runs of several maps differ in? The columns of TensorBoard's HParams tab, and one run's line in it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, get_args

from pytorch_lightning import Trainer
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.api_pb2 import DataType, Experiment, HParamInfo, MetricInfo, MetricName
from tensorboard.plugins.hparams.metadata import (
    EXPERIMENT_TAG,
    NULL_TENSOR,
    SESSION_START_INFO_TAG,
    create_summary_metadata,
)
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo

from callbacks.captions import caption
from callbacks.pictures import planned_epochs
from dynamo.meta import MetaTask
from dynamo.meta.alignment import AlignmentKind
from dynamo.meta.losses import Distance


class Column(NamedTuple):
    """One option that maps are compared by.

    Attributes:
        text: what it is.
        values: all that are possible, of a text, as far as they can be listed; None for a number.
        first: whether the tab shows it before it is asked to; it sorts by name otherwise and shows five.
    """

    text: str
    values: tuple[str, ...] | None = None
    first: bool = False


OPTIONS: Final = {
    "D": Column("Dimensions of theta", first=True),
    "lambda": Column("Weight of the outputs; 0 compares hidden states alone", first=True),
    "members": Column("Networks on the map", first=True),
    "units": Column("Hidden units of the meta-model; of a residual one the channels of all stages", first=True),
    "seed": Column("Of weights, theta and draws", first=True),
    "alignment": Column("V_n", get_args(AlignmentKind)),
    "distance": Column("Between hidden states", get_args(Distance)),
    "epochs": Column("As planned when the run began"),
    "lr": Column("Learning rate"),
    "members_per_step": Column("Networks that take part in a step"),
    "population": Column("Its groups", ()),
    "theta_lr": Column("Learning rate of theta"),
}
METRICS: Final = (
    "val/agreement",
    "val/variance_explained",
    "map/silhouette",
    "similarity/theta_r",
    "map/accuracy_mean_theta",
    "map/accuracy_maximum",
    "map/dims_95",
    "val/accuracy",
    "test/agreement",
    "test/variance_explained",
    "test/accuracy",
)
"""Tags whose newest value is a column too; the tab shows the first five."""


def columns() -> Any:  # noqa: ANN401 - a protobuf
    """What is compared: the same in every run, since TensorBoard takes it from whichever comes first."""
    options = []
    for name, column in OPTIONS.items():
        kind = DataType.DATA_TYPE_FLOAT64 if column.values is None else DataType.DATA_TYPE_STRING
        options.append(HParamInfo(name=name, description=column.text, type=kind, differs=column.first))
        options[-1].domain_discrete.extend(column.values or ())
    about = {tag: found.text for tag in METRICS if (found := caption(tag)) is not None}
    metrics = [MetricInfo(name=MetricName(tag=tag), display_name=tag, description=about[tag]) for tag in METRICS]
    experiment = Experiment(hparam_infos=options, metric_infos=metrics)
    return _summary(EXPERIMENT_TAG, HParamsPluginData(experiment=experiment))


def line(trainer: Trainer, task: MetaTask) -> Any:  # noqa: ANN401 - a protobuf
    """One run's options, under the name that `tensorboard --logdir runs` calls it by: the tab shows few letters."""
    name = str(trainer.default_root_dir).removeprefix("runs/")
    began = SessionStartInfo(group_name=name, start_time_secs=time.time())
    chosen = began.hparams
    for name, value in options(task, planned_epochs(trainer)).items():
        if isinstance(value, str):
            chosen[name].string_value = value
        else:
            chosen[name].number_value = value
    return _summary(SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=began))


def options(task: MetaTask, epochs: int | None) -> Mapping[str, float | str]:
    """The options by the names of the columns.

    Args:
        task: the map.
        epochs: how many the run will have; no value where nobody knows.
    """
    return {
        "D": task.theta.shape[1],
        "lambda": task.output_weight,
        "members": len(task.members),
        "units": sum(task.network.hidden_sizes),
        "seed": task.seed,
        "alignment": task.alignment,
        "distance": task.distance,
        "population": ", ".join(dict.fromkeys(member.group for member in task.members)),
        "lr": task.lr,
        "members_per_step": task.members_per_step or len(task.members),
        "theta_lr": task.theta_lr,
        **({} if epochs is None else {"epochs": epochs}),
    }


def _summary(tag: str, content: HParamsPluginData) -> Any:  # noqa: ANN401 - a protobuf
    """An entry whose metadata is all that it says."""
    return Summary(value=[Summary.Value(tag=tag, metadata=create_summary_metadata(content), tensor=NULL_TENSOR)])
