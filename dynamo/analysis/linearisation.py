"""What does a network do close to a state? Jacobians, eigenvalues, time constants and stability of fixed points."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Step = Callable[..., Tensor]
"""One step of a network with its input held, the rows independent of each other.

From states `[P, S]`, and a context `[P, ...]` where one is given, to the states after it `[P, S]`.

Examples:
    >>> import torch
    >>> from dynamo.analysis import jacobians
    >>> def step(states, gain):  # a network h -> tanh(gain * h); row p of the context belongs to row p of the states
    ...     return torch.tanh(gain * states)
    >>> jacobians(step, torch.zeros(2, 1), context=torch.tensor([[0.5], [2.0]])).flatten()
    tensor([0.5000, 2.0000])
"""

_ROUNDING = 1e-6
"""An eigenvalue this little above 1 is 1: Jacobians may come in float32."""


@dataclass(frozen=True)
class Linearisation:
    """How do small deviations from each of U states grow or fade, and how fast?

    Everything is complex128 or float64 on the CPU, whatever the states were.

    Attributes:
        eigenvalues: of the Jacobian, by falling modulus `[U, S]`.
        time_constants: steps after which a mode has fallen to 1/e, `-1 / ln |eigenvalue|`, `[U, S]`; 0 for an
            eigenvalue of 0, infinity for one of modulus 1 or more.
        stability: of every state: "stable" (no mode grows), "unstable" (all do) or "saddle".
        right: the slow mode (that of the first eigenvalue), `J right = eigenvalue right`: along which direction a
            deviation lingers; length 1, its largest component is positive `[U, S]`.
        left: `left J = eigenvalue left`: which deviations excite the slow mode; likewise `[U, S]`.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import linearise
        >>> found = linearise(lambda h: h @ torch.diag(torch.tensor([2.0, 0.5])), torch.zeros(1, 2))
        >>> found.stability, found.eigenvalues.real
        (('saddle',), tensor([[2.0000, 0.5000]], dtype=torch.float64))
    """

    eigenvalues: Tensor
    time_constants: Tensor
    stability: tuple[str, ...]
    right: Tensor
    left: Tensor


def evaluate(step: Step, states: Tensor, context: Tensor | None) -> Tensor:
    """The states after one step, whether or not the step wants a context: `[P, S]`."""
    return step(states) if context is None else step(states, context)


def jacobians(step: Step, states: Tensor, context: Tensor | None = None, chunk: int = 256) -> Tensor:
    """How does the next state depend on this one? Jacobians of a step whose rows are independent.

    Args:
        step: see `Step`; any operations that torch can differentiate.
        states: `[P, S]`, float32 or float64; it decides the type of the result.
        context: what travels with the states, `[P, ...]`.
        chunk: states that are worked on at a time; a few times `[chunk, S, S]` numbers are in memory beside the
            result. Speed hardly depends on it.

    Returns:
        `[P, S, S]`: entry `[p, i, j]` is the derivative of unit i after the step by unit j before it.

    Raises:
        ValueError: shapes do not fit together.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import jacobians
        >>> weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> jacobians(lambda h: h @ weight.T, torch.zeros(1, 2))  # of a linear step: its matrix
        tensor([[[1., 2.],
                 [3., 4.]]])
    """
    check_rows("states", states, context, chunk)
    return _in_chunks(lambda h, c: lambda rows: evaluate(step, rows, c), states, states, context, chunk)


def input_jacobians(
    step: Step, states: Tensor, inputs: Tensor, context: Tensor | None = None, chunk: int = 256
) -> Tensor:
    """Where does a change of the input push the state?

    Args:
        step: as `Step`, with the input between states and context: `step(states [P, S], inputs [P, E])` or
            `step(states, inputs, context)`, such as `fixed_points.network_input_step`.
        states: `[P, S]`.
        inputs: word vectors `[P, E]`, or one for all `[E]`.
        context: what travels with the states, `[P, ...]`.
        chunk: as in `jacobians`.

    Returns:
        `[P, S, E]`.

    Raises:
        ValueError: shapes do not fit together.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import input_jacobians
        >>> weight = torch.tensor([[1.0], [5.0]])
        >>> input_jacobians(lambda h, x: h / 2 + x @ weight.T, torch.zeros(1, 2), torch.zeros(1))
        tensor([[[1.],
                 [5.]]])
    """
    check_rows("states", states, context, chunk)
    if not inputs.ndim or inputs.shape[:-1] not in ((), (len(states),)):
        raise ValueError(f"inputs {list(inputs.shape)} must be [E], or [P, E] with one row for each of {len(states)}")
    rows = inputs.to(states.dtype).expand(len(states), -1)

    def held(h: Tensor, c: Tensor | None) -> Callable[[Tensor], Tensor]:
        return (lambda x: step(h, x)) if c is None else (lambda x: step(h, x, c))

    return _in_chunks(held, states, rows, context, chunk)


def linearise(step: Step, states: Tensor, context: Tensor | None = None, chunk: int = 256) -> Linearisation:
    """Which deviations from each state linger, and which states are stable?

    Means what it says at fixed points, and approximately where the speed is low.

    Args:
        step: see `Step`.
        states: `[U, S]`, U >= 1.
        context: what travels with the states, `[U, ...]`.
        chunk: as in `jacobians`.

    Raises:
        ValueError: shapes do not fit together, or the network's derivatives are not finite at a state.

    Source: the line attractors of Figure 8; time constants as in Maheswaranathan et al. 2019 (line_attractor.py).

    Examples:
        >>> import torch
        >>> from dynamo.analysis import linearise
        >>> found = linearise(lambda h: h / 2, torch.zeros(1, 1))
        >>> round(float(found.time_constants), 4), found.stability  # halved at every step: 1 / ln 2 steps until 1/e
        (1.4427, ('stable',))
    """
    matrices = jacobians(step, states, context, chunk).cpu().double()
    sound = matrices.isfinite().flatten(1).all(1)
    if not sound.all():
        bad = (~sound).nonzero().flatten().tolist()
        raise ValueError(f"the derivatives at states {bad} are not finite; leave out what did not converge")
    values, right = torch.linalg.eig(matrices)
    order = values.abs().argsort(dim=1, descending=True, stable=True)
    values = values.gather(1, order)
    modulus = values.abs()
    # The left vectors come from the transpose, not from inverting the right ones: those may coincide.
    values_left, left = torch.linalg.eig(matrices.mT)
    same = (values_left - values[:, :1]).abs().argmin(1)
    fading = (-1.0 / modulus.clamp(max=1).log()).abs()  # -1 / ln 1 is -inf, and an infinity is wanted
    growing = (modulus > 1 + _ROUNDING).sum(1).tolist()
    names = ("stable" if count == 0 else "unstable" if count == values.shape[1] else "saddle" for count in growing)
    return Linearisation(values, fading, tuple(names), _pick(right, order[:, 0]), _pick(left, same))


def check_rows(name: str, states: Tensor, context: Tensor | None, chunk: int) -> None:
    """Refuse what is no batch of states with its context.

    Raises:
        ValueError: so it is; the message begins with the name.
    """
    if states.ndim != 2 or 0 in states.shape:
        raise ValueError(f"{name} must be [P, S] with P, S >= 1, got {list(states.shape)}")
    if states.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{name} must be float32 or float64, got {states.dtype}")
    if context is not None and (context.ndim < 1 or len(context) != len(states)):
        raise ValueError(f"context {list(context.shape)} must have one row for each of the {len(states)} {name}")
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")


def plain(tensor: Tensor) -> Tensor:
    """The values alone: no gradient, and differentiable even if it was made in inference mode."""
    return tensor.detach().clone() if tensor.is_inference() else tensor.detach()


@torch.inference_mode(False)
@torch.no_grad()
def _in_chunks(
    held: Callable[[Tensor, Tensor | None], Callable[[Tensor], Tensor]],
    states: Tensor,
    rows: Tensor,
    context: Tensor | None,
    chunk: int,
) -> Tensor:
    """Jacobians by `rows` `[P, any]` of what `held` makes of the states and context: `[P, S, any]`."""
    states, rows = plain(states), plain(rows)
    context = None if context is None else plain(context)
    size = states.shape[1]
    jacobian = rows.new_empty(len(states), size, rows.shape[1])
    basis = torch.eye(size, dtype=states.dtype, device=states.device)
    for start in range(0, len(states), chunk):
        part = slice(start, start + chunk)
        function = held(states[part], None if context is None else context[part])
        after, pull = torch.func.vjp(function, rows[part])[:2]
        if after.shape != states[part].shape:
            raise ValueError(f"step made {list(after.shape)} of states {list(states[part].shape)}; it has to keep them")
        pulled = torch.func.vmap(lambda unit, pull=pull, like=after: pull(unit.expand_as(like))[0], out_dims=1)(basis)
        jacobian[part] = pulled
    return jacobian


def _pick(vectors: Tensor, which: Tensor) -> Tensor:
    """One eigenvector (column) of each matrix `[U, S, S]`, at length 1 and in a phase of its own `[U, S]`."""
    chosen = vectors.gather(2, which.view(-1, 1, 1).expand(-1, vectors.shape[1], 1)).squeeze(2)
    largest = chosen.gather(1, chosen.abs().argmax(1, keepdim=True))
    chosen = chosen * (largest.conj() / largest.abs())
    norms: Tensor = torch.linalg.vector_norm(chosen, dim=1, keepdim=True)
    return chosen / norms.clamp(min=math.ulp(0.0))
