"""The verdict on curves whose fate is plain to see."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lorasmith.measures.records import FULL, HIGH, LOW, Measures
from lorasmith.measures.verdict import (
    COPY,
    LEAK,
    LIKE_ENOUGH,
    RISE,
    Facts,
    Verdict,
    judge,
    judge_one,
    nothing_gained,
)


def measures(
    loss: float = -0.8,
    *,
    weaker: float = 0.2,
    stronger: float = 0.1,
    like: float | None = 0.9,
    leak: float | None = 0.4,
    copying: float | None = 0.9,
    held_out: list[float] | None = None,
) -> Measures:
    """Of a well-trained snapshot, but for what is given."""
    drawn = like is not None
    return Measures(
        loss={LOW: loss + weaker, FULL: loss, HIGH: loss + stronger},
        by_picture=held_out or [loss] * 4,
        training=loss,
        held_out=loss if held_out else None,
        plain_moved=leak,
        plain_loss=leak,
        norms={"unet": 1.0},
        likeness={LOW: like - 0.4, FULL: like, HIGH: like + 0.05} if like is not None else {},
        diversity=1.0 if drawn else None,
        copying=copying if drawn else None,
        plain_drawings=leak,
    )


def facts(count: int, **values: object) -> Facts:
    given_ = {
        "labels": tuple(f"epoch {n + 1}" for n in range(count)),
        "epochs": tuple(range(1, count + 1)),
        "uses": tuple(20.0 * (n + 1) for n in range(count)),
        "trigger": "zorp",
        "images": 12,
        **values,
    }
    return Facts(**given_)  # type: ignore[arg-type]


def states(verdict: Verdict) -> list[str]:
    return [judged.state for judged in verdict.judged]


UNDER = measures(-0.45, like=0.2, stronger=0.0, leak=0.1)
WELL = measures()
LEAKS = measures(-0.9, leak=1.3)
RUINED = measures(4.6, weaker=0.1, stronger=0.0, like=0.0, leak=5.0)


def test_too_short() -> None:
    verdict = judge([UNDER, replace(UNDER, loss={LOW: -0.5, FULL: -0.55, HIGH: -0.54})], facts(2))
    assert states(verdict) == ["under", "under"]
    assert verdict.run_is == "under"
    assert verdict.advice[0].startswith("Train longer")
    assert "train.epochs" in verdict.advice[0]


def test_too_low_a_rate() -> None:
    many = facts(2, uses=(100.0, 200.0), lr=1e-4)
    verdict = judge([UNDER, UNDER], many)
    assert verdict.advice[0].startswith("Raise the learning rate")
    assert "0.0005" in verdict.advice[0]


def test_right() -> None:
    verdict = judge([UNDER, measures(-0.7), WELL, measures(-0.82)], facts(4))
    assert states(verdict) == ["under", "well", "well", "well"]
    assert verdict.keep == 2  # the last is better by less than means anything
    assert verdict.run_is == "well"
    assert not verdict.advice
    assert "Keep epoch 3" in verdict.summary


def test_little_is_gained_of_what_has_no_strength() -> None:
    """An embedding's losses are told apart where a LoRA's would be the same."""
    run = [replace(measures(loss), loss={FULL: loss}) for loss in (-0.10, -0.13, -0.15, -0.14)]
    assert judge(run, facts(4)).keep == 2
    assert not nothing_gained(run[:3], ["well"] * 3, 0)
    assert nothing_gained([*run, run[-1]], ["well"] * 5, 2)
    assert judge([measures(one.loss[FULL]) for one in run], facts(4)).keep == 1


def test_too_long() -> None:
    verdict = judge([UNDER, WELL, LEAKS, LEAKS], facts(4))
    assert states(verdict) == ["under", "well", "over", "over"]
    assert verdict.keep == 1
    assert verdict.run_is == "well"
    assert "From epoch 3 on it is overtrained" in verdict.summary
    assert "train.epochs = 2" in verdict.advice[0]
    assert any("regularisation" in line for line in verdict.advice)


def test_too_high_a_rate() -> None:
    verdict = judge([RUINED, RUINED], facts(2, lr=0.02))
    assert states(verdict) == ["over", "over"]
    assert verdict.run_is == "over"
    assert "optimizer.lr = 0.005" in verdict.advice[0]
    assert "ruined" in verdict.summary


def test_from_little_learned_to_overtrained() -> None:
    """Nothing is good; what is not broken is kept, and the run is called what it came to."""
    verdict = judge([UNDER, RUINED], facts(2))
    assert verdict.keep == 0
    assert verdict.run_is == "over"
    assert "learning rate" in verdict.advice[0]


def test_the_good_snapshot_lies_between_two() -> None:
    verdict = judge([UNDER, LEAKS], facts(2, lr=0.004))
    assert verdict.keep == 0
    assert "between epoch 1 and epoch 2" in verdict.advice[0]
    assert "optimizer.lr = 0.002" in verdict.advice[0]


def test_held_out_loss_tells_the_turn() -> None:
    rows = [
        measures(-0.6, held_out=[-0.6, -0.6, -0.6, -0.6]),
        measures(-0.66, held_out=[-0.7, -0.6, -0.7, -0.64]),
        measures(-0.4, held_out=[-0.4, -0.45, -0.35, -0.4]),
    ]
    verdict = judge(rows, facts(3, held_out=4))
    assert states(verdict) == ["well", "well", "over"]
    assert verdict.keep == 1
    assert not any("held out" in line for line in verdict.limits)


def test_a_rise_that_images_disagree_on_is_chance() -> None:
    """The mean rises, but of four images two get better: no sign."""
    rows = [
        measures(-0.66, held_out=[-0.66, -0.66, -0.66, -0.66]),
        measures(-0.6, held_out=[-0.2, -0.9, -0.9, -0.4]),
    ]
    assert states(judge(rows, facts(2, held_out=4))) == ["well", "well"]


def test_without_drawings_strength_decides() -> None:
    assert judge_one(measures(like=None, stronger=0.0), [], ["a"]).state == "under"
    assert judge_one(measures(like=None, stronger=0.15), [], ["a"]).state == "well"
    assert judge_one(measures(like=None, weaker=-0.1), [], ["a"]).state == "over"


def test_what_could_not_be_judged_is_said() -> None:
    verdict = judge(
        [measures(leak=None)],
        facts(1, trigger="", state="killed"),
    )
    said = " ".join(verdict.limits)
    assert "No pictures are held out" in said
    assert "no trigger word" in said
    assert "killed" in said


def test_plain_prompts_that_are_near_the_subject_are_told_of() -> None:
    said = " ".join(judge([WELL], facts(1, captions_alone=True)).limits)
    assert "--plain" in said
    assert "--plain" not in " ".join(judge([WELL], facts(1)).limits)


def test_a_run_that_goes_on_is_not_told_to_train_longer() -> None:
    verdict = judge([UNDER], facts(1, state="running"))
    assert "let it go on" in verdict.advice[0]


SHARE = st.floats(-1.0, 6.0)
ANY = st.builds(
    measures,
    SHARE,
    weaker=st.floats(-1, 1),
    stronger=st.floats(-1, 1),
    like=st.one_of(st.none(), st.floats(-1, 1.5)),
    leak=st.one_of(st.none(), st.floats(0, 30)),
    copying=st.one_of(st.none(), st.floats(0, 4)),
)


@given(st.lists(ANY, min_size=1, max_size=8))
def test_any_run_gets_a_verdict_that_agrees_with_itself(rows: list[Measures]) -> None:
    verdict = judge(rows, facts(len(rows)))
    found = states(verdict)
    kept = found[verdict.keep]
    if "well" in found:
        assert kept == verdict.run_is == "well"
    if kept == "over":
        assert set(found) == {"over"}
    assert f"epoch {verdict.keep + 1}" in verdict.summary
    assert all(judged.reasons for judged in verdict.judged)


@given(ANY, st.floats(LEAK, 50))
def test_more_leakage_never_makes_better(one: Measures, leak: float) -> None:
    assume(abs(one.training) >= RISE)
    assert judge_one(replace(one, plain_moved=leak), [], ["a"]).state == "over"


@given(st.floats(LIKE_ENOUGH, 2), st.floats(0, COPY, exclude_max=True))
def test_copies_are_overtrained_however_alike(like: float, copying: float) -> None:
    assert judge_one(measures(like=like, copying=copying), [], ["a"]).state == "over"


def ended(*rows: Measures) -> bool:
    verdict = judge(rows, facts(len(rows)))
    return nothing_gained(rows, [one.state for one in verdict.judged], verdict.keep)


def test_a_run_ends_when_two_more_are_no_better() -> None:
    well = measures(-0.8)
    assert not ended(UNDER, well)
    assert not ended(UNDER, well, measures(-0.81))
    assert ended(UNDER, well, measures(-0.81), measures(-0.82))


def test_a_run_ends_when_it_is_past_its_best() -> None:
    assert not ended(UNDER, WELL, LEAKS)
    assert ended(UNDER, WELL, LEAKS, LEAKS)
    assert ended(RUINED, RUINED, RUINED)


@given(st.lists(st.floats(0.031, 0.2), min_size=3, max_size=8))
def test_a_run_that_gains_is_not_ended(falls: list[float]) -> None:
    """However it is judged otherwise: likeness of few drawings is partly chance."""
    loss, rows = -0.2, []
    for number, fall in enumerate(falls):
        loss -= fall
        rows.append(measures(loss, like=0.9 if number % 2 else 0.7))
        assert not ended(*rows)


def test_what_has_hardly_moved_does_not_leak() -> None:
    still = measures(-0.001, stronger=0.0, like=0.0, leak=1.0)
    assert states(judge([still, still, still], facts(3))) == ["under"] * 3
    assert ended(still, still, still)


def test_one_that_has_learned_little_is_not_ended_while_its_loss_falls() -> None:
    rows = [measures(-0.3 - 0.012 * n, like=0.2 - 0.01 * n) for n in range(6)]
    assert not ended(*rows)
    flat = [measures(-0.3, like=0.2) for _ in range(3)]
    assert ended(*flat)
    assert "learned" in judge(flat, facts(3)).summary


@pytest.mark.parametrize("like", [0.9, 0.4, None])
def test_what_has_no_strength_is_judged_without_signs_of_others(like: float | None) -> None:
    burnt = measures(weaker=-0.3, like=like)
    assert judge_one(burnt, [], ["epoch 1"]).state == "over"
    alike = {} if like is None else {FULL: like}
    alone = replace(burnt, loss={FULL: burnt.loss[FULL]}, likeness=alike)
    state = "under" if like == 0.4 else "well"
    assert judge([alone, alone], facts(2)).judged[0].state == state
    ruined = replace(alone, loss={FULL: 0.2})
    verdict = judge([ruined, replace(ruined, loss={FULL: 0.5})], facts(2))
    assert [one.state for one in verdict.judged] == ["over", "over"]
    assert verdict.keep == 0
