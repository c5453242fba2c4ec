"""Images written while others are drawn: all of them, told in order, errors as they come."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from lorasmith.core.errors import LoraFileError, RunError, Stopped
from lorasmith.core.files import write_text
from lorasmith.prompts.infotext import Infotext
from lorasmith.sampling.images import MOST_WAITING, ImageWriter
from lorasmith.sampling.infotext import save_image

# Neither has its tensors in use here; it is only asked whether it leaves the processor free.
CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    yield
    assert not [t for t in threading.enumerate() if t.name.startswith("image-writer")]


def waiting(seconds: float, names: list[str], name: str) -> Callable[[], None]:
    def write() -> None:
        time.sleep(seconds)
        names.append(name)

    return write


def test_told_in_order_though_written_in_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    written: list[str] = []
    told: list[str] = []
    with ImageWriter(GPU) as writer:
        for number in range(12):
            name = f"{number:02d}"
            slow = 0.05 if number % 4 == 0 else 0.0
            writer.add(waiting(slow, written, name), lambda name=name: told.append(name))
    assert written != sorted(written)
    assert told == sorted(written)
    assert len(told) == 12


def test_a_cpu_writes_at_once_and_in_the_thread_that_draws() -> None:
    seen: list[str] = []
    with ImageWriter(CPU) as writer:
        writer.add(lambda: seen.append(threading.current_thread().name), lambda: None)
        assert seen == [threading.current_thread().name]
        with pytest.raises(ZeroDivisionError):
            writer.add(lambda: 1 // 0, lambda: None)


def test_the_one_that_draws_does_not_wait_for_a_few_and_waits_for_many() -> None:
    may_write = threading.Event()
    written: list[int] = []

    def write() -> None:
        may_write.wait(60)

    with ImageWriter(GPU) as writer:
        for number in range(MOST_WAITING):
            writer.add(write, lambda number=number: written.append(number))
        assert written == []
        threading.Timer(0.05, may_write.set).start()
        writer.add(write, lambda: None)
        assert may_write.is_set(), "it took one more than may wait"
    assert written == list(range(MOST_WAITING))


def full() -> None:
    raise RunError.of("a.png", "the disk is full")


def write_all(writes: list[Callable[[], object]], then: BaseException | None = None) -> list[int]:
    """Write them all on a GPU's behalf, a few not before all of these are added, and raise
    ``then``; the numbers of those that were told."""
    told: list[int] = []
    added = threading.Event()

    def late(write: Callable[[], object]) -> None:
        added.wait(0.0 if len(writes) > MOST_WAITING else 10.0)
        write()

    try:
        with ImageWriter(GPU) as writer:
            for number, write in enumerate(writes):
                writer.add(partial(late, write), lambda number=number: told.append(number))
            added.set()
            if then is not None:
                raise then
    except BaseException as error:
        error.args = (told, *error.args)
        raise
    return told


@pytest.mark.parametrize("body", [None, Stopped("stopped"), LoraFileError.of("a", "b")])
def test_what_could_not_be_written_comes_before_other_errors(
    body: BaseException | None,
) -> None:
    with pytest.raises(RunError, match="the disk is full") as caught:
        write_all([full, lambda: None], body)
    assert caught.value.args[0] == [1]


def test_an_error_is_not_waited_for_to_the_end() -> None:
    begun: list[int] = []

    def write() -> None:
        begun.append(1)
        full()

    with pytest.raises(RunError, match="the disk is full"):
        write_all([write] * 1000)
    assert len(begun) <= MOST_WAITING + 1


@pytest.mark.parametrize("error", [Stopped("stopped"), KeyboardInterrupt(), ZeroDivisionError()])
def test_what_is_begun_is_written_when_the_block_is_left_in_any_way(error: BaseException) -> None:
    written: list[str] = []
    with pytest.raises(type(error)) as caught:
        write_all([waiting(0.01, written, name) for name in "abc"], error)
    assert sorted(written) == ["a", "b", "c"]
    assert caught.value.args[0] == [0, 1, 2]


def test_a_bug_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), ImageWriter(GPU) as writer:
        writer.add(lambda: 1 // 0, lambda: None)


def test_the_same_bytes_as_one_after_the_other(tmp_path: Path) -> None:
    images = [Image.effect_noise((64, 64), 50 + n).convert("RGB") for n in range(6)]
    infos = [Infotext(f"prompt {n}, größe", "", {"Steps": "20", "Seed": str(n)}) for n in range(6)]
    for folder, device in (("one", CPU), ("many", GPU)):
        with ImageWriter(device) as writer:
            for n in range(6):
                path = tmp_path / folder / f"{n}.png"
                writer.add(
                    lambda path=path, n=n: save_image(path, images[n], infos[n]), lambda: None
                )
    for n in range(6):
        one, many = ((tmp_path / folder / f"{n}.png").read_bytes() for folder in ("one", "many"))
        assert one == many
    assert not [path for path in (tmp_path / "many").iterdir() if path.suffix != ".png"]


def test_a_full_disk_in_a_thread_is_said_and_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_half(self: Path, data: bytes) -> None:
        with open(self, "wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_half)
    image = Image.new("RGB", (8, 8))
    with pytest.raises(RunError, match="the disk is full"), ImageWriter(GPU) as writer:
        writer.add(lambda: save_image(tmp_path / "a.png", image, Infotext("")), lambda: None)
    assert list(tmp_path.iterdir()) == []


def test_threads_leave_the_mask_of_new_files_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the process's own, and can only be read by changing it."""
    really = os.umask

    def slow(mask: int) -> int:
        before = really(mask)
        time.sleep(0.001)
        return before

    before = really(0o027)
    monkeypatch.setattr(os, "umask", slow)
    try:
        with ImageWriter(GPU) as writer:
            for number in range(20):
                path = tmp_path / str(number)
                writer.add(partial(write_text, path, ""), lambda: None)
        assert really(0o027) == 0o027
    finally:
        really(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}
