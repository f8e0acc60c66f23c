"""Error bars of distances between models: what another draw of the inputs would have given."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Bootstrap(NamedTuple):
    """How far apart are the models, and how much of that depends on which inputs were drawn? Tensors `[N, N]`.

    Attributes:
        distances: from all inputs.
        std: standard deviation over the replicates.
        lower: lower end of the 95 % interval.
        upper: its upper end.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import Bootstrap
        >>> distances = torch.tensor([[0.0, 0.5], [0.5, 0.0]]).double()
        >>> found = Bootstrap.around(distances, torch.stack([0.9 * distances, distances, 1.1 * distances]))
        >>> bool(found.lower[0, 1] < 0.5 < found.upper[0, 1]), round(float(found.std[0, 1]), 6)
        (True, 0.05)
    """

    distances: Tensor
    std: Tensor
    lower: Tensor
    upper: Tensor

    @classmethod
    def around(cls, distances: Tensor, replicates: Tensor) -> Bootstrap:
        """What replicates `[R, N, N]` say of the distances `[N, N]` from all inputs.

        Fewer different samples than the whole pull all replicates to one side (they correlate more by chance); so the
        interval is that of the replicates about their own mean, laid around the distance from all inputs. With few
        blocks it is a little narrow: with 16 it held the mean of fresh draws in 83 to 100 % of trials.
        """
        quantiles = np.quantile(replicates.numpy(), [0.025, 0.975], axis=0)
        low, high = torch.from_numpy(quantiles) - replicates.mean(0)
        return cls(distances, replicates.std(0), (distances + low).clamp(min=0), distances + high)
