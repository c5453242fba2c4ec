"""What every test gets: few threads, no network, no GPU test without a GPU."""

from __future__ import annotations

import atexit
import gc
import inspect
import os
from collections.abc import Callable, Generator

# Before torch is imported: it reads these once.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# A terminal's width and colours must not change what commands print.
os.environ["COLUMNS"] = "100"
os.environ["NO_COLOR"] = "1"

import pytest
from hypothesis import settings

from tests.windows import on_windows as on_windows

# The same examples every time, so that a failure on one machine is a failure on all.
settings.register_profile("suite", deadline=None, derandomize=True, max_examples=50, database=None)
settings.load_profile("suite")


# Files of a test need not outlast the power: to wait for the disk takes milliseconds each time.
# On Windows it refuses handles that do not write, as a user would find.
if os.name != "nt":
    os.fsync = lambda fd: None


# Or Python looks for cycles among the millions of objects of torch and diffusers as it ends.
atexit.register(gc.freeze)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None]:
    """Python looks for no cycles among what imports make: it takes seconds, and all of it stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def _compares(test: Callable[..., object]) -> bool:
    """Whether a test compares by tests/tolerances.py."""
    return not {"assert_near", "near"}.isdisjoint(inspect.unwrap(test).__code__.co_names)


def _mark_broad(items: list[pytest.Item]) -> None:
    """Of a test with many parameters the suite takes some, evenly spread, the first among them."""
    wide: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("broad_beyond"):
            wide.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for cases in wide.values():
        mark = cases[0].get_closest_marker("broad_beyond")
        assert mark is not None
        (count,) = mark.args
        kept = {number * len(cases) // count for number in range(count)}
        for number, item in enumerate(cases):
            if number not in kept:
                item.add_marker(pytest.mark.broad)


@pytest.hookimpl(tryfirst=True)  # Before -m looks at the markers.
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    begun = set()
    _mark_broad(items)
    for item in items:
        if item.get_closest_marker("slow_but_first"):
            test = item.nodeid.partition("[")[0]
            if test in begun:
                item.add_marker(pytest.mark.slow)
            begun.add(test)
        # What compares by tests/tolerances.py is what `make test-isa` repeats.
        if isinstance(item, pytest.Function) and _compares(item.function):
            item.add_marker(pytest.mark.numeric)
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not on_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
