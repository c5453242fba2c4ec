"""``lorasmith generate`` from the outside: files, messages, exit statuses."""

from __future__ import annotations

import errno
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import save_file

from lorasmith.adapters.file import save_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.cli.main import cli
from lorasmith.formats.embedding_keys import WORD
from lorasmith.formats.hashes import autov3
from lorasmith.models.load import load_model
from lorasmith.models.open import read_architecture
from lorasmith.models.reference import ModelReference
from lorasmith.prompts.infotext import Infotext, format_infotext
from lorasmith.sampling import generate, images
from lorasmith.sampling.infotext import read_infotext, save_image
from lorasmith.tensors import transfer as tensor_transfer

FAST = ("--steps", "2", "--cfg", "1")


@pytest.fixture(autouse=True)
def _inside(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*args: str) -> Result:
    result = CliRunner().invoke(cli, ["generate", *args])
    assert "Traceback" not in result.output, result.output
    return result


def test_images_have_their_seeds_and_carry_what_made_them(tmp_path) -> None:
    result = run("red body, star", "--seed", "7", "--count", "3", *FAST, "--negative", "hat")
    assert result.exit_code == 0, result.output
    paths = sorted((tmp_path / "outputs").iterdir())
    assert [path.name for path in paths] == ["00001-7.png", "00002-8.png", "00003-9.png"]
    assert "3 pictures: outputs/00001-7.png to 00003-9.png" in result.output
    info = read_infotext(paths[1])
    assert info is not None
    assert (info.prompt, info.negative) == ("red body, star", "hat")
    assert {"Steps": "2", "Sampler": "DDIM", "CFG scale": "1", "Seed": "8"}.items() <= (
        info.settings.items()
    )
    assert (info.settings["Size"], info.settings["Model"]) == ("64x64", "demo")


@pytest.mark.slow
@pytest.mark.parametrize("options", [("--count", "5", "--batch", "2"), ("--prompts", "p.txt")])
def test_written_in_threads_as_for_a_gpu_they_are_the_same(tmp_path, monkeypatch, options) -> None:
    (tmp_path / "p.txt").write_text("a star\na hat --s 2\nred body\n")
    prompt = [] if "--prompts" in options else ["star"]
    said = []
    for folder, apart in (("one", False), ("many", True)):
        monkeypatch.setattr(tensor_transfer, "frees_cpu", lambda device, apart=apart: apart)
        result = run(*prompt, "--seed", "7", *options, *FAST, "--out", folder)
        assert result.exit_code == 0, result.output
        said.append(result.output.replace(folder, ""))
    assert said[0] == said[1]
    one, many = (tmp_path / folder for folder in ("one", "many"))
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(many) for path in many.rglob("*") if path.is_file())
    assert len(files) in (5, 6)
    for file in files:
        assert (one / file).read_bytes() == (many / file).read_bytes()


@pytest.mark.slow_but_first
@pytest.mark.parametrize("apart", [False, True])
def test_a_full_disk_is_said_and_no_place_stays_taken(tmp_path, monkeypatch, apart) -> None:
    write, saved = Path.write_bytes, []

    def full(self: Path, data: bytes) -> int:
        if len(saved) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        saved.append(self)
        return write(self, data)

    monkeypatch.setattr(tensor_transfer, "frees_cpu", lambda device: apart)
    monkeypatch.setattr(images, "THREADS", 1)
    monkeypatch.setattr(Path, "write_bytes", full)
    result = run("star", "--seed", "7", "--count", "6", "--batch", "1", *FAST)
    assert result.exit_code == 2
    assert "00003-9.png: the disk is full" in " ".join(result.output.split())
    names = sorted(path.name for path in (tmp_path / "outputs").iterdir())
    assert names == ["00001-7.png", "00002-8.png"]


@pytest.mark.slow_but_first
@pytest.mark.parametrize("apart", [False, True])
def test_a_stop_says_what_is_written_and_all_of_it_is(tmp_path, monkeypatch, apart) -> None:
    progress = generate._Counter.add

    def stop_in_the_third(self: generate._Counter, steps: int) -> None:
        progress(self, steps)
        if self.done == 5:
            self._controls.stop()

    monkeypatch.setattr(tensor_transfer, "frees_cpu", lambda device: apart)
    monkeypatch.setattr(generate._Counter, "add", stop_in_the_third)
    result = run("star", "--seed", "7", "--count", "4", "--batch", "1", *FAST)
    assert result.exit_code == 130
    assert "stopped; 2 pictures: outputs/00001-7.png to 00002-8.png" in result.output
    paths = sorted((tmp_path / "outputs").iterdir())
    assert [path.name for path in paths] == ["00001-7.png", "00002-8.png"]
    assert all(read_infotext(path) is not None for path in paths)


