"""Randomness that depends only on what it is for, never on what ran before it.

Every random draw is made from a seed derived from names and counters (recipe seed, stage, epoch, image index …), so a
run that was stopped and resumed draws the same numbers. What is drawn for an image (order, augmentation, target class)
is the same on any number of ranks too; dropout is not: it is seeded for a step's micro-batch and rank, and drawn by
torch's generator of the device.
"""

import hashlib

import numpy as np
import torch


def derive(*parts: int | str) -> int:
    """A 63-bit seed from any number of names and counters; equal parts give equal seeds on every machine."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def numpy_generator(*parts: int | str) -> np.random.Generator:
    """A NumPy generator seeded by `derive(*parts)`."""
    return np.random.Generator(np.random.Philox(derive(*parts)))


def seed_torch(*parts: int | str) -> None:
    """Seed torch's default generators, CPU and devices, by `derive(*parts)`."""
    torch.manual_seed(derive(*parts))
