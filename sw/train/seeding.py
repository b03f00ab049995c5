"""Torch's global state for the time of a training: random generator and threads."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


def seeded(seed: int, build: Callable[[], nn.Sequential]) -> nn.Sequential:
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
