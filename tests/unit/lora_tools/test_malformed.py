"""Every file tool against files that are broken, hostile, or something else altogether.

Each ends with a clear word and exit status 2, or says what it leaves out; nothing in a file is run,
no file is changed, and no half of an output is left.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save, save_file
from tests.tiny_models import tiny_checkpoint, tiny_model
from torch import Tensor

from lorasmith.adapters.network import AdapterNetwork
from lorasmith.cli.main import cli

SUFFIX = ".safetensors"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A sound LoRA and a sound checkpoint that it fits."""
    folder = tmp_path_factory.mktemp("sound")
    tiny_checkpoint(folder / "model.safetensors", dtype=torch.float32)
    network = AdapterNetwork.create(tiny_model().adapter_roots(), rank=2, alpha=1.0)
    tensors = {name: torch.randn(tensor.shape) for name, tensor in network.state_dict().items()}
    save_file(tensors, folder / "lora.safetensors")
    return folder


@pytest.fixture
def lora(made) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(made / "lora.safetensors")


def header(content: bytes, change: Callable[[dict], None]) -> bytes:
    """A file whose header was changed, its numbers where they were."""
    (length,) = struct.unpack("<Q", content[:8])
    values = json.loads(content[8 : 8 + length])
    change(values)
    text = json.dumps(values).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def first(values: dict) -> dict:
    return next(value for name, value in values.items() if name != "__metadata__")


def names_of(values: dict) -> list[str]:
    return [name for name in values if name != "__metadata__"]


def beyond(values: dict) -> None:
    first(values)["data_offsets"][1] += 1 << 40


def overlap(values: dict) -> None:
    one, other = [values[name] for name in names_of(values) if "lora_up" in name][:2]
    other |= {"data_offsets": one["data_offsets"], "shape": one["shape"], "dtype": one["dtype"]}


def backwards(values: dict) -> None:
    first(values)["data_offsets"].reverse()


def negative(values: dict) -> None:
    entry = first(values)
    entry["data_offsets"] = [
        -1 << 20,
        entry["data_offsets"][1] - entry["data_offsets"][0] - (1 << 20),
    ]


def billion(values: dict) -> None:
    first(values).update(shape=[10**9], data_offsets=[0, 4 * 10**9], dtype="F32")


def billion_lies(values: dict) -> None:
    first(values).update(shape=[10**9])


def no_numbers(values: dict) -> None:
    first(values).update(shape=["x"], data_offsets=None)


def metadata_list(values: dict) -> None:
    values["__metadata__"] = ["x"]


def half_a_character(values: dict) -> None:
    values["__metadata__"] = {"ss_output_name": "\ud83d"}


