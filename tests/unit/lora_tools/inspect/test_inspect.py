"""``inspect``: facts against files made for it, and formulas of others."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file
from tests.tiny_models import tiny_checkpoint, tiny_model
from tests.unit.lora_tools.made_files import METADATA, kohya_file, kohya_tensors

from lorasmith.adapters.file import load_lora, save_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.cli.inspect_view import lora_lines
from lorasmith.cli.main import cli
from lorasmith.config.adapter_types import ADAPTERS
from lorasmith.core.errors import UserError
from lorasmith.formats.hashes import hash_file
from lorasmith.jobs.file_tools.details import details
from lorasmith.lora_tools.convert.convert import convert
from lorasmith.lora_tools.inspect.inspect import inspect, inspect_lora
from lorasmith.lora_tools.inspect.report import CheckpointReport, LoraReport, as_json


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    ("family", "to"),
    [("sd1", "kohya"), ("sd2", "kohya"), ("sdxl", "kohya"), ("sd1", "diffusers"), ("sd2", "comfy")],
)
def test_family_ranks_and_layers_whatever_the_names(tmp_path, family, to) -> None:
    path = kohya_file(tmp_path / "lora.safetensors", family)
    if to != "kohya":
        path = convert(path, tmp_path / "other.safetensors", to=to).out
    report = inspect_lora(path)
    assert (report.family.name, report.style) == (family, to)
    layers = {"sd1": 192 + 72, "sd2": 192 + 138, "sdxl": 722 + 72 + 192}[family]
    assert report.types == {"lora": layers}
    assert report.sizes == ((2, 1.0, layers),)
    covered = {(c.part, c.group): (c.adapted, c.layers) for c in report.coverage}
    for (_, group), (adapted, wanted) in covered.items():
        whole = group in ("attention", "feed-forward", "projections")
        assert adapted == (wanted if whole else 0)
    blocks = {"IN04", "M00", "OUT03", "BASE"} | ({"IN01", "OUT11"} if family != "sdxl" else set())
    assert blocks <= report.blocks.keys()
    assert "IN00" not in report.blocks


@pytest.mark.slow_but_first
@torch.no_grad()
@pytest.mark.parametrize("algorithm", list(ADAPTERS))
def test_norms_of_every_type_are_those_of_the_whole_changes(tmp_path, algorithm) -> None:
    model = tiny_model()
    network = AdapterNetwork.create(
        model.adapter_roots(), algorithm=algorithm, rank=2, alpha=3.0, conv_rank=2
    )
    generator = torch.Generator().manual_seed(1)
    for adapter in network.adapters.values():
        for name, p in adapter.named_parameters():
            if name != "dora_scale":
                p.copy_(torch.randn(p.shape, generator=generator) * 0.1)
    path = tmp_path / "lora.safetensors"
    save_lora(path, network.state_dict(), {})
    report = inspect_lora(path)
    assert len(report.modules) == len(network.adapters)
    assert not report.dead + report.not_finite + report.problems + report.unmatched
    depends = algorithm in ("dora", "ia3", "oft", "boft")
    for module in report.modules[::7]:
        if depends:
            assert module.norm is None
            continue
        layer = network.targets[module.key].layer
        whole = network.adapters[module.key].delta_weight(layer).double().norm()
        assert module.norm == pytest.approx(float(whole), rel=1e-5)
    if not depends:
        in_m00 = [m.norm for m in report.modules if m.block == "M00" and m.norm is not None]
        assert report.blocks["M00"] == pytest.approx(sum(n**2 for n in in_m00) ** 0.5)
        total = sum(norm**2 for norm in report.blocks.values()) ** 0.5
        assert report.norm == pytest.approx(total)


@pytest.mark.slow
# The file of a new T-LoRA is the difference of equal factors, none of which is zero.
@pytest.mark.parametrize("algorithm", [name for name in ADAPTERS if name != "tlora"])
def test_a_lora_that_learned_nothing_is_dead(tmp_path, algorithm) -> None:
    network = AdapterNetwork.create(tiny_model().adapter_roots(), algorithm=algorithm, rank=2)
    save_lora(tmp_path / "new.safetensors", network.state_dict(), {})
    report = inspect_lora(tmp_path / "new.safetensors")
    assert len(report.dead) == len(network.adapters)


def test_nan_is_named_and_the_rest_is_measured(tmp_path) -> None:
    tensors = kohya_tensors(blocks="mid_block", dtype=torch.float32)
    name = next(name for name in tensors if "lora_up" in name)
    tensors[name][0, 0] = torch.nan
    save_file(tensors, tmp_path / "nan.safetensors")
    report = inspect_lora(tmp_path / "nan.safetensors")
    assert report.not_finite == (name.partition(".")[0],)
    assert report.blocks["M00"] > 0
    json.dumps(as_json(report), allow_nan=False)


def test_hashes_are_those_that_kohya_and_the_web_uis_publish(tmp_path) -> None:
    """Kohya's: SHA-256 of what follows the header, of a file with the ``ss_`` metadata alone."""
    tensors = kohya_tensors("sdxl", dtype=torch.float32)
    plain = save(tensors, {k: v for k, v in METADATA.items() if k.startswith("ss_")})
    assert len(plain) > 0x110000
    content = hashlib.sha256(plain[int.from_bytes(plain[:8], "little") + 8 :]).hexdigest()
    path = tmp_path / "lora.safetensors"
    save_file(tensors, path, METADATA)
    found, whole = hash_file(path), path.read_bytes()
    assert found.autov3 == content[:12]
    assert found.autov1 == hashlib.sha256(whole[0x100000:0x110000]).hexdigest()[:8]
    assert found.autov2 == hashlib.sha256(whole).hexdigest()[:10]
    save_lora(tmp_path / "ours.safetensors", tensors, METADATA)
    kept = load_lora(tmp_path / "ours.safetensors").metadata["sshs_model_hash"]
    assert hash_file(tmp_path / "ours.safetensors").autov3 == kept[:12]


