"""An audit on a terminal."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.audits import MakeDataset, faultless, inputs_of

from lorasmith.advice.audit.audit import Audit, audit_dataset
from lorasmith.advice.audit.finding import Finding, Rule
from lorasmith.advice.audit.inputs import AuditInputs
from lorasmith.advice.audit.view import render
from lorasmith.core.progress import TextConsole


def shown(audit: Audit, *, show_all: bool = False) -> str:
    file = io.StringIO()
    console = TextConsole(file=file, width=80, color_system=None)
    console.print(render(audit, show_all=show_all))
    return file.getvalue()


def test_it_fits_eighty_columns_and_names_what_mends(dataset: MakeDataset) -> None:
    folder = dataset({f"{number} of a long name.png": "zorp, highres" for number in range(8)})
    shutil.copy(folder / "0 of a long name.png", folder / "another long name of a copy.png")
    text = shown(audit_dataset(inputs_of(folder)))
    assert max(map(len, text.splitlines())) <= 80
    assert "--fix same-file" in text
    assert "all-safe" in text


def each(inputs: AuditInputs) -> Iterator[Finding]:
    for image in inputs.images:
        yield Finding("is\x1b[31m red", (image.path,))


RULE = Rule("each", "Each", "note", each, "because")


def test_many_findings_are_cut_short_unless_all_are_asked_for(dataset: MakeDataset) -> None:
    inputs = inputs_of(dataset({f"{number}.png": None for number in range(7)}))
    audit = audit_dataset(inputs, rules=[RULE])
    assert "and 4 more" in shown(audit)
    assert "\x1b" not in shown(audit)
    assert shown(audit, show_all=True).count(".png") == 7


def test_files_of_one_name_are_told_apart(dataset: MakeDataset) -> None:
    folder = dataset({"10_zorp/day/a.png": None, "10_zorp/b.png": None})
    (folder / "5_zorp").mkdir()
    shutil.copy(folder / "10_zorp" / "b.png", folder / "5_zorp" / "b.png")
    text = shown(audit_dataset(inputs_of(folder), rules=[RULE]))
    assert "10_zorp/b.png" in text
    assert "5_zorp/b.png" in text
    copies = audit_dataset(inputs_of(folder)).to_json()["findings"]
    (what,) = [one["what"] for one in copies if one["rule"] == "same-file"]
    assert "_zorp/b.png would go, as " in what


def test_of_several_datasets_whole_paths_are_told(tmp_path: Path) -> None:
    folders = [tmp_path / one / "10_zorp" for one in ("left", "right")]
    for number, folder in enumerate(folders):
        folder.mkdir(parents=True)
        faultless(number).save(folder / "a.png")
    inputs = AuditInputs([tmp_path / "left", tmp_path / "right"])
    audit = audit_dataset(inputs, rules=[RULE])
    text = "".join(shown(audit).split())
    for folder in folders:
        assert str(folder / "a.png") in text
        assert inputs.shown_name(folder / "a.png") == str(folder / "a.png")


def test_what_is_ignored_or_not_looked_at_is_said(dataset: MakeDataset) -> None:
    inputs = inputs_of(dataset({"a.png": None}))
    blind = replace(RULE, id="blind", title="Blind", missing=lambda inputs: "needs eyes")
    audit = audit_dataset(inputs, ["each"], [RULE, blind])
    assert "1 finding is ignored" in shown(audit)
    assert "needs eyes" in shown(audit)
    assert audit.ignored[0].key in shown(audit, show_all=True)


def test_nothing_is_wrong(dataset: MakeDataset) -> None:
    assert "Nothing is wrong" in shown(audit_dataset(inputs_of(dataset({"a.png": None})), rules=[]))
