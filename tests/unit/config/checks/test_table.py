"""Settings that contradict each other, and settings that are odd."""

from __future__ import annotations

import pytest

from lorasmith.config.checks import table as checks
from lorasmith.config.load import load_settings
from lorasmith.core.errors import SettingsError

CONTRADICTIONS = [
    (["adapter.unet=false", "adapter.text_encoder=false"], "adapter", "nothing to train"),
    (["optimizer.lr=0"], "optimizer.lr", "nothing would change"),
    (["optimizer.unet_lr=0", "adapter.text_encoder=false"], "optimizer.lr", "would change"),
    (["buckets.min=512", "buckets.max=256"], "buckets", "larger than max"),
    (["data.resolution=512", "buckets.max=256"], "buckets.max", "smaller than the resolution"),
    (["data.resolution=512x768", "buckets.min=640"], "buckets.min", "larger than the resolution"),
    (["optimizer.args.d_coef=2"], "optimizer.args", "no argument d_coef"),
    (["optimizer.args.lr=2"], "optimizer.args", "set optimizer.lr"),
    (["optimizer.args.weight_decy=2"], "optimizer.args", "did you mean weight_decay"),
    (["schedule.warmup=100", "train.steps=50"], "schedule.warmup", "do not end"),
    (["performance.cache_text=true"], "performance.cache_text", "text encoder is trained"),
    (
        ["performance.cache_text=true", "adapter.text_encoder=false", "captions.shuffle=true"],
        "performance.cache_text",
        "captions.shuffle",
    ),
    (["validation.split=10%", "validation.folder=other"], "validation", "both given"),
    (["train.stop=best", "save.every_epochs=0"], "train.stop", "none are saved on the way"),
    (["augment.variants=fresh", "augment.colour=0.2"], "augment.variants", "cannot be cached"),
]


@pytest.mark.parametrize(("assignments", "where", "what"), CONTRADICTIONS)
def test_contradictions(assignments: list[str], where: str, what: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, assignments)
    (problem,) = caught.value.problems
    assert problem.where.endswith(where)
    assert what in str(problem)
    assert problem.hint


ODDITIES = [
    (["adapter.rank=8", "adapter.alpha=16"], "adapter.alpha", "2 times"),
    (
        ["adapter.conv_rank=4", "adapter.conv_alpha=8"],
        "adapter.conv_alpha",
        "larger than conv_rank",
    ),
    (["adapter.conv_alpha=1"], "adapter.conv_alpha", "no effect"),
    (
        ["train.kind=embedding", "optimizer.lr=5e-3", "optimizer.loraplus_ratio=4"],
        "optimizer.loraplus_ratio",
        "no up matrix",
    ),
    (["optimizer.name=Prodigy", "schedule.name=constant"], "optimizer.lr", "set lr to 1"),
    (["optimizer.name=Prodigy", "optimizer.lr=1"], "schedule.name", "use constant"),
    (["optimizer.text_encoder_lr=0"], "optimizer.text_encoder_lr", "not trained"),
    (["adapter.unet=false", "optimizer.unet_lr=1e-4"], "optimizer.unet_lr", "no effect"),
    (["optimizer.lr=1"], "optimizer.lr", "noise"),
    (["optimizer.text_encoder_lr=1e-3"], "optimizer.text_encoder_lr", "much higher"),
    (["train.steps=100", "train.epochs=3"], "train", "steps decide"),
    (["schedule.name=constant", "schedule.warmup=5%"], "schedule.name", "constant_with_warmup"),
    (["schedule.name=constant_with_warmup"], "schedule.warmup", "is 0"),
    (["schedule.cycles=2"], "schedule.cycles", "no effect"),
    (["schedule.name=constant", "schedule.min_ratio=0.1"], "schedule.min_ratio", "no effect"),
    (["validation.every_steps=5"], "validation.every_steps", "nothing is held out"),
    (["validation.split=0.1", "validation.every_epochs=0"], "validation", "never measured"),
    (["validation.split=60%"], "validation.split", "60% of the pictures"),
    (["loss.noise_offset=0.5"], "loss.noise_offset", "deep-fried"),
    (["captions.keep_tokens=1"], "captions.keep_tokens", "no effect"),
    (["captions.dropout=1"], "captions.dropout", "every caption"),
    (["model.clip_skip=4"], "model.clip_skip", "unusual"),
    (["buckets.enabled=false", "buckets.min=64"], "buckets", "no effect"),
    (["buckets.upscale=false", "buckets.max=64"], "buckets", "no effect"),
    (["augment.zoom=1.5"], "augment.zoom", "no effect"),
    (["augment.variants=8", "augment.flip=true"], "augment.variants", "no effect"),
    (["augment.colour=0.8"], "augment.colour", "skin and hair"),
    (["augment.slices=1"], "augment.slices", "cuts nothing"),
    (["captions.tag_warmup_min=3"], "captions.tag_warmup_min", "no effect"),
    (["captions.separator=,\n,"], "captions.separator", "is a line break"),
    (["captions.secondary_separator=,"], "captions.secondary_separator", "binds nothing"),
]


@pytest.mark.parametrize(("assignments", "where", "what"), ODDITIES)
def test_oddities(assignments: list[str], where: str, what: str) -> None:
    warnings = checks.warnings(load_settings(None, assignments))
    found = [notice for notice in warnings if notice.where == where and what in str(notice)]
    assert len(found) == 1, warnings
    assert found[0].hint


def test_different_rates_for_an_adaptive_optimizer() -> None:
    settings = load_settings(None, ["optimizer.text_encoder_lr=0.5"], "prodigy")
    assert "only set a ratio" in str(checks.warnings(settings)[0])


def test_prodigy_with_warmup_wants_its_safeguard() -> None:
    odd = ["schedule.name=constant_with_warmup", "schedule.warmup=10%"]
    assert checks.warnings(load_settings(None, odd, "prodigy")) == []
    unsafe = [*odd, "optimizer.args.safeguard_warmup=False"]
    (notice,) = checks.warnings(load_settings(None, unsafe, "prodigy"))
    assert "safeguard_warmup" in notice.hint
