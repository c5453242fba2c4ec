"""Small torch files that would take years or gigabytes to unpickle, and real ones that must not
be taken for such."""

from __future__ import annotations

import argparse
import collections
import json
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lorasmith.formats.pickle_header import locate_tensors, read_pickle_header
from lorasmith.formats.torch_archive import read_torch_file
from lorasmith.formats.torch_pickle import STEPS, TorchFileError
from lorasmith.tensors.files import load_torch_file

PROTO, STOP = b"\x80\x02", b"."


def zipped(program: bytes, *, deflate: bool = False, extra: dict[str, bytes] | None = None):
    def make(path: Path) -> None:
        kind = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
        with zipfile.ZipFile(path, "w", kind) as archive:
            archive.writestr("archive/data.pkl", program)
            for name, data in (extra or {"archive/data/0": bytes(64)}).items():
                archive.writestr(name, data)

    return make


def doubling(levels: int = 45, op: bytes = b"\x86") -> bytes:
    """A tuple of two of the last tuple, each made once and used twice."""
    program = b"(t"
    for level in range(levels):
        program += b"q" + bytes([level]) + b"h" + bytes([level]) + op
    return program


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def storage(size: bytes, key: bytes = text("0")) -> bytes:
    return b"(" + text("storage") + b"ctorch\nFloatStorage\n" + key + text("cpu") + size + b"tQ"


def tensor(size: bytes, shape: bytes, strides: bytes, key: bytes = text("0")) -> bytes:
    start = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage(size, key) + b"K\0"
    return start + shape + strides + b"\x89ccollections\nOrderedDict\n)RtR"


def stream(program: bytes) -> Callable[[Path], object]:
    """The format before torch 1.6."""
    first = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
    return lambda path: path.write_bytes(first + program + pickle.dumps([], 2))


def many_records(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", PROTO + b"}.")
        for number in range(30):
            archive.writestr(f"archive/data/{number}", b"")
    data = path.read_bytes()
    directory = data.index(b"PK\1\2", 30)
    end = data.index(b"PK\5\6")
    entry = data[directory:end]
    copies = (40 << 20) // len(entry)
    with open(path, "wb") as file:
        file.write(data[:directory])
        for _ in range(copies):
            file.write(entry)
        fields = struct.pack("<HHHHIIH", 0, 0, 65535, 65535, copies * len(entry), directory, 0)
        file.write(b"PK\5\6" + fields)


def overlapping(path: Path) -> None:
    """A hundred records that are the same megabyte."""
    zipped(PROTO + b"}.", extra={"archive/data/0": bytes(1 << 20)})(path)
    data = path.read_bytes()
    at = data.rindex(b"PK\1\2")
    end = data.rindex(b"PK\5\6")
    entry, copies = data[at:end], b""
    for number in range(100):
        copies += entry.replace(b"data/0", f"d{number:03}/0".encode()[:6])
    size = end - data.index(b"PK\1\2") + len(copies)
    fields = struct.pack("<HHHHIIH", 0, 0, 102, 102, size, data.index(b"PK\1\2"), 0)
    path.write_bytes(data[:end] + copies + b"PK\5\6" + fields)


TWICE = b"}" + text("a") + tensor(b"K\x10", b"K\x10\x85", b"K\1\x85") + b"s"
HUGE = b"\x8a\x08" + struct.pack("<q", 1 << 40)

