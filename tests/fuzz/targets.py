"""One target for each reader of text or files from outside: bytes in, nothing out.

A target raises nothing, whatever it is given: errors that the reader documents are part of what it
does. The files that readers want lie in :data:`FOLDER`.
"""

from __future__ import annotations

import io
import json
import pickle
import random
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save

from lorasmith.cli.control import status_lines
from lorasmith.config.load import load_settings
from lorasmith.config.sections.data import CaptionSettings
from lorasmith.core.errors import PromptError, UserError
from lorasmith.core.events import Request
from lorasmith.core.files import parse_json, parse_safetensors_header
from lorasmith.core.terminal import clean, escaped
from lorasmith.curation.captioner.answers import Answer
from lorasmith.curation.captioner.caption import joined, repaired
from lorasmith.curation.captioner.endpoint import Refused, read_answer
from lorasmith.curation.edit.caption_text import CaptionFile, edit_captions
from lorasmith.curation.edit.new_captions import with_caption
from lorasmith.curation.edit.operations import (
    JOIN_LINES,
    OPERATIONS,
    edit_line,
    read_operations,
)
from lorasmith.curation.edit.tag_edits import CaptionContext
from lorasmith.curation.filter_language.grammar import parse as parse_filter_text
from lorasmith.curation.filter_language.words import FLAGS, KEYS
from lorasmith.curation.images.boxes import parse_box
from lorasmith.curation.images.convert import normalised, oddities
from lorasmith.curation.images.image_file import read_image_file, write_image_file
from lorasmith.curation.images.image_metadata import copied, embed_caption, embedded_caption
from lorasmith.curation.importing.archives import unpack
from lorasmith.curation.importing.file_names import NamePattern
from lorasmith.curation.sidecars.generation import comfy_prompt, read_generation
from lorasmith.curation.sidecars.generation import parse_prompt as parse_generation
from lorasmith.curation.sidecars.read import read_sidecars
from lorasmith.curation.sidecars.tags import TagRules, caption_of
from lorasmith.curation.tagger.labels import LABEL_FILES, read_labels
from lorasmith.data.cache.file_memo import FileMemo
from lorasmith.data.caption_files import decode
from lorasmith.data.captions import augment_caption, readings, tags_of
from lorasmith.data.images import glance, load_alpha, load_image, read_header
from lorasmith.data.layout import find_folders, folder_caption
from lorasmith.data.recorded_crops import parse_region
from lorasmith.formats import block_weights
from lorasmith.formats.embedding_header import read_embedding_header
from lorasmith.formats.embedding_keys import WORD, bundled
from lorasmith.formats.pickle_header import locate_tensors, read_pickle_header
from lorasmith.grids.axis_types import parse_axis
from lorasmith.importers.convert import convert_source
from lorasmith.importers.detect import read_file
from lorasmith.importers.sd_scripts.argv import read_argv
from lorasmith.importers.sd_scripts.sample_prompts import prompts_of
from lorasmith.lora_tools.inspect.inspect import inspect
from lorasmith.lora_tools.inspect.thumbnail import read_preview
from lorasmith.lora_tools.inspect.training_summary import training_words, trigger_words
from lorasmith.models.embedding_file import load_embedding
from lorasmith.prompts.grammar import format_nodes, parse_nodes
from lorasmith.prompts.infotext import format_infotext, parse_infotext
from lorasmith.prompts.lora_tags import take_tags
from lorasmith.prompts.parse import parse_prompt
from lorasmith.prompts.wildcards import Wildcards
from lorasmith.sampling.from_dataset import drawings_of_file
from lorasmith.sampling.from_infotext import request_of
from lorasmith.sampling.infotext import require_infotext
from lorasmith.sampling.lora_library import LoraLibrary
from lorasmith.sampling.request import ImageRequest
from lorasmith.sampling.sources import Sources
from lorasmith.tensors.files import LOAD_ERRORS, load_torch_file
from lorasmith.training.runs.control import read_status
from lorasmith.training.runs.folder import RunFolder, drop_lines_after

FOLDER = Path(tempfile.gettempdir()) / "lorasmith-fuzz"


@dataclass(frozen=True, slots=True)
class Target:
    """
    Args:
        run: the reader.
        corpus: sound inputs, which are changed.
        words: pieces that make sense to the reader.
    """

    run: Callable[[bytes], object]
    corpus: Callable[[], list[bytes]]
    words: tuple[bytes, ...] = ()


