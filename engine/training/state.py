"""The whole state of a training as tensors by name, the same for any number of ranks and any ZeRO stage.

network/NAME            parameters and buffers, as the network's state_dict names them
optimizer/KEY/NAME      what the optimiser keeps for a parameter, in the parameter's shape, or a scalar

With ZeRO the ranks share the optimiser's states out among them: each group's parameters lie one after another in a flat
buffer, of which every rank keeps one part. They are put together on the first rank, and each rank takes its part out of
the whole again, so a training may go on with other ranks than it was saved by.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from camshaft.engine.errors import StoreError

_NETWORK, _OPTIMIZER = "network/", "optimizer/"


def gather_state(engine: Any) -> dict[str, Tensor]:
    """The state on the CPU, each tensor contiguous with memory of its own; on the first rank alone, else empty.

    All ranks call this together.
    """
    network: nn.Module = engine.module.network
    state = {_NETWORK + name: value for name, value in network.state_dict().items()}
    gathered = _of_whole(engine, network) if engine.zero_optimization_stage() == 0 else _of_parts(engine, network)
    state |= {f"{_OPTIMIZER}{key}/{name}": value for name, key, value in gathered}
    if engine.global_rank != 0:
        return {}
    # A copy on the CPU too: with ZeRO parameters are views of one buffer, which can't be saved as such.
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in state.items()}


def restore_state(engine: Any, state: Mapping[str, Tensor]) -> None:
    """Give network and optimiser the state that `gather_state` found, by however many ranks.

    Raises:
        StoreError: the state is not one of this network.
    """
    network: nn.Module = engine.module.network
    try:
        network.load_state_dict(
            {name.removeprefix(_NETWORK): value for name, value in state.items() if name.startswith(_NETWORK)}
        )
        kept: dict[str, dict[str, Tensor]] = {}
        for name, value in state.items():
            if name.startswith(_OPTIMIZER):
                key, parameter = name.removeprefix(_OPTIMIZER).split("/", 1)
                kept.setdefault(parameter, {})[key] = value
        if engine.zero_optimization_stage() == 0:
            _restore_whole(engine, network, kept)
        else:
            _restore_parts(engine, network, kept)
    except (KeyError, RuntimeError, ValueError) as error:
        raise StoreError(f"the state does not fit this network: {error}") from error


def _of_whole(engine: Any, network: nn.Module) -> Iterator[tuple[str, str, Tensor]]:
    """Name, key and value of the optimiser's states where every rank has all of them."""
    for name, parameter in network.named_parameters():
        for key, value in engine.optimizer.state.get(parameter, {}).items():
            if value is not None:
                yield name, key, value


def _restore_whole(engine: Any, network: nn.Module, kept: Mapping[str, Mapping[str, Tensor]]) -> None:
    parameters = dict(network.named_parameters())
    for name, values in kept.items():
        parameter = parameters[name]
        engine.optimizer.state[parameter] = {
            # As the optimiser itself makes them: scalars on the device too, since it is fused.
            key: torch.empty_like(parameter).copy_(value) if value.ndim else value.to(parameter.device)
            for key, value in values.items()
        }


def _of_parts(engine: Any, network: nn.Module) -> Iterator[tuple[str, str, Tensor]]:
    """Name, key and value of the optimiser's states, put together on the first rank."""
    zero = engine.optimizer
    for name, parameter, flat in _partitioned(zero, network):
        for key, values in zero.optimizer.state.get(flat, {}).items():
            if values is None or not values.ndim:
                if values is not None:
                    yield name, key, values
                continue
            # On the device that ranks exchange from, wherever the optimiser keeps its states.
            whole = torch.zeros(parameter.numel(), dtype=values.dtype, device=engine.device)
            for own, part in _own_part(parameter, whole, values):
                own.copy_(part)
            if dist.get_world_size() > 1:
                # Each number is 0 on all ranks but one, so the sum is exact.
                dist.reduce(whole, 0)
            yield name, key, whole.view(parameter.shape)


def _restore_parts(engine: Any, network: nn.Module, kept: Mapping[str, Mapping[str, Tensor]]) -> None:
    zero = engine.optimizer
    # The parameters that the optimiser steps on are copies, in parts, of those of the network.
    zero.refresh_fp32_params()
    for name, parameter, flat in _partitioned(zero, network):
        for key, value in kept.get(name, {}).items():
            if not value.ndim:
                zero.optimizer.state[flat][key] = value.to(flat.device)
                continue
            values = zero.optimizer.state[flat].setdefault(key, torch.zeros_like(flat))
            for own, part in _own_part(parameter, value.reshape(-1), values):
                part.copy_(own)


def _partitioned(zero: Any, network: nn.Module) -> Iterator[tuple[str, nn.Parameter, Tensor]]:
    """The parameters that learn, in one order on all ranks, each with this rank's part of its group's buffer."""
    names = {parameter: name for name, parameter in network.named_parameters()}
    for group, flat in zip(zero.bit16_groups, zero.single_partition_of_fp32_groups, strict=True):
        for parameter in group:
            yield names[parameter], parameter, flat


def _own_part(parameter: Any, whole: Tensor, values: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Where `whole`, all of a parameter, and `values`, this rank's part of the buffer, meet; maybe nowhere."""
    mapping = parameter._hp_mapping
    if mapping is not None:
        here, there = mapping.lp_fragment_address, mapping.hp_fragment_address
        yield whole.narrow(0, here.start, here.numel), values.narrow(0, there.start, there.numel)
