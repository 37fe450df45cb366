"""A state dict as the description of its own network: names say which layers there are, shapes say their sizes."""

import torch
from torch import Tensor, nn

from safe_load import Record, some


class StateDict:
    """The entries of a checkpoint below one prefix. `path` is that prefix in the whole checkpoint, for error texts."""

    def __init__(self, entries: dict[str, Tensor], path: str = ""):
        self.entries = entries
        self.path = path

    def under(self, prefix: str) -> "StateDict":
        """The entries whose names begin with `prefix.`, without it."""
        start = prefix + "."
        entries = {name[len(start) :]: value for name, value in self.entries.items() if name.startswith(start)}
        return StateDict(entries, self.path + start)

    def children(self) -> set[str]:
        """The first components of the names: `{"0", "1"}` for entries `0.weight`, `1.norm.bias`."""
        return {name.split(".", 1)[0] for name in self.entries}

    def count(self) -> int:
        """How many numbered children there are; an error where a number is left out."""
        children = self.children()
        numbers = sorted(int(child) for child in children if child.isdigit())
        for expected, number in enumerate(numbers):
            if expected != number:
                raise ValueError(
                    f"the checkpoint has {self.path}{number}. but lacks every entry below {self.path}{expected}."
                )
        return len(numbers)

    def shape(self, name: str, *ranks: int) -> tuple[int, ...]:
        """The shape of an entry; an error where it has none of these numbers of dimensions, or an empty one."""
        if name not in self.entries:
            raise ValueError(f"the checkpoint lacks {self.path}{name}")
        value = self.entries[name]
        if not isinstance(value, Tensor):
            raise ValueError(f"{self.path}{name} of the checkpoint is not a tensor")
        shape = tuple(value.shape)
        if ranks and (len(shape) not in ranks or 0 in shape):
            wanted = " or ".join(map(str, ranks))
            raise ValueError(f"{self.path}{name} of the checkpoint is {list(shape)}: expected {wanted} dimensions")
        return shape

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def __bool__(self) -> bool:
        return bool(self.entries)


def check_numbers(state: StateDict) -> None:
    """Raises where a weight is of integers or complex numbers, or has values that are not finite."""
    for name, value in state.entries.items():
        state.shape(name)  # it is a tensor
        if not value.is_floating_point():
            kind = str(value.dtype).removeprefix("torch.")
            raise ValueError(f"{state.path}{name} is of {kind}, not floating-point numbers")
        infinite = 0 if value.is_meta else int((~value.float().isfinite()).sum())
        if infinite:
            raise ValueError(f"{state.path}{name} has {infinite} of {value.numel()} values that are not finite")


def load_strictly(module: nn.Module, state: StateDict) -> nn.Module:
    """Give `module` the entries as float32 parameters. Missing or surplus names, other shapes and values that are not
    finite are an error.

    Parameters remember the dtype of the entry (`stored_as`): what was saved in half precision is written so again.
    """
    own = module.state_dict()
    missing = [state.path + name for name in own if name not in state]
    surplus = [state.path + name for name in state.entries if name not in own]
    wrong = [
        f"{state.path}{name} is {list(state.shape(name))} instead of {list(value.shape)}"
        for name, value in own.items()
        if name in state and state.shape(name) != tuple(value.shape)
    ]
    complaints = [f"lacks {some(missing)}"] if missing else []
    complaints += [f"has surplus {some(surplus)}"] if surplus else []
    complaints += wrong[:5] + ([f"{len(wrong) - 5} more do not fit"] if len(wrong) > 5 else [])
    if complaints:
        raise ValueError("the checkpoint does not fit the network: " + "; ".join(complaints))
    check_numbers(StateDict({name: state.entries[name] for name in own if own[name].is_floating_point()}, state.path))
    # Assigned rather than copied: the modules are built on the meta device, so the weights exist once.
    module.load_state_dict({name: state.entries[name].float() for name in own}, assign=True)
    for name, parameter in module.named_parameters():
        parameter.stored_as = state.entries[name].dtype
    return module


def to_stored_halves(module: nn.Module) -> None:
    """Parameters that were half in their checkpoint, half again: exactly, as they were widened from it."""
    for parameter in module.parameters():
        dtype = getattr(parameter, "stored_as", None)
        if dtype in (torch.float16, torch.bfloat16):
            parameter.data = parameter.data.to(dtype)


def state_of(module: Record) -> dict[str, Tensor]:
    """The state dict of a pickled torch module: its parameters and buffers by dotted name."""
    tensors: dict[str, Tensor] = {}

    def visit(record: Record, prefix: str) -> None:
        if not isinstance(record, Record) or not isinstance(record.state, dict):
            raise ValueError(f"{prefix or 'the object'} is no pickled module")
        transient = record.state.get("_non_persistent_buffers_set", ())
        for kind in ("_parameters", "_buffers"):
            for name, value in (record.state.get(kind) or {}).items():
                if value is not None and not (kind == "_buffers" and name in transient):
                    tensors[prefix + name] = value
        for name, child in (record.state.get("_modules") or {}).items():
            if child is not None:
                visit(child, f"{prefix}{name}.")

    visit(module, "")
    return tensors