BOMBS: dict[str, Callable[[Path], object]] = {
    "nested tuples as a key": zipped(PROTO + b"}" + doubling() + b"K\1s."),
    "nested tuples of three as a key": zipped(
        PROTO + b"}(t" + b"".join(b"q%ch%ch%c\x87" % (n, n, n) for n in range(30)) + b"K\1s."
    ),
    "nested tuples in a persistent id": zipped(
        PROTO + b"(" + text("storage") + b"ctorch\nFloatStorage\n" + doubling() + text("cpu")
        + b"K\1tQ."
    ),
    "nested tuples in a set": zipped(PROTO + b"\x8f(" + doubling() + b"\x90."),
    "nested tuples in a Counter": zipped(
        PROTO + b"ccollections\nCounter\n(}" + doubling() + b"K\1stR."
    ),
    "nested tuples in pairs of an OrderedDict": zipped(
        PROTO + b"ccollections\nOrderedDict\n(](]" + doubling() + b"aK\1aatR."
    ),
    "a memo index of 34 GB": zipped(PROTO + b"Nr\xff\xff\xff\xff."),
    "a memo index of 34 GB in digits": zipped(PROTO + b"Np4294967295\n."),
    "200 million steps, deflated": zipped(PROTO + b"N0" * 100_000_000 + b"N.", deflate=True),
    "9 million steps, stored": zipped(PROTO + b"N0" * 4_500_000 + b"N."),
    "a program of 20 MB": zipped(
        PROTO + b"T" + struct.pack("<i", 20 << 20) + bytes(20 << 20) + b"."
    ),
    "a megabyte of dictionaries": zipped(PROTO + b"}" * 1_000_000 + b"."),
    "a megabyte of marks": zipped(PROTO + b"(" * 1_000_000 + b"N."),
    "nested lists": zipped(PROTO + b"](" * 500_000 + b"N."),
    "a deflated byteorder": zipped(
        PROTO + b"}.", deflate=True, extra={"archive/byteorder": bytes(200 << 20)}
    ),
    "a long byteorder": zipped(PROTO + b"}.", extra={"archive/byteorder": bytes(60 << 20)}),
    "deflated numbers": zipped(
        PROTO + TWICE + b".", deflate=True, extra={"archive/data/0": bytes(100 << 20)}
    ),
    "DUP": zipped(PROTO + b"}" + b"(t" + b"2\x86" * 45 + b"K\1s."),
    "a number of a million digits": zipped(
        PROTO + b"}\x8b" + struct.pack("<i", 1 << 20) + b"\xff" * (1 << 20) + b"K\1s."
    ),
    "a decimal number of a million digits": zipped(PROTO + b"L" + b"9" * (1 << 20) + b"L\n."),
    "a tensor of a trillion equal numbers": zipped(
        PROTO + b"}" + text("a") + tensor(b"K\1", HUGE + b"\x85", b"K\0\x85") + b"s."
    ),
    "ten thousand views of the same megabyte": zipped(
        PROTO + b"}("
        + b"".join(
            text(f"k{n}") + tensor(b"J\0\0\4\0", b"J\0\0\4\0\x85", b"K\1\x85") for n in range(9000)
        )
        + b"u.",
        extra={"archive/data/0": bytes(1 << 20)},
    ),
    "a storage of terabytes": zipped(
        PROTO + b"}" + text("a") + tensor(HUGE, b"K\1\x85", b"K\1\x85") + b"s."
    ),
    "a storage longer than its record": zipped(
        PROTO + b"}" + text("a") + tensor(b"K\xff", b"K\xff\x85", b"K\1\x85") + b"s."
    ),
    "a shape of a million dimensions": zipped(
        PROTO + b"}" + text("a")
        + tensor(b"K\1", b"(" + b"K\1" * 100_000 + b"t", b"(" + b"K\1" * 100_000 + b"t") + b"s."
    ),
    "a directory of 40 MB": many_records,
    "a hundred records in one place": overlapping,
    "two records of one name": zipped(
        PROTO + b"}.", extra={"archive/DATA.pkl": PROTO + doubling() + b"."}
    ),
    "before 1.6: nested tuples as a key": stream(PROTO + b"}" + doubling() + b"K\1s."),
    "before 1.6: a storage of terabytes": stream(
        PROTO + b"}" + text("a") + tensor(HUGE + text("cpu") + b"00"[:0], b"K\1\x85", b"K\1\x85")
        + b"s."
    ),
    "before 1.6: a memo index of 34 GB": stream(PROTO + b"}r\xff\xff\xff\xff."),
    "before 1.6: 9 million steps": stream(PROTO + b"N0" * 4_500_000 + b"}."),
    "before 1.6: nested tuples for the keys": lambda path: stream(PROTO + b"}.")(path) and (
        path.write_bytes(path.read_bytes()[:-4] + PROTO + b"}" + doubling() + b"K\1s.")
    ),
}  # fmt: skip

