from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lorasmith.core.errors import RunError
from lorasmith.data.cache.tensor_store import TensorStore
from lorasmith.tensors.files import save_tensors


def entry(number: int, *shape: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(number)
    shape = shape or (4, 8, 8)
    return {
        "mean": torch.randn(shape, generator=generator),
        "std": torch.rand(shape, generator=generator).half(),
    }


def entries(*numbers: int) -> dict[str, dict[str, Tensor]]:
    return {f"k{number}": entry(number) for number in numbers}


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].dtype == expected[name].dtype and torch.equal(found[name], expected[name])
        for name in expected
    )


def test_what_is_put_is_got_here_and_after_opening_again(tmp_path: Path) -> None:
    store = TensorStore(tmp_path / "cache")
    store.put("64x64", entries(1, 2, 3))
    store.put("64x96", {"k4": entry(4, 4, 12, 8)})
    for opened in (store, TensorStore(tmp_path / "cache")):
        assert len(opened) == 4
        assert all(same(opened.get(f"k{n}"), entry(n)) for n in (1, 2, 3))
        assert same(opened.get("k4"), entry(4, 4, 12, 8))
        assert opened.missing(["k9", "k1", "k8", "k9"]) == ["k9", "k8"]
        assert not opened.damaged


def test_an_unknown_key(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        TensorStore(tmp_path).get("k1")


def test_the_same_entries_make_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        TensorStore(tmp_path / name).put("g", entries(2, 1) if name == "a" else entries(1, 2))
    (a,), (b,) = (list((tmp_path / name).iterdir()) for name in ("a", "b"))
    assert a.name == b.name
    assert a.read_bytes() == b.read_bytes()


def test_slices_share_the_mapped_file_and_writing_to_them_does_not_reach_it(tmp_path: Path) -> None:
    TensorStore(tmp_path).put("g", entries(1))
    store = TensorStore(tmp_path)
    first, again = store.get("k1")["mean"], store.get("k1")["mean"]
    assert first.data_ptr() == again.data_ptr()
    first.zero_()
    assert same(TensorStore(tmp_path).get("k1"), entry(1))


@pytest.mark.parametrize("damage", ["cut short", "no header", "empty", "other format"])
def test_a_damaged_shard_is_done_without_and_made_anew(tmp_path: Path, damage: str) -> None:
    TensorStore(tmp_path).put("g", entries(1, 2))
    TensorStore(tmp_path).put("g", entries(3))
    shard = next(path for path in tmp_path.iterdir() if path.stat().st_size > 2000)
    data = shard.read_bytes()
    if damage == "other format":
        save_tensors(shard, {"k1.mean": torch.zeros(3)}, {"format": "lorasmith-cache-0"})
    else:
        shard.write_bytes(
            {"cut short": data[:-9], "no header": b"\xff" * 300, "empty": b""}[damage]
        )
    store = TensorStore(tmp_path)
    assert [problem.where for problem in store.damaged] == [str(shard)]
    assert store.missing(["k1", "k2", "k3"]) == ["k1", "k2"]
    store.put("g", entries(1, 2))
    assert same(store.get("k1"), entry(1))
    assert not TensorStore(tmp_path).missing(["k1", "k2", "k3"])
    assert not TensorStore(tmp_path).damaged


def test_flipped_bits_are_noticed_before_they_are_used(tmp_path: Path) -> None:
    TensorStore(tmp_path).put("g", entries(1))
    (shard,) = tmp_path.iterdir()
    data = bytearray(shard.read_bytes())
    data[-20] ^= 1
    shard.write_bytes(data)
    with pytest.raises(RunError, match="run again"):
        TensorStore(tmp_path).get("k1")
    assert TensorStore(tmp_path).missing(["k1"]) == ["k1"]


@pytest.mark.usefixtures("on_windows")
def test_a_damaged_shard_that_is_mapped_goes_where_nothing_mapped_is_removed(
    tmp_path: Path,
) -> None:
    test_flipped_bits_are_noticed_before_they_are_used(tmp_path)


@pytest.mark.usefixtures("on_windows")
def test_a_shard_that_another_has_mapped_serves_both(tmp_path: Path) -> None:
    one, other = TensorStore(tmp_path), TensorStore(tmp_path)
    other.put("g", entries(1))
    kept = other.get("k1")
    one.put("g", entries(1))
    assert same(one.get("k1"), kept)


def test_what_another_store_wrote_is_seen_after_refresh(tmp_path: Path) -> None:
    one, other = TensorStore(tmp_path), TensorStore(tmp_path)
    other.put("g", entries(1))
    assert one.missing(["k1"]) == ["k1"]
    one.refresh()
    assert same(one.get("k1"), entry(1))


def test_half_written_files_of_killed_processes_are_cleared(tmp_path: Path) -> None:
    old = tmp_path / ".g-1.safetensors.a1b2c3d4.lorasmith.tmp"
    old.write_bytes(b"x")
    assert len(TensorStore(tmp_path)) == 0
    assert not old.exists()


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RunError):
        TensorStore(tmp_path / "file" / "cache").put("g", entries(1))


def test_thousands_of_entries_open_and_read_quickly(tmp_path: Path) -> None:
    store = TensorStore(tmp_path)
    for begin in range(0, 5120, 128):
        small = torch.ones(4, 8, 8)
        store.put("g", {f"k{n}": {"mean": small, "std": small} for n in range(begin, begin + 128)})
    begin_time = time.process_time()
    store = TensorStore(tmp_path)
    for number in range(5120):
        store.get(f"k{number}")
    assert time.process_time() - begin_time < 2.5


WRITER = """
import sys, torch
from pathlib import Path
from lorasmith.data.cache.tensor_store import TensorStore
folder, own = Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for round in range(30):
    store = TensorStore(folder)
    numbers = [round * 4 + n for n in range(4)]          # written by both
    numbers += [10_000 * own + round * 4 + n for n in range(4)]
    missing = store.missing(f"k{n}" for n in numbers)
    if missing:
        store.put("g", {key: {"x": torch.full((64,), float(key[1:]))} for key in missing})
    for n in numbers:
        assert store.get(f"k{n}")["x"].eq(float(n)).all()
print(len(store.damaged))
"""


@pytest.mark.slow
def test_two_processes_at_once(tmp_path: Path) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(own)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for own in (1, 2)
    ]  # fmt: skip
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    outputs = [child.communicate("go\n", timeout=120)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert outputs == ["0\n", "0\n"]
    store = TensorStore(tmp_path)
    assert len(store) == 120 * 3
    assert not list(tmp_path.glob(".*.tmp"))
