"""Random streams: one for each purpose, so that methods share random numbers where they can."""

from typing import Literal, get_args

import numpy as np
import torch

Purpose = Literal["shuffling", "augmentation", "ways", "baseline", "networks", "global"]


def stream(seed: int, purpose: Purpose, device: torch.device, view: int = 0) -> torch.Generator:
    """The random stream of a seed for a purpose and a view, on the device."""
    entropy = [seed, get_args(Purpose).index(purpose), view]
    state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state[0] >> 1))