@cache
def _place() -> Path:
    FOLDER.mkdir(exist_ok=True)
    return Path(tempfile.mkdtemp(dir=FOLDER))


def _file(name: str, data: bytes) -> Path:
    path = _place() / name
    path.write_bytes(data)
    return path


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


# The readers


def safetensors_header(data: bytes) -> None:
    with suppress(ValueError):
        header = parse_safetensors_header(data, len(data) + (1 << 16))
        metadata(header.metadata)


def metadata(found: Mapping[str, str]) -> None:
    training_words(found)
    trigger_words(found)
    read_preview(found)


class SameUnderEveryKey(dict[str, str]):
    def get(self, key: str, default: object = None) -> str:  # type: ignore[override]
        return self[""]


def metadata_value(data: bytes) -> None:
    metadata(SameUnderEveryKey({"": _text(data)}))


def lora_file(data: bytes) -> None:
    with suppress(UserError):
        inspect(_file("a.safetensors", data))


def torch_zip(data: bytes) -> None:
    with suppress(ValueError):
        locate_tensors(read_pickle_header(_file("a.ckpt", data)))


def torch_program(data: bytes) -> None:
    """The pickle in a sound zip, which a change of the zip's bytes would seldom reach."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in {"data.pkl": data, "version": b"3\n", "data/0": bytes(24),
                              "data/1": bytes(2)}.items():  # fmt: skip
            archive.writestr(f"a/{name}", content)
    torch_zip(buffer.getvalue())
    torch_file(buffer.getvalue())


def torch_file(data: bytes) -> None:
    with suppress(*LOAD_ERRORS):
        load_torch_file(_file("a.pt", data))


def image(data: bytes) -> None:
    path = _file("a.png", data)
    for read in (read_header, load_image, load_alpha, glance, require_infotext):
        with suppress(UserError):
            read(path)
    read_generation(path)


@dataclass(frozen=True, slots=True)
class Beside:
    """A file beside an image, in memory."""

    path: Path
    data: bytes

    def read(self, most: int) -> bytes:
        return self.data[:most]


def side_cars(data: bytes) -> None:
    """The bytes under the names of each kind of file."""
    images = [Path("a.png"), Path("b_0123.png")]
    for name in ("a.txt", "a.png.txt", "a.json", "m.json", "m.jsonl", "m.csv", "m.tsv", "list.txt"):
        found = read_sidecars(images, [Beside(Path(name), data)])
        for car in found.cars.values():
            caption_of(car, TagRules()).encode()
    parse_generation(_text(data))
    comfy_prompt(_text(data))
    with suppress(UserError):
        NamePattern(_text(data)).tags(Path("x/y z/0123.png"))


def image_archive(data: bytes) -> None:
    folder = _place() / "unpacked"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with suppress(UserError):
        list(unpack(_file("a.zip", data), folder, lambda suffix: True, lambda: None))


def recorded_crop(data: bytes) -> None:
    with suppress(ValueError):
        parse_region(data).within((7, 5))


def image_again(data: bytes) -> None:
    """Converted, and written again with all that it says; but large ones, which take memory."""
    path = _file("a.png", data)
    with suppress(UserError):
        header = read_header(path)
        if header.width * header.height > 4_000_000:
            return
        oddities(path)
        write_image_file(normalised(read_image_file(path)), path.with_name("b.png"))


def box_beside(data: bytes) -> None:
    with suppress(ValueError):
        parse_box(data, (64, 48))


def caption(data: bytes) -> None:
    text, _ = decode(data)
    for rules in (CaptionSettings(shuffle=True, keep_tokens=1, tag_dropout=0.3),
                  CaptionSettings(wildcards=True, keep_tokens_separator="|||",
                               secondary_separator=";;;", prefix="a", suffix="b")):  # fmt: skip
        augment_caption(text, rules, rng=random.Random(0))
        readings(text, rules)
        tags_of(text, rules)


def captioner_answer(data: bytes) -> None:
    answers = [Answer(_text(data), finished=False)]
    with suppress(ValueError, Refused):
        answers.append(read_answer(parse_json(data)))
    for answer in answers:
        repaired(answer, "tags", ["black hair", "a"])
        text, _ = repaired(answer, "descriptive", ["black hair", "a"])
        with suppress(UserError):
            join = partial(joined, new=text or "x", mode="prepend", style="descriptive")
            with_caption(data, text or "x", "prepend", join)


def prompt(data: bytes) -> None:
    text = _text(data)
    with suppress(UserError):
        take_tags(text)
        for part in parse_prompt(text).parts:
            parse_nodes(format_nodes(part.nodes))


def wildcards(data: bytes) -> None:
    with suppress(UserError):
        Wildcards().expand(_text(data), 7)
    _file("name.txt", data)
    with suppress(UserError):
        Wildcards(_place()).expand("__name__, {__name__|2$$__name__}", 7)


def infotext(data: bytes) -> None:
    with suppress(UserError):
        info = parse_infotext(_text(data))
        parse_infotext(format_infotext(info))
        request_of(info, "a.png")


def settings(data: bytes) -> None:
    with suppress(UserError):
        load_settings(_file("a.toml", data), [])


def overrides(data: bytes) -> None:
    with suppress(UserError):
        load_settings(None, [line for line in _text(data).split("\n")[:8] if line])


def _foreign(suffix: str) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        with suppress(UserError):
            convert_source(read_file(_file(f"a{suffix}", data)))

    return run


def arguments(data: bytes) -> None:
    with suppress(UserError):
        convert_source(read_argv(_text(data).split("\n")))


def sample_prompts(data: bytes) -> None:
    for suffix in (".txt", ".toml", ".json"):
        with suppress(ValueError):
            prompts_of(_text(data), suffix)
    with suppress(UserError):
        drawings_of_file(_file("p.txt", data), ImageRequest(""), Path("out"))


def run_logs(data: bytes) -> None:
    """The file's parts are a run's files."""
    folder = RunFolder(_place() / "run")
    folder.control.mkdir(parents=True, exist_ok=True)
    info, events, metrics = [*data.split(b"\n---\n"), b"", b""][:3]
    folder.info.write_bytes(info)
    folder.events.write_bytes(events)
    folder.metrics.write_bytes(metrics)
    with suppress(UserError):
        status_lines(folder, read_status(folder))
    with suppress(UserError):
        drop_lines_after(folder.metrics, 3)
    FileMemo(folder.info)
    with suppress(UserError):
        Request.parse(_text(events))


def tagger_labels(data: bytes) -> None:
    for name in LABEL_FILES:
        with suppress(UserError):
            assert len(read_labels(_file(name, data)))


def folder_names(data: bytes) -> None:
    root = _place() / "set"
    shutil.rmtree(root, ignore_errors=True)
    for name in data.split(b"\n")[:4]:
        with suppress(OSError, ValueError):
            (root / _text(name).replace("/", "_")).mkdir(parents=True)
            (root / _text(name).replace("/", "_") / "a.png").write_bytes(b"x")
    root.mkdir(parents=True, exist_ok=True)
    with suppress(UserError):
        for spec in find_folders(root):
            folder_caption(spec)


def filter_text(data: bytes) -> None:
    with suppress(UserError):
        parse_filter_text(_text(data))


def caption_edit(data: bytes) -> None:
    """Operations on the first line, between bars; the rest is the caption file."""
    line, _, rest = data.partition(b"\n")
    file, context = CaptionFile.of(rest), CaptionContext("zorp girl", {"hat": 2})
    assert file.with_text(edit_captions(file.text, lambda text: text)) == rest
    with suppress(UserError):
        texts = [text for text in _text(line).split("|") if not text.startswith(JOIN_LINES)]
        operations = read_operations(texts)
        file.with_text(edit_captions(file.text, lambda text: edit_line(text, operations, context)))


def image_metadata(data: bytes) -> None:
    with suppress(ValueError):
        new = embed_caption(data, "zorp, <é>")
        assert embedded_caption(new) == "zorp, <é>"
        assert embed_caption(new, "zorp, <é>") == new
    with suppress(ValueError):
        copied(data, _images()[0])


def grid_axis(data: bytes) -> None:
    sources = Sources(LoraLibrary(None))
    with suppress(UserError):
        parse_axis("--x", _text(data), sources)


def weights(data: bytes) -> None:
    text = _text(data)
    for read in (
        block_weights.parse, block_weights.parse_given, block_weights.learning_weights,
        lambda value: block_weights.sizes(value, whole=True),
        lambda value: block_weights.sizes(value, whole=False),
    ):  # fmt: skip
        with suppress(ValueError):
            read(text)


def terminal(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    assert "\x1b" not in clean(text)
    assert "\x9b" not in escaped(text)


def embedding(data: bytes) -> None:
    for ending in (".safetensors", ".pt"):
        path = _file(f"a{ending}", data)
        names = read_embedding_header(path).bundled
        for name in ("", *list(names)[:3]):
            with suppress(PromptError):
                load_embedding(path, name)


# What they begin with


METADATA = {
    "ss_tag_frequency": json.dumps({"10_zorp": {"zorp": 9, "hat": 2}}), "ss_network_dim": "2",
    "ss_dataset_dirs": json.dumps({"10_zorp": {"n_repeats": 10, "img_count": 9}}),
    "ss_learning_rate": "1e-4", "ss_network_module": "networks.lora",
    "ss_bucket_info": '{"buckets": {}}', "modelspec.resolution": "512x512", "ss_network_args": "{}",
    "modelspec.thumbnail": "data:image/jpeg;base64,/9j/4AAQ", "ss_datasets": json.dumps(
        [{"tag_frequency": {"a": {"b": 1}}, "dataset_dirs": {"a": {"n_repeats": 2}},
          "subsets": [{"image_dir": "a", "is_reg": True}]}]),
}  # fmt: skip


def _lora() -> bytes:
    tensors = {
        f"lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q.{name}": value
        for name, value in {
            "lora_down.weight": torch.ones(2, 640), "lora_up.weight": torch.zeros(640, 2),
            "alpha": torch.tensor(1.0),
        }.items()
    }  # fmt: skip
    return save(tensors, METADATA)


def _headers() -> list[bytes]:
    data = _lora()
    (length,) = struct.unpack_from("<Q", data)
    return [data[8 : 8 + length]]


def _torch(old: bool) -> bytes:
    buffer = io.BytesIO()
    content = {"state_dict": {"a": torch.ones(2, 3), "b": torch.zeros(1).half()}, "epoch": 3,
               "optimizer_states": [{"state": {0: {"step": 3}}, "lr": 1e-4}]}  # fmt: skip
    torch.save(content, buffer, _use_new_zipfile_serialization=not old)
    return buffer.getvalue()


def _embeddings() -> list[bytes]:
    sdxl = {"clip_l": torch.ones(2, 4), "clip_g": torch.ones(2, 5)}
    files = [save({"emb_params": torch.ones(2, 4)}, {WORD: "zorp"}), save(sdxl)]
    files.append(save({bundled("zorp", key): tensor for key, tensor in sdxl.items()}))
    for content in (
        {"string_to_param": {"*": torch.ones(2, 4)}, "name": "zorp"},
        {"<zorp>": torch.ones(4)},
        {"string_to_param": torch.nn.ParameterDict({"*": torch.ones(2, 4)})},
    ):
        buffer = io.BytesIO()
        torch.save(content, buffer)
        files.append(buffer.getvalue())
    return files


def _torch_files() -> list[bytes]:
    return [_torch(False), _torch(True), pickle.dumps({"a": (1, "b")}, 0)]


def _programs() -> list[bytes]:
    with zipfile.ZipFile(io.BytesIO(_torch(False))) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("data.pkl"))
        program = archive.read(name)
    return [program, pickle.dumps({"a": [(1, 2.5, None), {"b": "c" * 20}]}, 4)]


def _images() -> list[bytes]:
    image = Image.radial_gradient("L").resize((24, 20)).convert("RGB")
    alpha = image.convert("RGBA")
    found = []
    info = PngInfo()
    info.add_text("parameters", "a cat\nNegative prompt: b\nSteps: 3, Seed: 4, Size: 24x20")
    info.add_itxt("Software", "x" * 50, zip=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    options: list[tuple[Image.Image, str, dict[str, object]]] = [
        (image, "PNG", {"pnginfo": info}), (alpha, "PNG", {}), (image.convert("P"), "PNG", {}),
        (image.convert("I;16"), "PNG", {"exif": exif}), (image, "JPEG", {"exif": exif}),
        (image, "JPEG", {"progressive": True}), (image, "WEBP", {}), (image, "BMP", {}),
        (alpha, "WEBP", {"lossless": True, "exif": exif}), (image, "GIF", {}),
        (image, "TIFF", {"compression": "tiff_lzw"}), (image, "TIFF", {"exif": exif}),
        (image.convert("CMYK"), "JPEG", {}), (image.convert("1"), "TIFF", {}),
    ]  # fmt: skip
    for one, kind, more in options:
        buffer = io.BytesIO()
        one.save(buffer, kind, **more)
        found.append(buffer.getvalue())
    return found


def _image_archives() -> list[bytes]:
    found = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            archive.writestr("in/a.png", b"picture" * 40)
            archive.writestr("in/a.txt", b"zorp")
        found.append(buffer.getvalue())
    return found


def _lines(*texts: str) -> Callable[[], list[bytes]]:
    return lambda: [text.encode() for text in texts]


PICKLE_WORDS = (
    b"Q", b"R", b"r\xff\xff\xff\xff", b"2", b"h\0h\0\x86q\0" * 40, b"}(u", b"b", b"\x81", b"N",
    b"K\3", b"\x8a\xff" + b"\x7f" * 255, b"J\xff\xff\xff\xff", b"(t", b"ctorch\nSize\n", b"\x85",
    b"ctorch._utils\n_rebuild_parameter\n", b"ctorch\nFloatStorage\n", b"\x89", b"0", b".", b"e",
    b"ccollections\nOrderedDict\n)R", b"X\1\0\0\0a", b"G\x7f\xf0\0\0\0\0\0\0",
)  # fmt: skip
JSON_WORDS = (
    b"[" * 3000, b'{"a":' * 3000, b"9" * 5000, b"1e999", b"NaN", b"null", b"-0", b'"\\ud800"',
    b"true", b"{}", b"[]", b'""', b",", b":", b"\xff\xfe", b"\xef\xbb\xbf", b"18446744073709551616",
)  # fmt: skip
TOML_WORDS = (
    b"[" * 3000, b"[[", b"]]", b"= ", b'"""', b"a.b.c", b"a." * 2000, b"inf", b"nan", b"1e400",
    b"9" * 5000, b"0x" + b"f" * 3000, b"1979-05-27T07:32:00Z", b"{", b"}", b"\n", b"true",
)  # fmt: skip
SHELL_WORDS = (
    b"$(", b")", b"${", b"}", b"`", b'"', b"'", b"\\\n", b"<<EOF\n", b"for x in ", b"; do ",
    b"done\n", b"if [ ", b" ]; then\n", b"fi\n", b"while true; do\n", b"$((", b"))", b"1" * 400,
    b"(" * 500, b"$x", b"x=$x$x\n", b"case ", b"esac\n", b"f() {\n", b"2**99999999", b"<<99999",
    b"{1..999999999}", b"&& ", b"|| ", b"!", b"\r\n",
)  # fmt: skip
POWERSHELL_WORDS = (
    b"$(", b"@(", b"@{", b"}", b"[System.Collections.ArrayList]", b"-f ", b'@"\n', b'\n"@', b"`\n",
    b"if (", b") {", b"else", b"foreach ($a in ", b"-eq ", b"$x", b"$x = $x + $x\n", b"(" * 500,
    b"'a' * 999999999", b"1..999999999", b"while ($true) {", b"-replace ", b"-join ", b"[int]",
    b".Replace(", b"'(a+)+$'", b"-match ", b"switch (", b"$null", b"\r\n",
)  # fmt: skip
CMD_WORDS = (
    b"%", b"%%", b"!", b"^", b"^\n", b"set ", b"set /a ", b"set /p ", b"if ", b"else ", b"(", b")",
    b"for %%i in (", b") do ", b"call ", b":label\n", b"goto label\n", b"goto :eof\n", b"%~dp0",
    b"%x:~0,-1%", b"%x:a=b%", b"set x=%x%%x%\n", b"for /l %%i in (1,1,999999999) do ", b"&", b"|",
    b"1<<99999", b"setlocal enabledelayedexpansion\n", b"(" * 500, b"\r\n",
)  # fmt: skip
PROMPT_WORDS = (
    b"(", b")", b"[", b"]", b"(" * 2000, b"[" * 2000, b":1.2)", b":1e999)", b":nan)", b"|", b"::",
    b"AND", b"BREAK", b"<lora:a:1>", b"<lora:", b"[a:b:0.5]", b"[a|b]", b"\\(", b"\\", b"{", b"}",
    b"{2$$", b"{1-999999$$, $$", b"__name__", b"{" * 1000, b"lbw=", b":9" * 50, b"0.5]",
)  # fmt: skip
RUN = """{"status": "done", "steps": 9, "interventions": [{"step": 1}]}
---
{"event": "SampleSaved", "step": 3, "path": "/a/00000003-00-1.png"}
{"event": "TroubleFound", "found": "nan", "step": 4}
lr=0.5
---
{"step": 3, "epoch": 1, "loss": 0.5}
"""
SCRIPT = """#!/bin/bash
name="zorp"; lr=1e-4
if [ "$name" = "zorp" ]; then dim=16; else dim=8; fi
for n in 1 2; do x="$x $n"; done
accelerate launch --num_cpu_threads_per_process=1 "sd-scripts/train_network.py" \\
  --pretrained_model_name_or_path="./model.safetensors" --train_data_dir="./$name" \\
  --network_dim=$dim --network_alpha=$((dim / 2)) --learning_rate=$lr --network_args "a=1" "b=2"
"""
POWERSHELL = """$name = "zorp"
$dim = 16
$ext = [System.Collections.ArrayList]::new()
if ($name -eq "zorp") { [void]$ext.Add("--network_dim=$dim") } else { $dim = 8 }
accelerate launch "./sd-scripts/train_network.py" --train_data_dir=$name `
  --pretrained_model_name_or_path="./m.safetensors" --learning_rate="1e-4" $ext
"""
CMD = """@echo off
set name=zorp
set /a dim=8*2
if "%name%"=="zorp" (set alpha=8) else (set alpha=1)
accelerate launch train_network.py --train_data_dir="%~dp0%name%" --network_dim=%dim% ^
  --pretrained_model_name_or_path=m.safetensors --network_alpha=%alpha%
"""
GUI = {
    "pretrained_model_name_or_path": "m.safetensors", "train_data_dir": "img", "network_dim": 8,
    "max_resolution": "512,512", "LoRA_type": "Standard", "learning_rate": 1e-4, "epoch": 2,
    "optimizer": "AdamW8bit", "lr_scheduler": "cosine", "lr_warmup": 10, "noise_offset": 0,
    "caption_extension": ".txt", "sample_prompts": "a --w 512", "optimizer_args": "a=1",
}  # fmt: skip
INFO = """a (cat:1.2) <lora:x:1>
Negative prompt: bad, "quoted"
Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 4, Size: 512x768,
 Model hash: 0123456789, Clip skip: 2, Denoising strength: 0.5, Hires upscale: 2,
 Hires steps: 5, Lora hashes: "x: 0123456789ab", Version: v1.10.1"""