@pytest.mark.slow
def test_nothing_is_overwritten(tmp_path) -> None:
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "00041-5.png").write_bytes(b"mine")
    (tmp_path / "outputs" / "holiday.png").write_bytes(b"mine too")
    for number in (42, 43):
        assert run("star", "--seed", "5", *FAST).exit_code == 0
        assert (tmp_path / "outputs" / f"{number:05d}-5.png").stat().st_size > 100
    assert (tmp_path / "outputs" / "00041-5.png").read_bytes() == b"mine"


def test_a_random_seed_is_told(tmp_path) -> None:
    result = run("star", *FAST)
    (path,) = (tmp_path / "outputs").iterdir()
    assert f"seed {path.stem.split('-')[1]}" in result.output


@pytest.mark.slow
def test_a_lora_is_found_where_training_puts_it(tmp_path) -> None:
    network = AdapterNetwork.create(load_model("demo").adapter_roots(), rank=1)
    path = tmp_path / "runs" / "zorp" / "zorp.safetensors"
    save_lora(path, network.state_dict(), {})
    result = run("star <lora:zorp:0.8>", "--size", "32x48", *FAST)
    assert result.exit_code == 0, result.output
    (path_out,) = (tmp_path / "outputs").iterdir()
    info = read_infotext(path_out)
    assert info is not None
    assert info.settings["Lora hashes"] == f"zorp: {autov3(path)}"
    with Image.open(path_out) as image:
        assert image.size == (32, 48)


def test_an_odd_size_is_rounded_and_said() -> None:
    result = run("star", "--size", "50x70", *FAST)
    assert result.exit_code == 0
    assert "50x70 became 48x64" in result.output


def test_all_mistakes_are_told_at_once(tmp_path) -> None:
    (tmp_path / "runs").mkdir()
    result = run(
        "star <lora:zorp:1>",
        "--steps=0",
        "--cfg=-1",
        "--sampler=eulr",
        "--size=big",
        "--count=0",
        "--seed=-5",
        "--clip-skip=99",
        "--device=toaster",
        "--out=/proc/nowhere",
    )
    assert result.exit_code == 2
    for part in (
        "10 errors",
        "--steps: 0",
        "--cfg: -1",
        "did you mean euler?",
        '--size: "big"',
        "--count: 0",
        "--seed: -5",
        "--clip-skip: 99",
        "--device",
        "/proc/nowhere",
        "<lora:zorp>",
    ):
        assert part in result.output, (part, result.output)


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (("--model", "nowhere.safetensors"), "nowhere.safetensors"),
        (("--vae", "nowhere.safetensors"), "nowhere.safetensors"),
        (("--lora-dir", "nowhere"), "--lora-dir: nowhere does not exist"),
        (("--size", "99999x64"), "--size: 99999 is out of range"),
        (("--negative", "caf\udce9"), "--negative: is not text in UTF-8"),
        (("--precision", "fp16"), "--precision"),
        (("--precision", "int3"), "int3"),
        (("--steps", "many"), "many"),
        (("--nagative", "x"), "--nagative"),
        (("<lora:zorp:1>",), "unexpected extra argument"),
    ],
)
def test_a_mistake_is_named_with_status_2(tmp_path, args, part) -> None:
    result = run("star", *args)
    assert result.exit_code == 2
    assert part in result.output
    assert not (tmp_path / "outputs").exists() or not list((tmp_path / "outputs").iterdir())


def test_what_a_wildcard_draws_is_checked_before_the_model_is_loaded(tmp_path, monkeypatch) -> None:
    def not_yet(*args: object, **values: object) -> None:
        raise AssertionError("the model is loaded")

    monkeypatch.setattr("lorasmith.models.load.load_model", not_yet)
    (tmp_path / "runs").mkdir()
    (tmp_path / "wild").mkdir()
    (tmp_path / "wild" / "round.txt").write_text("a __round__\n")
    (tmp_path / "wild" / "style.txt").write_text("<lora:nobody:1>\n")
    result = run("__round__ star", "--wildcard-dir=wild", "--lora-dir=runs")
    assert result.exit_code == 2
    assert "wildcards within wildcards without an end" in result.output
    result = run("__style__ star", "--wildcard-dir=wild", "--lora-dir=runs")
    assert result.exit_code == 2
    assert "<lora:nobody>" in result.output


def test_a_lora_without_a_folder() -> None:
    result = run("star <lora:zorp:1>")
    assert result.exit_code == 2
    assert "--lora-dir" in result.output


