"""Images from sites of images into a dataset: fetched by gallery-dl, then imported.

What is fetched waits in ``.lorasmith/gather`` until the import is agreed to and done, so that
nothing that came is fetched twice, whatever happens in between.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lorasmith.core.disk import discard
from lorasmith.core.errors import Problem, UserError
from lorasmith.core.events import Controls, Observer, ignore
from lorasmith.core.text import quantity
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.changes.trash import STORE
from lorasmith.curation.collection import dataset_root
from lorasmith.curation.importing.gallery_dl import fetch, require_gallery_dl
from lorasmith.curation.importing.import_images import Captioned, plan_import, require_no_project
from lorasmith.curation.sidecars.tags import TagRules
from lorasmith.data.images import SUFFIXES

# Several words before a colon may say which kind of site it is: danbooru:https://…
_URL = re.compile(r"(?:[\w.]+:)?(?:https?://\S+|\w[\w.]*:\S+)|[\w-]+(?:\.[\w-]+)+/\S*", re.ASCII)
_UNFINISHED = ".part"


def _clear(waiting: Path) -> None:
    """Remove what waits, but for what is half fetched."""
    for place, _, names in os.walk(waiting, topdown=False):
        for name in names:
            if not name.endswith(_UNFINISHED):
                discard(Path(place, name))
        if not os.listdir(place):
            discard(Path(place))


def plan_gather(
    urls: Sequence[str],
    into: Path | str,
    *,
    limit: int = 100,
    pause: float = 0.5,
    wait: float = 60.0,
    again: bool = False,
    own_settings: Path | None = None,
    captions: Captioned = "keep",
    rules: TagRules | None = None,
    simulate: bool = False,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Plan:
    """Fetch the images of pages, and plan their import.

    Args:
        urls: of pages that gallery-dl knows: a search, a gallery, an artist, one post.
        into: the folder that images go into.
        limit: at most so many new ones; 0 for all.
        pause: seconds between two downloads.
        wait: seconds after a site said that there were too many requests.
        again: also fetch what came earlier.
        own_settings: a file with settings of gallery-dl's, for accounts and keys.
        captions, rules: as in :func:`plan_import`.
        simulate: fetch nothing; the plan says how many would come.

    Raises:
        UserError: with everything that is wrong with the arguments; gallery-dl is not installed.
        Stopped: by ``controls``; what came is kept for the next time.
    """
    problems = [
        Problem(url, "is not the address of a page", "write it whole, with https://")
        for url in urls
        if not _URL.fullmatch(url)
    ]
    if own_settings is not None and not own_settings.is_file():
        problems.append(Problem("own_settings", f"{own_settings} is not a file"))
    target = Path(into)
    if target.exists() and not target.is_dir():
        problems.append(Problem(str(target), "is a file", "give a folder"))
    if problems:
        raise UserError(problems)
    require_no_project(target)
    require_gallery_dl()
    root = dataset_root(target)
    place = root / STORE / "gather" / _folder_name(target, root)
    waiting = place / "files"
    outcome = fetch(
        urls,
        waiting,
        archive=None if again or simulate else place / "fetched.sqlite",
        limit=limit,
        pause=pause,
        wait=wait,
        own_settings=own_settings,
        simulate=simulate,
        observer=observer,
        controls=controls,
    )
    command = f"gather {' '.join(urls)}"[:200]
    if simulate:
        plan = Plan(command, [root])
        there = quantity(outcome.files, "picture", "is")
        plan.notes.append(f"{there} there, those that came earlier among them")
    elif any(path.suffix.lower() in SUFFIXES for path in waiting.rglob("*")):
        plan = plan_import(
            [waiting],
            target,
            captions=captions,
            rules=rules,
            prompts=False,
            command=command,
            observer=observer,
            controls=controls,
        )
        plan.when_done.append(lambda: _clear(waiting))
        plan.changes = [replace(c, what=_short(c.what, waiting)) for c in plan.changes]
        for told in (plan.warnings, plan.skipped):
            told[:] = [
                replace(each, where=_short(each.where, waiting), what=_short(each.what, waiting))
                for each in told
            ]
    else:
        plan = Plan(command, [root])
        if not outcome.earlier and not outcome.problems:
            plan.notes.append("there is no picture")
    if outcome.earlier:
        plan.notes.append(f"{quantity(outcome.earlier, 'picture')} came earlier")
    if not (plan.changes or outcome.files or outcome.earlier):
        plan.problems += outcome.problems
    else:
        plan.skipped += outcome.problems
    if limit and outcome.files >= limit and not simulate:
        plan.notes.append(f"that is the --limit of {limit}; the same command goes on from there")
    if not plan.changes and not plan.problems:
        _clear(waiting)
    return plan


def _short(text: str, waiting: Path) -> str:
    """Paths as the site has them, not where they wait."""
    return text.replace(f"{waiting}{os.sep}", "")


def _folder_name(target: Path, root: Path) -> str:
    """One for each folder of a dataset."""
    place = os.path.relpath(os.path.abspath(target), root)
    return "here" if place == "." else re.sub(r"[^\w.-]+", "_", place)