def test_the_tensor_hash_knows_content_alone(tmp_path) -> None:
    tensors = kohya_tensors(blocks="mid_block")
    save_file(tensors, tmp_path / "a.safetensors")
    save_file(tensors, tmp_path / "b.safetensors", METADATA)
    torch.save(dict(reversed(tensors.items())), tmp_path / "c.pt")
    hashes = {inspect_lora(path).tensor_hash for path in tmp_path.iterdir()}
    assert len(hashes) == 1
    next(iter(tensors.values()))[0] += 1
    save_file(tensors, tmp_path / "d.safetensors")
    assert inspect_lora(tmp_path / "d.safetensors").tensor_hash not in hashes


def test_a_family_without_a_telling_width(tmp_path) -> None:
    tensors = kohya_tensors(blocks="attn1_to_q")
    save_file(tensors, tmp_path / "a.safetensors")
    assert inspect_lora(tmp_path / "a.safetensors").family.name is None
    save_file(tensors, tmp_path / "b.safetensors", {"ss_base_model_version": "sd_v2_v"})
    assert inspect_lora(tmp_path / "b.safetensors").family.name == "sd2"
    flux = {"lora_unet_double_blocks_0_img_mlp_0.lora_down.weight": torch.ones(2, 9)}
    flux |= {"lora_unet_double_blocks_0_img_mlp_0.lora_up.weight": torch.ones(9, 2)}
    save_file(flux, tmp_path / "c.safetensors")
    assert inspect_lora(tmp_path / "c.safetensors").family.title == "Flux"
    other = {"diffusion_model.layers.0.attention.to_q.lora_A.weight": torch.ones(2, 9)}
    other |= {"diffusion_model.layers.0.attention.to_q.lora_B.weight": torch.ones(9, 2)}
    save_file(other, tmp_path / "d.safetensors")
    assert "not known here" in inspect_lora(tmp_path / "d.safetensors").family.title


def test_a_checkpoint_says_what_it_is(tmp_path) -> None:
    path = tiny_checkpoint(tmp_path / "model.safetensors", family="sd2")
    tensors = load_file(path) | {"model_ema.decay": torch.tensor(0.5)}
    recipe = {"type": "lorasmith bake", "loras": [
        {"name": "zorp.safetensors", "unet": 0.8, "text_encoder": 0.5},
    ]}  # fmt: skip
    metadata = {**load_metadata(path), "sd_merge_recipe": json.dumps(recipe)}
    save_file(tensors, path, metadata)
    report = inspect(path)
    assert isinstance(report, CheckpointReport)
    assert (report.family, report.prediction, report.ema) == ("sd2", "v", 1)
    assert report.precision["F16"] > report.precision["F32"]
    assert report.baked == ("zorp.safetensors (unet 0.8, text encoder 0.5)",)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UserError, match="is the folder of a training run"):
        inspect(tmp_path)


