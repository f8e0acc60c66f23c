"""The recurrence of a population: `N` recurrent networks of one architecture advance together.

The input's share of the gates does not depend on the states, so `project` computes it for all steps at once; `scan`
then walks through time, with one batched product per step for all members. `unroll` is both in one. `step` is the
same arithmetic for one step in plain operations.

The scan's backward is written out: the gradient of the weights is one large product over all steps instead of a small
one per step, and nothing is stored but the activations. Two habits of the CPU shaped the rest: a batched product is
fast only where its *result* is contiguous, so every product has a buffer of its own; and adding to a buffer
(`baddbmm_`) is no slower than filling one, so each sum starts as one.
"""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import BackwardCFunction, FunctionCtx, once_differentiable

from dynamo.population.company import affine, products, rooms

Kind = Literal["gru", "lstm", "rnn"]

GATES: Final[dict[str, int]] = {"gru": 3, "lstm": 4, "rnn": 1}
"""Number of gates `g` of each kind; their order is that of `torch.nn` (GRU: r, z, n; LSTM: i, f, g, o)."""

_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input


def project(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """What the inputs contribute to the gates, for all steps at once: `[N, T, B, gH]`.

    Args:
        inputs: `[N, T, B, E]`, or `[T, B, E]` where all members read the same.
        weight: `weight_ih_l0` of every member, `[N, gH, E]`.
        bias: `bias_ih_l0` of every member, `[N, gH]`.
    """
    steps, items = inputs.shape[-3:-1]
    flat = inputs.flatten(-3, -2).expand(weight.shape[0], -1, -1)
    return affine(flat, weight, bias).view(weight.shape[0], steps, items, -1)


def scan(
    kind: Kind, projected: Tensor, weight: Tensor, bias: Tensor, state: tuple[Tensor, ...] | None = None
) -> Tensor:
    """The hidden states of all members at every step; differentiable once.

    Args:
        kind: "gru", "lstm" or "rnn" (tanh).
        projected: what `project` returns, `[N, T, B, gH]`.
        weight: `weight_hh_l0` of every member, `[N, gH, H]`.
        bias: `bias_hh_l0` of every member, `[N, gH]`.
        state: initial state, `(h,)` or for an LSTM `(h, c)`, `[N, B, H]` each; zeros if None.

    Returns:
        `[N, T, B, H]`.
    """
    projected = projected.to(weight.dtype)  # under autocast the projection arrives in half precision
    arguments = (projected, weight, bias, *(state or _zeros(kind, projected, weight)))
    keep = torch.is_grad_enabled() and any(argument.requires_grad for argument in arguments)
    hidden: Tensor = _SCANS[kind].apply(keep, *arguments)
    return hidden


def unroll(
    kind: Kind,
    inputs: Tensor,
    weight_ih: Tensor,
    bias_ih: Tensor,
    weight_hh: Tensor,
    bias_hh: Tensor,
    state: tuple[Tensor, ...] | None = None,
) -> Tensor:
    """From inputs to states by the fastest way there is: `project` and `scan`, or for an LSTM on a CPU oneDNN.

    oneDNN's fused LSTM runs near the limit of the processor, member by member; it wants the inputs themselves.

    Args:
        kind: "gru", "lstm" or "rnn" (tanh).
        inputs: `[N, T, B, E]`, or `[T, B, E]` where all members read the same.
        weight_ih: `weight_ih_l0` of every member, `[N, gH, E]`; the other three likewise.
        bias_ih: `[N, gH]`.
        weight_hh: `[N, gH, H]`.
        bias_hh: `[N, gH]`.
        state: as in `scan`.

    Returns:
        `[N, T, B, H]`.
    """
    if kind != "lstm" or inputs.device.type != "cpu":
        return scan(kind, project(inputs, weight_ih, bias_ih), weight_hh, bias_hh, state)
    inputs = inputs.expand(len(weight_hh), *inputs.shape[-3:])
    state = state or _zeros(kind, inputs, weight_hh)
    parameters = zip(*(part.unbind() for part in (weight_ih, weight_hh, bias_ih, bias_hh)), strict=True)
    starts = zip(*(part.unsqueeze(1).unbind() for part in state), strict=True)  # [1, B, H]: one layer
    hidden = [
        torch.lstm(own, start, weights, True, 1, 0.0, torch.is_grad_enabled(), False, False)[0]
        for own, start, weights in zip(inputs, starts, parameters, strict=True)
    ]
    return torch.stack(hidden)


def step(kind: Kind, projected: Tensor, weight: Tensor, bias: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """One step of all members, in plain operations: differentiable any number of times, and under `vmap`.

    Args:
        kind: "gru", "lstm" or "rnn" (tanh).
        projected: one step of what `project` returns, `[N, B, gH]`.
        weight: `weight_hh_l0` of every member, `[N, gH, H]`.
        bias: `bias_hh_l0` of every member, `[N, gH]`.
        state: `(h,)` or for an LSTM `(h, c)`, `[N, B, H]` each; the next one is returned in the same form.
    """
    hidden = state[0]
    recurrent = torch.baddbmm(bias.unsqueeze(1), hidden, weight.mT)
    if kind == "gru":
        input_r, input_z, input_n = projected.chunk(3, dim=-1)
        hidden_r, hidden_z, hidden_n = recurrent.chunk(3, dim=-1)
        reset, update = torch.sigmoid(input_r + hidden_r), torch.sigmoid(input_z + hidden_z)
        new = torch.tanh(input_n + reset * hidden_n)
        return (torch.lerp(new, hidden, update),)
    if kind == "lstm":
        i, f, g, o = (projected + recurrent).chunk(4, dim=-1)
        cell = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(cell), cell
    return (torch.tanh(projected + recurrent),)


class _GRUScan(Function):
    """r, z = sigmoid(x_rz + W_rz h + b_rz);  n = tanh(x_n + r (W_n h + b_n));  h' = n + z (h - n)."""

    @staticmethod
    def forward(ctx: FunctionCtx, keep: bool, projected: Tensor, weight: Tensor, bias: Tensor, h: Tensor) -> Tensor:
        """`[N, T, B, 3H]` -> `[N, T, B, H]`."""
        size = weight.shape[-1]
        # the new gate's product stands alone: r multiplies it before anything is added
        weight_rz, weight_n = (part.mT.contiguous() for part in weight.split([2 * size, size], dim=1))
        bias_rz, bias_n = bias.unsqueeze(1).split([2 * size, size], dim=-1)
        inputs_rz, inputs_n = (part.unbind(1) for part in projected.split([2 * size, size], dim=-1))
        hidden, after = _trace(projected, h)
        saved: list[Tensor] = []
        places = (rooms(part, keep) for part in (inputs_rz, inputs_n))
        for x_rz, x_n, (rz, all_rz), (n, all_n), h_next in zip(inputs_rz, inputs_n, *places, after, strict=True):
            torch.add(x_rz, bias_rz, out=rz).baddbmm_(h, weight_rz)
            all_rz.sigmoid_()  # see `rooms`
            r, z = rz.chunk(2, dim=-1)
            recurrent_n = torch.baddbmm(bias_n, h, weight_n)
            torch.addcmul(x_n, r, recurrent_n, out=n)
            tanh_(all_n)
            h = torch.lerp(n, h, z, out=h_next)
            if keep:
                saved += (rz, recurrent_n, n)
        if keep:
            ctx.save_for_backward(weight, hidden, *saved)
        return hidden[:, 1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: BackwardCFunction, d_hidden: Tensor) -> tuple[Tensor | None, ...]:
        """Back through time; then the weights, from all steps at once."""
        kept: tuple[Tensor, ...] = ctx.saved_tensors
        weight, hidden, *saved = kept
        size = weight.shape[-1]
        weight_rz, weight_n = weight.split([2 * size, size], dim=1)
        d_projected = d_hidden.new_empty(*d_hidden.shape[:-1], 3 * size)
        d_rz = d_projected[..., : 2 * size]
        d_recurrent_n = torch.empty_like(d_hidden, memory_format=torch.contiguous_format)
        before, grads = hidden.unbind(1), d_hidden.unbind(1)
        d_r, d_z, d_n = (part.unbind(1) for part in d_projected.split(size, dim=-1))
        steps_rz, steps_n = d_rz.unbind(1), d_recurrent_n.unbind(1)
        d_h = torch.zeros_like(before[0], memory_format=torch.contiguous_format)
        scratch = torch.empty_like(d_h)
        for t in reversed(range(len(grads))):
            rz, recurrent_n, n = saved[3 * t : 3 * t + 3]
            r, z = rz.chunk(2, dim=-1)
            d_h.add_(grads[t])
            _sigmoid_backward(torch.sub(before[t], n, out=scratch).mul_(d_h), z, grad_input=d_z[t])
            d_next = torch.mul(d_h, z)  # what reaches the state before directly; the rest went through n
            _tanh_backward(d_h.sub_(d_next), n, grad_input=d_n[t])
            _sigmoid_backward(torch.mul(d_n[t], recurrent_n, out=scratch), r, grad_input=d_r[t])
            torch.mul(d_n[t], r, out=steps_n[t])
            d_h = d_next.baddbmm_(steps_rz[t], weight_rz).baddbmm_(steps_n[t], weight_n)
        d_weights, d_biases = zip(*(_over_steps(part, hidden) for part in (d_rz, d_recurrent_n)), strict=True)
        return None, d_projected, torch.cat(d_weights, dim=1), torch.cat(d_biases, dim=1), d_h


class _LSTMScan(Function):
    """i, f, o = sigmoid(...);  g = tanh(...);  c' = f c + i g;  h' = o tanh(c')."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, keep: bool, projected: Tensor, weight: Tensor, bias: Tensor, h: Tensor, c: Tensor
    ) -> Tensor:
        """`[N, T, B, 4H]` -> `[N, T, B, H]`."""
        weight_t, bias = weight.mT.contiguous(), bias.unsqueeze(1)
        hidden, after = _trace(projected, h)
        saved = [c]
        for x, h_next in zip(projected.unbind(1), after, strict=True):
            gates = torch.add(x, bias).baddbmm_(h, weight_t)
            i, f, g, o = gates.chunk(4, dim=-1)
            g.mul_(2)  # so that one pass over all gates serves the tanh too: tanh(x) = 2 sigmoid(2x) - 1
            gates.sigmoid_()
            g.mul_(2).sub_(1)
            c = torch.mul(f, c).addcmul_(i, g)
            squashed = tanh_(c.clone())
            h = torch.mul(o, squashed, out=h_next)
            if keep:
                saved += (gates, squashed, c)
        if keep:
            ctx.save_for_backward(weight, hidden, *saved)
        return hidden[:, 1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: BackwardCFunction, d_hidden: Tensor) -> tuple[Tensor | None, ...]:
        """Back through time; then the weights, from all steps at once."""
        kept: tuple[Tensor, ...] = ctx.saved_tensors
        weight, hidden, *saved = kept
        size = weight.shape[-1]
        d_projected = d_hidden.new_empty(*d_hidden.shape[:-1], 4 * size)
        grads, steps = d_hidden.unbind(1), d_projected.unbind(1)
        d_i, d_f, d_g, d_o = (part.unbind(1) for part in d_projected.split(size, dim=-1))
        d_h = torch.zeros_like(grads[0], memory_format=torch.contiguous_format)
        d_c, scratch = torch.zeros_like(d_h), torch.empty_like(d_h)
        for t in reversed(range(len(grads))):
            c_before, gates, squashed = saved[3 * t : 3 * t + 3]
            i, f, g, o = gates.chunk(4, dim=-1)
            d_h.add_(grads[t])
            _sigmoid_backward(torch.mul(d_h, squashed, out=scratch), o, grad_input=d_o[t])
            d_c.add_(_tanh_backward(d_h.mul_(o), squashed, grad_input=scratch))
            _sigmoid_backward(torch.mul(d_c, g, out=scratch), i, grad_input=d_i[t])
            _sigmoid_backward(torch.mul(d_c, c_before, out=scratch), f, grad_input=d_f[t])
            _tanh_backward(torch.mul(d_c, i, out=scratch), g, grad_input=d_g[t])
            d_c.mul_(f)
            torch.bmm(steps[t], weight, out=d_h)
        return None, d_projected, *_over_steps(d_projected, hidden), d_h, d_c


class _RNNScan(Function):
    """h' = tanh(x + W h + b)."""

    @staticmethod
    def forward(ctx: FunctionCtx, keep: bool, projected: Tensor, weight: Tensor, bias: Tensor, h: Tensor) -> Tensor:
        """`[N, T, B, H]` -> `[N, T, B, H]`."""
        weight_t, bias = weight.mT.contiguous(), bias.unsqueeze(1)
        hidden, after = _trace(projected, h)
        inputs = projected.unbind(1)
        for x, (new, all_new), h_next in zip(inputs, rooms(inputs, False), after, strict=True):
            torch.add(x, bias, out=new).baddbmm_(h, weight_t)
            tanh_(all_new)
            h = h_next.copy_(new)
        if keep:
            ctx.save_for_backward(weight, hidden)
        return hidden[:, 1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: BackwardCFunction, d_hidden: Tensor) -> tuple[Tensor | None, ...]:
        """Back through time; then the weights, from all steps at once."""
        kept: tuple[Tensor, ...] = ctx.saved_tensors
        weight, hidden = kept
        d_projected = torch.empty_like(d_hidden, memory_format=torch.contiguous_format)
        after, grads, steps = hidden.unbind(1)[1:], d_hidden.unbind(1), d_projected.unbind(1)
        d_h = torch.zeros_like(grads[0], memory_format=torch.contiguous_format)
        for t in reversed(range(len(grads))):
            _tanh_backward(d_h.add_(grads[t]), after[t], grad_input=steps[t])
            torch.bmm(steps[t], weight, out=d_h)
        return None, d_projected, *_over_steps(d_projected, hidden), d_h


_SCANS: Final[dict[str, type[Function]]] = {"gru": _GRUScan, "lstm": _LSTMScan, "rnn": _RNNScan}


def _zeros(kind: Kind, steps: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    """The initial state for `[N, T, B, ...]` where none is given."""
    zeros = steps.new_zeros(steps.shape[0], steps.shape[2], weight.shape[-1])
    return (zeros, zeros) if kind == "lstm" else (zeros,)


def _trace(projected: Tensor, initial: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """A buffer `[N, T + 1, B, H]` that begins with the initial state, and its places for the states to come."""
    members, steps, items, _ = projected.shape
    hidden = projected.new_empty(members, steps + 1, items, initial.shape[-1])
    first, *after = hidden.unbind(1)
    first.copy_(initial)
    return hidden, tuple(after)


def tanh_(x: Tensor) -> Tensor:
    """Tanh in place, to 1e-7 (float32): on a CPU sigmoid takes a fifth of the time of `torch.tanh`."""
    return x.mul_(2).sigmoid_().mul_(2).sub_(1)


def _over_steps(d_gates: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """From `[N, T, B, gH]` and `[N, T + 1, B, H]`: gradients of a weight and its bias, which every step used."""
    d_gates, before = d_gates.flatten(1, 2), hidden[:, :-1].flatten(1, 2)
    return products(d_gates.mT, before), d_gates.sum(1)
