"""Torch's global state for the time of a training: random generator and threads."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def seeded(seed: int, build: Callable[[], Module]) -> Module:
    """Build with torch's default generator seeded, and leave the generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run the body with a number of torch threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