@pytest.mark.slow
def test_a_image_makes_itself_again_and_options_win(tmp_path) -> None:
    args = (
        "red body (star:1.2)",
        "--seed",
        "7",
        "--steps",
        "3",
        "--sampler",
        "DPM++ 2M SDE Karras",
    )
    assert run(*args, "--negative", "hat", "--hires", "1.5", "--clip-skip", "2").exit_code == 0
    first = tmp_path / "outputs" / "00001-7.png"
    result = run("--from-png", str(first), "--out", "again")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "again" / "00001-7.png").read_bytes() == first.read_bytes()
    result = run("blue body", "--from-png", str(first), "--hires", "1", "--seed", "8", "--out", "b")
    assert result.exit_code == 0, result.output
    info = read_infotext(tmp_path / "b" / "00001-8.png")
    assert info is not None
    assert (info.prompt, info.negative) == ("blue body", "hat")
    assert info.settings["Sampler"] == "DPM++ 2M SDE"
    assert info.settings["Clip skip"] == "2"
    assert "Hires upscale" not in info.settings


def test_an_embedding_stands_in_the_picture_and_is_found_again(tmp_path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    (width,) = (
        int(text["hidden_size"]) for text in read_architecture(ModelReference("demo")).texts
    )
    file = runs / "zorp-2.safetensors"
    save_file({"emb_params": torch.full((2, width), 0.1)}, file, {WORD: "zorp"})
    result = run("a zorp", "--negative", "no zorp-2", "--seed", "7", "--steps", "1")
    assert "zorp is the embedding in runs/zorp-2.safetensors" in result.output.replace("\n", " ")
    first = tmp_path / "outputs" / "00001-7.png"
    info = read_infotext(first)
    digest = sha256(file.read_bytes()).hexdigest()[:12]
    # As the web UI writes it, its modules/sd_hijack_clip.py and textual_inversion.py.
    assert info is not None
    assert info.settings["TI hashes"] == f"zorp-2: {digest}, zorp: {digest}"
    assert f'TI hashes: "zorp-2: {digest}, zorp: {digest}", Version:' in format_infotext(info)
    # Without guidance there is no negative prompt.
    run("a zorp", "--negative", "no zorp-2", "--seed", "8", *FAST)
    info = read_infotext(tmp_path / "outputs" / "00002-8.png")
    assert info is not None
    assert info.settings["TI hashes"] == f"zorp: {digest}"
    result = run("--from-png", str(first), "--out", "again")
    assert "warning" not in result.output.lower()
    assert (tmp_path / "again" / "00001-7.png").read_bytes() == first.read_bytes()
    file.rename(tmp_path / "zorp.safetensors")
    result = run("--from-png", str(first), "--out", "without")
    assert "its embedding zorp is missing" in result.output.replace("\n", " ")
    assert (tmp_path / "without" / "00001-7.png").read_bytes() != first.read_bytes()


@pytest.mark.slow
def test_what_a_image_says_of_mask_and_model_is_followed(tmp_path) -> None:
    Image.new("RGB", (64, 64), "red").save("init.png")
    Image.new("RGB", (64, 64), "white").save("mask.png")
    from_image = ("--init", "init.png", "--mask", "mask.png")
    masked = ("--mask-blur", "9", "--masked-content", "noise", "--mask-padding", "16")
    model = ("--prediction", "v", "--zero-terminal-snr")
    result = run("star", "--seed", "7", *FAST, *from_image, *masked, *model)
    assert result.exit_code == 0, result.output
    first = tmp_path / "outputs" / "00001-7.png"
    result = run("--from-png", str(first), *from_image, "--out", "again")
    assert "warning" not in result.output.lower()
    assert (tmp_path / "again" / "00001-7.png").read_bytes() == first.read_bytes()
    run("--from-png", str(first), *from_image, "--mask-blur", "3", "--out", "other")
    info = read_infotext(tmp_path / "other" / "00001-7.png")
    assert info is not None
    assert (info.settings["Mask blur"], info.settings["Masked area padding"]) == ("3", "16")
    result = run("--from-png", str(first), "--hires-steps", "5")
    assert "--hires-steps: does nothing without --hires" in result.output


def test_one_cause_is_one_error() -> None:
    Image.new("RGB", (8, 8)).save("mask.png")
    assert len(run("star", "--mask", "mask.png").output.strip().splitlines()) == 2


def test_the_model_of_a_foreign_image_is_asked_for(tmp_path) -> None:
    info = Infotext("a", "", {"Steps": "2", "Sampler": "Euler", "Seed": "3", "Model": "anime"})
    save_image(tmp_path / "a.png", Image.new("RGB", (8, 8)), info)
    result = run("--from-png", "a.png")
    assert result.exit_code == 2
    assert 'was made with "anime"' in result.output
    result = run("--from-png", "a.png", "--model-dir", ".")
    assert result.exit_code == 2
    assert 'has no model "anime"' in result.output
    result = run("--from-png", "a.png", "--model", "demo")
    assert result.exit_code == 0, result.output
    assert "GPU" in result.output
    assert (tmp_path / "outputs" / "00001-3.png").exists()


@pytest.mark.slow
def test_captions_become_a_folder_to_train_with_and_nothing_is_drawn_twice(tmp_path) -> None:
    folder = tmp_path / "data" / "3_zorp"
    folder.mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (32, 32)).save(folder / f"p{number}.png")
        (folder / f"p{number}.txt").write_text(f"zorp, star {number}")
    args = ("--captions", "data", "--out", "reg", "--size", "32x32", *FAST)
    assert 'every caption has "zorp"' in run(*args, "--out", "other").output
    result = run(*args, "--without", "zorp")
    assert result.exit_code == 0, result.output
    made = sorted((tmp_path / "reg" / "3_reg").iterdir())
    assert [path.name for path in made] == [f"p{n}.{s}" for n in range(3) for s in ("png", "txt")]
    assert made[1].read_text() == "star 0\n"
    before = made[0].stat().st_mtime_ns
    made[2].unlink()
    result = run(*args, "--without", "zorp")
    assert "2 of 3 pictures are there already" in result.output
    assert made[0].stat().st_mtime_ns == before
    assert made[2].exists()
    assert "nothing left to draw" in run(*args, "--without", "zorp").output


