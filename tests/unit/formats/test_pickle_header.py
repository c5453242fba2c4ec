"""Where torch files keep their numbers, against what torch reads."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lorasmith.formats.pickle_header import locate_tensors, read_pickle_header

NUMPY = {"F32": np.float32, "F16": np.float16, "I64": np.int64}


def saved(path: Path, value: Any, **options: Any) -> Path:
    torch.save(value, path, **options)
    return path


def test_numbers_are_where_it_says(tmp_path: Path) -> None:
    whole = torch.randn(6, 4)
    state = {
        "whole": whole,
        "its rows": whole[2:4],
        "half": torch.randn(5).half(),
        "trained": torch.nn.Parameter(torch.randn(2, 1, 3)),
        "one": torch.tensor(7),
        "none": torch.zeros(0, 3),
    }
    path = saved(tmp_path / "model.ckpt", {"epoch": 3, "state_dict": state})
    found = locate_tensors(read_pickle_header(path))
    assert found is not None
    assert found.keys() == state.keys()
    data = path.read_bytes()
    for name, info in found.items():
        values = np.frombuffer(data[info.begin : info.end], NUMPY[info.dtype])
        np.testing.assert_array_equal(values.reshape(info.shape), state[name].detach().numpy())


def test_views_and_old_files_are_left_to_torch(tmp_path: Path) -> None:
    turned = saved(tmp_path / "turned.ckpt", {"a": torch.randn(3, 4).t()})
    assert locate_tensors(read_pickle_header(turned)) is None
    old = saved(tmp_path / "old.ckpt", {"a": torch.randn(3)}, _use_new_zipfile_serialization=False)
    assert locate_tensors(read_pickle_header(old)) is None
    packed = tmp_path / "packed.ckpt"
    plain = saved(tmp_path / "plain.ckpt", {"a": torch.randn(3)})
    with (
        zipfile.ZipFile(plain) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(ValueError, match="is compressed, which torch never does"):
        read_pickle_header(packed)


def test_a_tensor_longer_than_its_numbers(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.ckpt", {"a": torch.zeros(1000), "b": torch.zeros(2)})
    with zipfile.ZipFile(path) as source:
        parts = {name: source.read(name) for name in source.namelist()}
    program = next(name for name in parts if name.endswith("data.pkl"))
    # 1000 as a two-byte number; as the size and as the storage's length.
    assert parts[program].count(b"M" + struct.pack("<H", 1000)) == 2
    parts[program] = parts[program].replace(struct.pack("<H", 1000), struct.pack("<H", 9000))
    with zipfile.ZipFile(path, "w") as target:
        for name, content in parts.items():
            target.writestr(name, content)
    with pytest.raises(ValueError, match="numbers of a tensor are missing"):
        locate_tensors(read_pickle_header(path))
