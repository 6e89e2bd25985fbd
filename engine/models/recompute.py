"""Activation checkpointing: a network's blocks keep their inputs alone, and are computed again in the backward pass.

Chen, Xu, Zhang and Guestrin, "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint


class _Switch:
    """Whether blocks are to be computed again; no ContextVar, at which torch.compile would break its graph."""

    on = False


_switch = _Switch()


@contextmanager
def recomputing(*, enabled: bool = True) -> Iterator[None]:
    """Blocks that run within, of any network, are computed again in the backward pass."""
    before, _switch.on = _switch.on, enabled
    try:
        yield
    finally:
        _switch.on = before


def run_block(x: Tensor, *modules: nn.Module) -> Tensor:
    """x through modules one after another; within `recomputing`, x alone is kept for the backward pass.

    The second pass draws the same random numbers and takes the same parameters, statistics and modes (training or
    inference) as the first, whatever became of them in between, and changes nothing in the block: running statistics
    move once.
    """
    if not (_switch.on and torch.is_grad_enabled()):
        for module in modules:
            x = module(x)
        return x
    block = modules[0] if len(modules) == 1 else nn.Sequential(*modules)
    modes = [(module, module.training) for module in block.modules()]
    tensors = {**dict(block.named_parameters()), **{name: value.clone() for name, value in block.named_buffers()}}
    first = True

    def run(x: Tensor) -> Tensor:
        nonlocal first
        if first:
            first = False
            output: Tensor = block(x)
            return output
        with _in_modes(modes):
            again: Tensor = functional_call(block, tensors, (x,))
        return again

    kept: Tensor = checkpoint(run, x, use_reentrant=False)
    return kept


class Blocks(nn.Sequential):
    """Blocks one after another, each by `run_block`."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Sequential's name
        """Whatever the blocks make of a tensor."""
        for block in self:
            input = run_block(input, block)  # noqa: A001
        return input


@contextmanager
def _in_modes(modes: Sequence[tuple[nn.Module, bool]]) -> Iterator[None]:
    """Put modules into training or inference mode, each by itself, and back."""
    before = [(module, module.training) for module, _ in modes]
    for module, training in modes:
        module.training = training
    try:
        yield
    finally:
        for module, training in before:
            module.training = training