# Reads every bomb in one process, and says of each how long it took and how much memory it took.
MEASURE = """
import json, resource, sys, time
from pathlib import Path
from lorasmith.formats.pickle_header import read_pickle_header
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
for path in sys.argv[1:]:
    before, begin = peak(), time.process_time()
    try:
        read_pickle_header(Path(path))
        said = ""
    except ValueError as error:
        said = str(error) or "?"
    print(json.dumps([said, time.process_time() - begin, peak() - before]), flush=True)
"""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, float, int]]:
    """Small ones first, since a process's peak never falls."""
    folder = tmp_path_factory.mktemp("bombs")
    paths = {}
    for number, (name, make) in enumerate(BOMBS.items()):
        paths[name] = folder / f"{number}.pt"
        make(paths[name])
    order = sorted(paths, key=lambda name: paths[name].stat().st_size)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *(str(paths[name]) for name in order)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [tuple(json.loads(line)) for line in done.stdout.splitlines()]
    return dict(zip(order, lines, strict=True))


@pytest.mark.skipif(sys.platform == "win32", reason="has no resource module")
@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_at_once(measured: dict[str, tuple[str, float, int]], name: str) -> None:
    said, seconds, growth = measured[name]
    assert said, "it was read"
    assert seconds < 0.5
    assert growth < 50 << 20


@pytest.mark.parametrize("name", list(BOMBS)[:8])
def test_no_reader_gives_them_to_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("torch was called"))
    BOMBS[name](tmp_path / "a.pt")
    with pytest.raises(TorchFileError):
        load_torch_file(tmp_path / "a.pt")


def test_a_bomb_that_wants_code_is_still_said_to(tmp_path: Path) -> None:
    zipped(PROTO + b"cposix\nsystem\n" + doubling() + b".")(tmp_path / "a.ckpt")
    assert read_pickle_header(tmp_path / "a.ckpt").dangerous == ("posix.system",)
    zipped(b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85R.")(tmp_path / "b.ckpt")
    assert read_pickle_header(tmp_path / "b.ckpt").dangerous == ("os.system",)


# Real files


class Callback:
    """As pytorch-lightning puts its own into a checkpoint."""


def lightning() -> dict[str, Any]:
    weights = {f"model.layer{n}.weight": torch.randn(4, 3) for n in range(40)}
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return {
        "epoch": 3,
        "global_step": 2**40,
        "pytorch-lightning_version": "1.4.2",
        "state_dict": collections.OrderedDict(weights),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 3}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best": float("inf"), "paths": []}},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [{"base_lrs": [1e-4], "last_epoch": -1, "verbose": False}],
        "hyper_parameters": {"betas": (0.9, 0.999), "sizes": [[1, 2], [3, (4, 5)]], "name": "é"},
    }


def shared() -> dict[str, Any]:
    weight = torch.randn(50, 20)
    return {"a": weight, "tied": weight, "rows": weight[3:5], "turned": weight.t()}


