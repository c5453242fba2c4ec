"""Every random draw as a pure function of what it is for.

There is no other source of chance in lorasmith. A draw is named by the run's seed, a purpose
(``"noise"``, ``"timestep"``, ``"order"``) and counters (step, sample, epoch), so a resumed run
needs no generator state, a different number of processes changes nothing, and two runs that
differ in one setting see the same noise.
"""

from __future__ import annotations

import random
import struct
from hashlib import blake2b

MAX_SEED = 2**63 - 1
"""What a TOML integer holds, and the counters here."""


def derive(seed: int, purpose: str, *counters: int) -> int:
    """A 63-bit number that is fixed by its arguments and looks independent of all others."""
    digest = blake2b(purpose.encode(), digest_size=8)
    # Numbers of any size: whether a seed is in its range is said where it is taken.
    numbers = (number % (1 << 64) for number in (seed, *counters))
    digest.update(struct.pack(f"<{1 + len(counters)}Q", *numbers))
    return int.from_bytes(digest.digest(), "little") >> 1


def python_rng(seed: int, purpose: str, *counters: int) -> random.Random:
    """A :class:`random.Random` for draws over lists: order, captions, crops."""
    return random.Random(derive(seed, purpose, *counters))
