"""What comes next in a bootstrap, piece by piece; after each its state is written."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from lorasmith.advice.bootstrap.choose import ended_because
from lorasmith.advice.bootstrap.image_set import apply_choice
from lorasmith.advice.bootstrap.material import Material
from lorasmith.advice.bootstrap.page import write_page
from lorasmith.advice.bootstrap.rounds import draw_round, plan_drawings, train_result, train_round
from lorasmith.advice.bootstrap.state import Bootstrap, Round
from lorasmith.advice.bootstrap.summary import round_text
from lorasmith.core.errors import RunError, Stopped
from lorasmith.core.events import Controls, Notice, Observer
from lorasmith.core.locks import lock_file

LOOK_AGAIN = 0.5  # seconds between looks at a choice that is waited for


@contextlib.contextmanager
def alone(boot: Bootstrap) -> Iterator[None]:
    """Keeps a second process out of a bootstrap's folder."""
    with open(boot.lock, "a", encoding="utf-8") as file:
        if not lock_file(file):
            what = "another process is at work on this bootstrap"
            raise RunError.of(boot.folder, what, "wait for it, or stop it")
        yield


def advance(
    boot: Bootstrap,
    material: Material,
    wait: bool,
    observer: Observer,
    controls: Controls,
) -> None:
    if not boot.rounds:
        boot.rounds.append(Round(1))
    try:
        while boot.stage != "done":
            controls.check("stopped")
            if boot.stage == "choose" and not _choice_made(boot, wait, observer, controls):
                break
            if boot.stage != "choose":
                _work(boot, material, observer, controls)
            boot.save()
    except Stopped as stop:
        boot.save()
        raise Stopped(f"stopped; go on with: {boot.command}") from stop


def _work(boot: Bootstrap, material: Material, observer: Observer, controls: Controls) -> None:
    """The one piece of work that comes next."""
    one = boot.now
    if boot.stage == "train":
        if _draws_again(boot):
            before = boot.rounds[-2]
            one.run, one.lora, one.steps = before.run, before.lora, before.steps
            one.images = before.images
        else:
            train_round(boot, material, observer, controls)
        boot.stage = "draw"
    elif boot.stage == "draw":
        from lorasmith.advice.bootstrap.measure import measure_round

        if not one.drawings:
            one.drawings = plan_drawings(boot, material)
            boot.save()
        draw_round(boot, material, observer, controls)
        choice = measure_round(boot, material)
        one.suggested, one.reasons = list(choice.kept), dict(choice.reasons)
        write_page(boot)
        observer(Notice("info", round_text(one)))
        boot.stage = "choose"
    else:
        train_result(boot, material, observer, controls)
        boot.stage = "done"


def _draws_again(boot: Bootstrap) -> bool:
    """Whether somebody kept nothing of the round before: its LoRA draws once more, for other
    luck. "auto" trains longer."""
    if len(boot.rounds) < 2 or boot.options.choose == "auto":
        return False
    before = boot.rounds[-2]
    return not before.kept and not before.purged and bool(before.lora)


def _choice_made(boot: Bootstrap, wait: bool, observer: Observer, controls: Controls) -> bool:
    """Make the choice, or read it; whether there is one."""
    if boot.options.choose == "auto":
        chosen(boot, sorted(boot.now.suggested), observer)
        return True
    while (keep := boot.read_choice()) is None:
        if not wait:
            return False
        controls.check("stopped")
        time.sleep(LOOK_AGAIN)
    chosen(boot, keep, observer)
    return True


def chosen(boot: Bootstrap, keep: list[int], observer: Observer, *, finish: bool = False) -> None:
    """Take a choice to heart, and decide what comes next."""
    one = boot.now
    one.kept = keep
    apply_choice(boot)
    for name in one.purged:
        text = f"{name} sticks out in what is drawn, and is taken out of the set (into its trash)"
        observer(Notice("info", text))
    for name in one.repeated:
        if name not in (*one.purged, *one.replaced):
            text = f"{name} was given, and stays; what is kept thins it out"
            observer(Notice("info", text))
    boot.ended = "as asked" if finish else ended_because(boot.rounds, boot.options.rounds)
    if boot.ended:
        boot.stage = "final"
    else:
        boot.rounds.append(Round(one.number + 1))
        boot.stage = "train"


def end_rounds(boot: Bootstrap, observer: Observer) -> None:
    """End with the set as it is, and what ``choice.json`` keeps where there is a choice to make."""
    if boot.stage == "choose":
        chosen(boot, boot.read_choice() or [], observer, finish=True)
    elif boot.stage in ("train", "draw"):
        if len(boot.rounds) > 1:  # What it would have drawn nobody asks for any more.
            boot.rounds.pop()
        boot.ended, boot.stage = "as asked", "final"