def load_metadata(path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


def test_a_training_state_is_called_one(tmp_path) -> None:
    content = {"format": 2, "step": 9, "parameters": {"unet": torch.ones(3)}, "optimizer": {}}
    torch.save(content, tmp_path / "step-00000009.pt")
    with pytest.raises(UserError, match="is the training state of a run"):
        inspect(tmp_path / "step-00000009.pt")


@pytest.mark.parametrize("to", ["kohya", "diffusers"])
def test_the_words_that_a_lora_carries_are_named(tmp_path, to) -> None:
    tensors = kohya_tensors(blocks="mid_block")
    for name in ("zorp", "murk"):
        tensors[f"bundle_emb.{name}.string_to_param.*"] = torch.ones(4, 768)
    path = tmp_path / "pair.safetensors"
    save_file(tensors, path)
    if to != "kohya":
        path = convert(path, tmp_path / "other.safetensors", to=to).out
    report = inspect_lora(path)
    assert report.embeddings == {"zorp": 4, "murk": 4}
    text = "\n".join(lora_lines(report))
    assert "  embeddings murk (4 vectors), zorp (4 vectors)\n" in text
    assert "unknown" not in text
    if to == "kohya":
        read_by = {each.program: (each.reads, each.why) for each in report.read_by}
        assert read_by["AUTOMATIC1111"] == read_by["Forge"] == ("yes", "")
        assert read_by["ComfyUI"] == ("partly", "it leaves out the words (embeddings)")
        assert read_by["diffusers"][0] == "no"


@pytest.mark.parametrize(
    ("tensors", "words", "family"),
    [
        ({"emb_params": (4, 768)}, "zorp (4 vectors)", "an embedding for Stable Diffusion 1"),
        ({"clip_l": (1, 768), "clip_g": (1, 1280)}, "zorp (1 vector)", "Stable Diffusion XL"),
        (
            {f"bundle_emb.{word}.string_to_param.*": (2, 1024) for word in ("a", "b")},
            "a (2 vectors), b (2 vectors)",
            "embeddings for Stable Diffusion 2",
        ),
    ],
)
def test_an_embedding_is_called_what_it_is(tmp_path, tensors, words, family) -> None:
    path = tmp_path / "zorp.safetensors"
    save_file({name: torch.ones(shape) for name, shape in tensors.items()}, path)
    done = CliRunner().invoke(cli, ["inspect", str(path)])
    assert done.exit_code == 0, done.output
    assert family in done.stdout.splitlines()[0]
    assert words in done.stdout
    found = json.loads(CliRunner().invoke(cli, ["inspect", str(path), "--json"]).stdout)
    assert found["kind"] == "embedding"
    assert details(path).kind == "embedding"


class Evil:
    def __reduce__(self):
        return print, ("this must not run",)


def test_an_embedding_in_a_pickle_is_read_and_nothing_is_run(tmp_path) -> None:
    vectors = torch.ones(3, 768)
    held = torch.nn.ParameterDict({"*": torch.nn.Parameter(vectors)})
    contents = {
        "plain.pt": {"string_to_param": {"*": vectors}, "string_to_token": {"*": 265}},
        "object.pt": {"string_to_param": held, "name": "x", "sd_checkpoint": None},
        "diffusers.bin": {"<zorp>": vectors[0]},
    }
    for name, content in contents.items():
        torch.save(content, tmp_path / name)
        done = CliRunner().invoke(cli, ["inspect", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
        assert "an embedding for Stable Diffusion 1" in done.stdout
        count = "1 vector" if name == "diffusers.bin" else "3 vectors"
        assert f"{name.partition('.')[0]} ({count})" in done.stdout
    torch.save({"string_to_param": {"*": vectors}, "more": Evil()}, tmp_path / "evil.pt")
    done = CliRunner().invoke(cli, ["inspect", str(tmp_path / "evil.pt")])
    assert done.exit_code == 2
    assert "holds more than tensors, so it is not opened" in done.output
    assert "must not run" not in done.output


def test_the_json_has_the_names_that_the_page_promises(tmp_path) -> None:
    """Programs read these: a name that goes is a new format."""
    report = inspect(kohya_file(tmp_path / "lora.safetensors", blocks="mid_block"))
    assert isinstance(report, LoraReport)
    values = json.loads(json.dumps(as_json(report), allow_nan=False))
    assert list(values) == [
        "format", "kind", "path", "size", "container", "style", "family", "types", "sizes",
        "coverage", "blocks", "norm", "precision", "dead", "not_finite", "unmatched", "problems",
        "unread", "words", "training", "read_by", "hashes", "tensor_hash", "preview", "modules",
        "metadata", "embeddings",
    ]  # fmt: skip
    assert (values["format"], values["kind"]) == (1, "lora")
    assert list(values["modules"][0]) == [
        "key", "part", "block", "group", "algorithm", "rank", "alpha", "norm", "precision",
        "numbers", "dead", "finite",
    ]  # fmt: skip
    assert values["metadata"] == METADATA