FILES: dict[str, Callable[[], Any]] = {
    "state dict": lambda: {f"a.{n}": torch.randn(n + 1) for n in range(300)},
    "lightning": lightning,
    "shared storages": shared,
    "every kind of number": lambda: {
        str(kind): torch.ones(3).to(kind)
        for kind in (torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8,
                     torch.bool, torch.complex64)
    },
    "parameters": lambda: torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)
                                              ).state_dict(),
    "empty and scalar": lambda: {"a": torch.zeros(0, 4), "b": torch.tensor(3.0)},
    "expanded": lambda: {"ids": torch.arange(77).expand((1, -1)), "a": torch.ones(1).expand(9)},
    "embedding": lambda: {
        "string_to_token": {"*": 265}, "string_to_param": {"*": torch.randn(2, 768)},
        "name": "zorp", "step": 500, "sd_checkpoint": None, "sd_checkpoint_name": None,
    },
    "a list of pairs": lambda: [torch.randn(4, 2), torch.randn(2, 4)],
    "optimizer with tensors": lambda: {
        "state": {n: {"step": torch.tensor(3.0), "exp_avg": torch.randn(3)} for n in range(50)},
        "param_groups": [{"lr": 1e-4, "params": list(range(50)), "betas": (0.9, 0.99)}],
    },
    "deep settings": lambda: {"state_dict": {"a": torch.ones(2)}, "config": {
        "model": {"params": {"unet": {"params": {"levels": [1, 2, {"x": ((1, 2), (3, (4,)))}]}}}}}},
}  # fmt: skip


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("name", FILES)
def test_real_files_are_read_as_torch_reads_them(tmp_path: Path, name: str, old: bool) -> None:
    value, path = FILES[name](), tmp_path / "a.pt"
    torch.save(value, path, _use_new_zipfile_serialization=not old)
    assert same(load_torch_file(path), value)
    header = read_pickle_header(path)
    assert not header.dangerous
    flat = value.get("state_dict", value) if isinstance(value, dict) else {}
    tensors = {key: item for key, item in flat.items() if isinstance(item, torch.Tensor)}
    assert {key: item.shape for key, item in header.tensors.items()} == {
        key: tuple(item.shape) for key, item in tensors.items()
    }
    found = locate_tensors(header)
    for key, info in (found or {}).items():
        begin, end = info.begin, info.end
        expected = tensors[key].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        assert path.read_bytes()[begin:end] == expected


def test_stand_ins_for_training_programs(tmp_path: Path) -> None:
    content = {
        "state_dict": {"a": torch.ones(3)},
        "args": argparse.Namespace(lr=1.0, betas=(1, 2)),
        "numbers": np.arange(4.0),
        "callback": {Callback: Callback()},
        "counts": collections.Counter("abc"),
        "path": Path("a"),
    }
    torch.save(content, tmp_path / "a.ckpt")
    header = read_pickle_header(tmp_path / "a.ckpt")
    assert header.tensors["a"].shape == (3,)
    assert any("Callback" in name for name in header.dangerous)
    assert "argparse.Namespace" in header.dangerous
    assert any(name.startswith("pathlib.") for name in header.dummies)


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_is_understood(tmp_path: Path, protocol: int) -> None:
    values = {"a": [1, -5, 2**31, 2**70, 1.5, True, None, "é\n", b"\0x"], "b": (1, (2,)), "c": {}}
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(values, protocol))
    built = read_torch_file(tmp_path / "a.pt").value
    if protocol < 3:  # bytes are made by a call there
        built["a"][-1] = values["a"][-1]
    assert built == values


@pytest.mark.slow
def test_a_real_checkpoint_is_far_from_the_limits(tmp_path: Path) -> None:
    """Four thousand tensors: a UNet with its averages and both moments of an optimizer."""
    state = {f"model.diffusion_model.input_blocks.{n}.weight": torch.zeros(1) for n in range(4000)}
    torch.save({"state_dict": state}, tmp_path / "a.ckpt")
    assert len(read_torch_file(tmp_path / "a.ckpt").value["state_dict"]) == 4000
    assert pickle.dumps(state).count(b"q") < STEPS
    torch.save({"state_dict": state}, tmp_path / "b.ckpt", _use_new_zipfile_serialization=False)
    assert len(read_torch_file(tmp_path / "b.ckpt").value["state_dict"]) == 4000


def test_other_files_are_no_torch_files(tmp_path: Path) -> None:
    for content in (b"", b"x", b"PK\3\4", b"PK\3\4" + bytes(100), b"\x80\x02}.", b"\x80\x02K\1."):
        (tmp_path / "a.pt").write_bytes(content)
        with pytest.raises(TorchFileError):
            read_torch_file(tmp_path / "a.pt")