HEADERS = {
    "header that ends beyond the file": beyond,
    "overlapping offsets": overlap,
    "offsets backwards": backwards,
    "negative offsets": negative,
    "a billion numbers": billion,
    "a billion numbers in a few bytes": billion_lies,
    "no numbers in the header": no_numbers,
    "metadata that is a list": metadata_list,
    "half a character": half_a_character,
}


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def pickled(tensors: dict[str, Tensor], zipped: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(tensors, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def broken_files(tensors: dict[str, Tensor], marker: Path) -> dict[str, bytes]:
    content = save(tensors)
    files = {name: header(content, change) for name, change in HEADERS.items()}
    evil = pickle.dumps({"state_dict": {"x": Evil(marker)}})
    torch_file, old_file = (pickled(tensors, zipped) for zipped in (True, False))
    return files | {
        "truncated header": content[:200],
        "truncated numbers": content[:-1000],
        "eight bytes": content[:8],
        "header of nonsense": struct.pack("<Q", 40) + b"{" * 40 + b"\0" * 100,
        "deep header": struct.pack("<Q", 60_006) + b'{"a":' + b"[" * 60_001 + b"\0" * 100,
        "nothing": b"",
        "a web page": b"<!DOCTYPE html><html><body>Sign in</body></html>" * 20,
        "a git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        "a text": b"just some words\n" * 50,
        "an evil pickle": evil,
        "no tensors": save({}),
        "a torch file that is cut short": torch_file[: len(torch_file) * 2 // 3],
        "an old torch file that is cut short": old_file[:5000],
        "an old torch file with other bytes": old_file[:40] + b"\xff" * 40 + old_file[80:],
        "no torch file": b"\x80\x02junk",
        "another kind": save({"string_to_param": torch.ones(2, 768)}),
    }


BROKEN = [
    *HEADERS, "truncated header", "truncated numbers", "eight bytes", "header of nonsense",
    "deep header", "nothing", "a web page", "a git-lfs pointer", "a text", "an evil pickle",
    "no tensors", "another kind", "a torch file that is cut short",
    "an old torch file that is cut short", "an old torch file with other bytes", "no torch file",
    "an evil torch file", "a folder", "not there",
]  # fmt: skip

COMMANDS: dict[str, tuple[str, ...]] = {
    "inspect": ("BAD",),
    "inspect --json": ("BAD",),
    "convert": ("BAD", "OUT", "--to", "diffusers"),
    "convert as it is": ("BAD", "OUT"),
    "resize": ("BAD", "OUT", "--rank", "1"),
    "merge": ("GOOD", "BAD", "--out", "OUT"),
    "bake": ("--model", "MODEL", "--lora", "BAD", "--out", "OUT"),
    "bake model": ("--model", "BAD", "--lora", "GOOD", "--out", "OUT"),
    "extract base": ("--base", "BAD", "--tuned", "MODEL", "--rank", "1", "--out", "OUT"),
    "extract tuned": ("--base", "MODEL", "--tuned", "BAD", "--rank", "1", "--out", "OUT"),
}


def run(command: str, folder: Path, made: Path, bad: Path) -> tuple[Result, Path]:
    """The command's result, having seen that it changed no file but its output."""
    out = folder / "out" / "made.safetensors"
    places = {
        "BAD": bad, "OUT": out, "GOOD": made / "lora.safetensors",
        "MODEL": made / "model.safetensors",
    }  # fmt: skip
    words = [str(places.get(word, word)) for word in COMMANDS[command]]
    options = ["--json"] if command.endswith("--json") else []
    before = contents(made) | contents(folder)
    result = CliRunner().invoke(cli, [command.split()[0], *words, *options])
    assert "Traceback" not in result.output, result.output
    after = contents(made) | contents(folder)
    after.pop(out, None)
    assert after == before
    return result, out


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow_but_first
@pytest.mark.parametrize("command", list(COMMANDS))
def test_a_broken_file_is_refused_with_a_clear_word(tmp_path, made, lora, command) -> None:
    marker = tmp_path / "executed"
    files = broken_files(lora, marker)
    for kind in BROKEN:
        bad = tmp_path / f"bad{'.pt' if 'evil' in kind or 'torch' in kind else SUFFIX}"
        if kind == "a folder":
            bad = tmp_path / "folder"
            bad.mkdir()
        elif kind == "an evil torch file":
            torch.save({"state_dict": {**lora, "x": Evil(marker)}}, bad)
        elif kind == "not there":
            bad = tmp_path / "not there.safetensors"
        else:
            bad.write_bytes(files[kind])
        result, out = run(command, tmp_path, made, bad)
        assert result.exit_code == 2, f"{kind}: {result.exit_code} {result.output}"
        assert result.output.startswith("Error:") or "errors:" in result.output, kind
        assert bad.name in result.output, kind
        assert len(result.output) < 1500, kind
        assert not out.exists(), kind
        assert not marker.exists(), f"{kind} was executed"
        assert not list(tmp_path.rglob("*.tmp")), kind
        if bad.is_file():
            bad.unlink()


def nan(tensors: dict[str, Tensor]) -> None:
    next(t for name, t in tensors.items() if "lora_up" in name)[0, 0] = torch.nan


def infinite_alpha(tensors: dict[str, Tensor]) -> None:
    name = next(name for name in tensors if name.endswith("alpha"))
    tensors[name] = torch.tensor(torch.inf)


def no_down(tensors: dict[str, Tensor]) -> None:
    del tensors[next(name for name in tensors if "lora_down" in name)]


def other_rank(tensors: dict[str, Tensor]) -> None:
    name = next(name for name in tensors if "lora_up" in name)
    tensors[name] = tensors[name][:, :1].contiguous()


def long_alpha(tensors: dict[str, Tensor]) -> None:
    tensors[next(name for name in tensors if name.endswith("alpha"))] = torch.ones(7)


def empty_factor(tensors: dict[str, Tensor]) -> None:
    tensors[next(name for name in tensors if "lora_up" in name)] = torch.zeros(0, 2)


def no_matrix(tensors: dict[str, Tensor]) -> None:
    tensors[next(name for name in tensors if "lora_up" in name)] = torch.zeros(2)


def integers(tensors: dict[str, Tensor]) -> None:
    name = next(name for name in tensors if "lora_up" in name)
    tensors[name] = tensors[name].long()


def half_a_loha(tensors: dict[str, Tensor]) -> None:
    key = next(name for name in tensors if "lora_up" in name).partition(".")[0]
    for name in [name for name in tensors if name.startswith(f"{key}.")]:
        del tensors[name]
    tensors[f"{key}.hada_w1_a"] = torch.ones(4, 2)


def broken_loha(tensors: dict[str, Tensor]) -> None:
    half_a_loha(tensors)
    key = next(name for name in tensors if "hada" in name).partition(".")[0]
    for name, shape in {"w1_b": (2, 3), "w2_a": (5, 2), "w2_b": (2,)}.items():
        tensors[f"{key}.hada_{name}"] = torch.ones(shape)


def broken_lokr(tensors: dict[str, Tensor]) -> None:
    half_a_loha(tensors)
    key = next(name for name in tensors if "hada" in name).partition(".")[0]
    del tensors[f"{key}.hada_w1_a"]
    tensors[f"{key}.lokr_w1"] = torch.ones(2)
    tensors[f"{key}.lokr_w2_a"] = torch.ones(3, 2)
    tensors[f"{key}.lokr_w2_b"] = torch.ones(5, 4)


CHANGES: dict[str, Callable[[dict[str, Tensor]], None]] = {
    "NaN": nan,
    "infinite alpha": infinite_alpha,
    "up without down": no_down,
    "ranks that differ": other_rank,
    "an alpha of seven numbers": long_alpha,
    "a factor without numbers": empty_factor,
    "a factor that is no matrix": no_matrix,
    "whole numbers": integers,
    "half a LoHa": half_a_loha,
    "a LoHa that does not fit": broken_loha,
    "a LoKr that does not fit": broken_lokr,
}
TOOLS = ("convert", "convert as it is", "resize", "merge", "bake")


@pytest.mark.slow_but_first
@pytest.mark.parametrize("kind", list(CHANGES))
def test_a_malformed_module_is_told_by_name(tmp_path, made, lora, kind) -> None:
    CHANGES[kind](lora)
    bad = tmp_path / "bad.safetensors"
    save_file(lora, bad)
    for command in TOOLS:
        result, out = run(command, tmp_path, made, bad)
        if result.exit_code == 0:
            # Whole numbers are numbers; what a tool leaves out, it says.
            told = not command.startswith("convert") and "lora_" in result.output
            assert kind == "whole numbers" or told, (command, result.output)
            out.unlink()
            continue
        assert result.exit_code == 2, f"{command}: {result.output}"
        assert "lora_" in result.output or "NaN" in result.output, result.output
        assert not out.exists()
    result, _ = run("inspect --json", tmp_path, made, bad)
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    if kind == "NaN":
        assert len(report["not_finite"]) == 1
    elif kind != "whole numbers":
        assert len(report["problems"]) == 1, report["problems"]
    assert run("inspect", tmp_path, made, bad)[0].exit_code == 0


def test_what_is_unusual_and_sound_is_read(tmp_path, made, lora) -> None:
    """No alphas, every precision in one file, and names of no layer beside the others."""
    kinds = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    sound = {
        name: tensor.to(kinds[number % 4])
        for number, (name, tensor) in enumerate(lora.items())
        if not name.endswith("alpha")
    }
    sound["bundle_emb.zorp.string_to_param.*"] = torch.ones(2, 16)
    path = tmp_path / "unusual.safetensors"
    save_file(sound, path)
    for command in (*TOOLS, "inspect"):
        result, out = run(command, tmp_path, made, path)
        assert result.exit_code == 0, f"{command}: {result.output}"
        told = "zorp" in result.output or "of no layer" in result.output
        assert told or "byte for byte" in result.output, f"{command} says nothing of it"
        out.unlink(missing_ok=True)
    report = json.loads(run("inspect --json", tmp_path, made, path)[0].output)
    assert report["unmatched"] == ["bundle_emb.zorp.string_to_param.*"]
    assert set(report["precision"]) == {"F16", "BF16", "F32", "F64"}


def test_eight_bit_numbers_are_read(tmp_path, made, lora) -> None:
    path = tmp_path / "eight.safetensors"
    save_file({name: tensor.to(torch.float8_e4m3fn) for name, tensor in lora.items()}, path)
    for command in (*TOOLS, "inspect"):
        result, out = run(command, tmp_path, made, path)
        assert result.exit_code == 0, f"{command}: {result.output}"
        out.unlink(missing_ok=True)


def test_a_lora_given_as_a_model_is_called_one(tmp_path, made) -> None:
    for command in ("bake model", "extract base", "extract tuned"):
        result, _ = run(command, tmp_path, made, made / "lora.safetensors")
        assert result.exit_code == 2
        assert "LoRA" in result.output
    result, _ = run("resize", tmp_path, made, made / "model.safetensors")
    assert result.exit_code == 2
    assert "a whole base model (a checkpoint), not a LoRA" in result.output
