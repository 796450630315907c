"""The generator of random tensors."""

import numpy as np

generator = np.random.default_rng()
"""What random tensors are drawn from unless another generator is given; `manual_seed` seeds it."""


def manual_seed(seed: int) -> np.random.Generator:
    """Let `rand`, `randn` and `uniform_` go on from this seed, and return the generator that they share.

    The numbers are NumPy's, not those that torch draws from the same seed.
    """
    generator.bit_generator.state = np.random.default_rng(seed).bit_generator.state
    return generator