def test_a_line_of_prompts_is_saved_as_it_was_drawn(tmp_path) -> None:
    (tmp_path / "wild").mkdir()
    (tmp_path / "wild" / "col.txt").write_text("red\n")
    (tmp_path / "p.txt").write_text("{blue|blue} (star:1.2) __col__\n")
    result = run("--prompts", "p.txt", "--wildcard-dir", "wild", "--size", "32x32", *FAST)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "outputs" / "0001.txt").read_text() == "blue (star:1.2) red\n"


@pytest.mark.parametrize(
    ("args", "part"),
    [
        ((), "PROMPT: is missing"),
        (("star", "--mask", "a.png"), "--mask: does nothing without --init"),
        (("star", "--denoise", "0.5"), "--denoise: does nothing without --init"),
        (("star", "--hires-steps", "5"), "--hires-steps: does nothing without --hires"),
        (("star", "--model-dir", "."), "--model-dir: does nothing without --from-png"),
        (("star", "--prompts", "p.txt"), "PROMPT: does nothing with --prompts"),
        (("star", "--without", "x"), "--without: there are no captions"),
        (("star", "--init", "none.png"), "--init: none.png is not a file"),
        (("star", "--from-png", "none.png"), "none.png: is not a file"),
        (("{caption}", "--captions", "none"), "none: does not exist"),
        (("star", "--hires", "20"), "--hires: 20.0 is out of range"),
        (("star", "--schedule", "karas"), "did you mean karras?"),
        (("star", "--sampler", "DPM adaptive"), "the nearest is DPM++ 2M"),
        (("star", "--batch", "0"), "--batch: 0 is out of range"),
        (("star", "--preview-of", "none.safetensors"), "none.safetensors: is no LoRA file"),
    ],
)
def test_mistakes_with_the_newer_options(args, part) -> None:
    result = CliRunner().invoke(cli, ["generate", *args])
    assert result.exit_code == 2
    assert part in result.output, result.output


def test_the_first_picture_becomes_a_loras_preview(tmp_path) -> None:
    lora = tmp_path / "loras" / "a.b.safetensors"
    lora.parent.mkdir()
    lora.touch()
    result = run("star", "--seed", "7", "--count", "2", *FAST, "--preview-of", str(lora))
    assert "is the preview of" in " ".join(result.output.split())
    first = tmp_path / "outputs" / "00001-7.png"
    assert (lora.parent / "a.b.png").read_bytes() == first.read_bytes()


def test_a_model_says_how_it_is_drawn_with_best_and_options_win(tmp_path) -> None:
    few = ("--steps", "1", "--seed", "1")
    for number, (options, cfg) in enumerate([((), "3"), (("--cfg", "5"), "5")]):
        out = tmp_path / str(number)
        assert run("star", *few, *options, "--out", str(out)).exit_code == 0
        info = read_infotext(out / "00001-1.png")
        assert info is not None
        assert info.settings["CFG scale"] == cfg