TARGETS: dict[str, Target] = {
    "safetensors_header": Target(safetensors_header, _headers, (*JSON_WORDS, b"__metadata__",
                                 b'"data_offsets"', b'"shape"', b'"F32"', b"ss_tag_frequency")),
    "lora_file": Target(lora_file, lambda: [_lora()], JSON_WORDS),
    "embedding": Target(embedding, _embeddings, (*JSON_WORDS, *PICKLE_WORDS, b'"emb_params"',
                        b'"clip_l"', b'"bundle_emb.a.clip_l"', b'"string_to_param"', b'"F16"')),
    "metadata_value": Target(metadata_value, lambda: [one.encode() for one in METADATA.values()],
                             JSON_WORDS),
    "torch_zip": Target(torch_zip, _torch_files, (b"PK\3\4", b"PK\5\6", b"PK\1\2",
                        b"\xff\xff\xff\xff", *PICKLE_WORDS)),
    "torch_program": Target(torch_program, _programs, PICKLE_WORDS),
    "torch_file": Target(torch_file, _torch_files, (b"ctorch._utils\n_rebuild_parameter\n", b"Q",
                         b"ctorch\nSize\n", b"ctorch\nfloat64\n", b"b", b"R", b"\x81")),
    "image": Target(image, _images, (b"IHDR", b"IDAT", b"zTXt", b"iTXt", b"tEXt", b"eXIf", b"acTL",
                    b"iCCP", b"II*\0", b"MM\0*", b"Exif\0\0", b"%!PS", b"8BPS", b"ALPH", b"ANMF")),
    "side_cars": Target(side_cars, _lines(
        "artist:x\nlong_hair\n^_^", "zorp, red hat, A girl is here.", 'name,tags\na.png,"x, y"\n',
        '{"file_name": "a.png", "text": "zorp, hat"}\n{"id": 1, "tags": "x y", "md5": "0123"}',
        '{"a.png": {"caption": "x", "tags": "a, b"}, "b": "c"}', "a.png | zorp",
        '{"tag_string_artist": "x", "tags": {"general": ["a"], "2": ["b"]}, "rating": "s"}',
        '{"3": {"class_type": "KSampler", "inputs": {"positive": ["6", 0]}}, "6": {"inputs": '
        '{"text": "a (cat:1.2)"}}}', "%artist%/%character% %md5%.%ext%"),
        (*JSON_WORDS, *PROMPT_WORDS, b"\n", b",", b"%", b"_ " * 2000, b"a:b", b" " * 3000)),
    "image_archive": Target(image_archive, _image_archives, (b"PK\3\4", b"PK\5\6", b"PK\1\2",
                            b"\xff\xff\xff\xff", b"../", b"/", b"\0", b"C:\\")),
    "recorded_crop": Target(recorded_crop, _lines('{"box": [1, 2, 30, 40], "size": [64, 48]}'),
                            JSON_WORDS),
    "image_again": Target(image_again, _images, (b"IHDR", b"iCCP", b"eXIf", b"iTXt", b"tRNS")),
    "box_beside": Target(box_beside, _lines('{"bbox": [1, 2, 30, 40]}', '{"box": [0.1, 0, 1, 0.5]}',
                         '{"shapes": [{"points": [[1, 2], [30, 40]]}]}'), JSON_WORDS),
    "caption": Target(caption, _lines("zorp, hat, red {a|b} |||x;;;y", "a\nb", "\u732b, 1girl"),
                      (b"{", b"}", b"|", b",", b"\\", b"\n", b"|||", b";;;", b"{a|" * 500,
                       b"\xff\xfe", b"\xfe\xff", b"\x81\x40", b"__", b"$$")),
    "captioner_answer": Target(captioner_answer, _lines(
        '{"choices": [{"message": {"content": "a cat, black hair and"}, "finish_reason": "x"}]}',
        "<think>so</think>Sure! Here is a caption:\n**A cat** on a mat on a mat on a mat. A cat.",
        "1. hat\n- black hair, (hat)"), (*JSON_WORDS, b"<think>", b"</think>", b"on a mat ",
        b"black hair", b"a " * 3000, b"ab" * 4000, b" and ", b"with ", b"(", b")", b"\n- ", b"**",
        b'"', b", ", b". ", b"Here is ", b"\xe9\xbb\x91", b"__", b"<|x|>", b"*" * 4000)),
    "prompt": Target(prompt, _lines("a (cat:1.2), [dog|fox:0.5] AND b :2 BREAK <lora:x:0.5:0.6>",
                                    "[a:b:5] ((x)) [[y]] \\(z\\)"), PROMPT_WORDS),
    "wildcards": Target(wildcards, _lines("{a|b::c|2$$d|e} {2$$, $$x|y}", "a\n# b\n{c|d}"),
                        PROMPT_WORDS),
    "infotext": Target(infotext, _lines(INFO), (*PROMPT_WORDS, *JSON_WORDS, b"Steps: ", b"Seed: ",
                       b"Size: ", b"Hires ", b"Negative prompt: ", b", ", b"inf", b"-1")),
    "settings": Target(settings, _lines(
        'version = 1\n[model]\npath = "demo"\n[data]\npath = "a"\n[optimizer]\nlr = 1e-4\n'
        'args = {eps = 1e-6}\n[adapter]\nrank = 8\nblocks = "OUTALL"\n',
        '[model]\npath = "demo"\n[[data.folders]]\npath = "b"\nrepeats = 3\n'), TOML_WORDS),
    "overrides": Target(overrides, _lines("optimizer.lr=1e-4\nadapter.rank=8\ndata.path=a",
                        "optimizer.args.eps=2\nmodel=demo"), TOML_WORDS),
    "sd_scripts_toml": Target(_foreign(".toml"), _lines(
        'pretrained_model_name_or_path = "m"\ntrain_data_dir = "d"\nnetwork_dim = 8\n'
        'network_args = ["conv_dim=4"]\nlearning_rate = 1e-4\n',
        '[general]\nshuffle_caption = true\n[[datasets]]\nresolution = 512\n'
        '[[datasets.subsets]]\nimage_dir = "a"\nnum_repeats = 3\n'), TOML_WORDS),
    "kohya_json": Target(_foreign(".json"), lambda: [json.dumps(GUI).encode(),
                         b'{"nodes": [], "links": []}'], JSON_WORDS),
    "bash": Target(_foreign(".sh"), _lines(SCRIPT), SHELL_WORDS),
    "powershell": Target(_foreign(".ps1"), _lines(POWERSHELL), POWERSHELL_WORDS),
    "cmd": Target(_foreign(".bat"), _lines(CMD), CMD_WORDS),
    "arguments": Target(arguments, _lines("--train_data_dir=a\n--network_dim\n8\n--lowram",
                        "--learning_rate\n1e-4\n--network_args\na=1\nb=2\n--resolution\n512,512"),
                        (b"--", b"=", b"\n", b"nan", b"1e999", b"9" * 5000, b"[" * 500)),
    "sample_prompts": Target(sample_prompts, _lines("a cat --n dog --w 640 --h 512 --d 7 --s 20",
                             '[prompt]\nwidth = 512\n[[prompt.subset]]\nprompt = "a"\n',
                             '[{"prompt": "a", "seed": 3}]'), (*JSON_WORDS, *TOML_WORDS, b" --d ",
                             b" --w ", b" --l nan", b" --ss ", b" --s 1e9")),
    "run_logs": Target(run_logs, _lines(RUN), (*JSON_WORDS, b"\n---\n", b'"path":', b'"loss":')),
    "folder_names": Target(folder_names, _lines("10_zorp girl\nreg\n5_x", "img\n10_\n_10\n1_1_1"),
                           (b"\n", b"_", b"9" * 300, b"\xff", b".", b"..", b" ", b"\0")),
    "filter": Target(filter_text, _lines(
        'tag:hat -tag:"red hat" tokens:>75 folder:10_zorp size:<1mp untagged re:"^zorp" dup',
        "(a or b) not c aspect:16:9 size:512x768"),
        (*(f"{key}:".encode() for key in KEYS), *(flag.encode() for flag in FLAGS), b"(", b")",
         b'"', b"'", b"\\", b"-", b" or ", b"not ", b"*", b"?", b"re:(a{1000}){1000}", b"(" * 500,
         b"9" * 400, b"\xe2\x80\xae", b"[[", b"(?i)")),
    "caption_edit": Target(caption_edit, _lines(
        "add=hat|at=after=a|trigger=zorp|consolidate\nboots, red footwear, red boots, (hat:1.2)\n",
        "replace=re:(\\w+) hat=\\1 cap|dedupe|spaces|escape\na_hat,  red hat , ^_^\r\n",
        "remove=*a?|rename-tag=a=b|sort=alphabetic|swap=1 -1|underscores|format\n\ufeffa,,b,"),
        (*(f"{name}=".encode() for name in OPERATIONS), b"|", b"\n", b",", b"(", b")", b"\\", b"=",
         b"*", b"re:", b"(a|aa)+$", b" " * 3000, b"(" * 3000, b":1" * 2000, b"\xff\xfe", b"-1",
         b"\x81\x40", b"{9999}", b"\\g<1>", b"_")),
    "image_metadata": Target(image_metadata, _images, (b"Exif\0\0", b"II*\0", b"MM\0*", b"eXIf",
                             b"iTXt", b"zTXt", b"\xff\xe1", b"VP8X", b"EXIF", b"XMP ",
                             b"<dc:description>", b"</rdf:RDF>", b"\xff\xff\xff\xff", b"\0\0")),
    "tagger_labels": Target(tagger_labels, _lines(
        "tag_id,name,category,count\n9999999,general,9,1\n470575,1girl,0,2\n12,^_^,4,3",
        '{"0": {"tag": "1girl", "category": "General"}, "1": {"tag": "x", "category": "Model"}}',
        '{"idx_to_tag": {"0": "smile"}, "tag_to_category": {"smile": "Meta"}}',
        "1girl\nrating:safe"),
        (*JSON_WORDS, b",", b'"', b"\n", b"\r", b"9" * 400, b"tag_id,name,category",
         b'"idx_to_tag"', b"\xc2\xb2", b"\xd9\xa3")),
    "grid_axis": Target(grid_axis, _lines("seed=1-4", "cfg=1-7 (+0.5)", "steps=1-10 [5]",
                        'prompt=a,"b, c"', "sampler=euler,ddim", "strength@x=0-1 (+0.1)",
                        "lbw=OUTALL", "size=512x512", "sr=a,b"), (b"=", b"-", b"(+", b")", b"[",
                        b"]", b",", b'"', b"9" * 400, b"1e999", b"nan", b"inf", b"0.0000001")),
    "block_weights": Target(weights, _lines("1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1", "rest=0 OUT03=1",
                            "INX:x=0.3", "down=sine", "0.5:x=2", "BASE=1 IN=0.2 M00=[1]",
                            "up=linear+0.25"),
                            (b",", b"=", b"rest", b"IN", b"OUT", b"-", b"nan", b"1e999", b"X", b"R",
                             b"U", b"9" * 400, b"sine", b"+", b":")),
    "terminal": Target(terminal, _lines("a\x1b]0;x\x07", "s\u202e"), (b"\x1b", b"\xc2\x9b")),
}  # fmt: skip
