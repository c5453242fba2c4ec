"""The page of an audit: one file that needs nothing else."""

from __future__ import annotations

import base64
import io
import re
import shutil
from pathlib import Path

from PIL import Image
from tests.audits import MakeDataset, inputs_of

from lorasmith.advice.audit.audit import audit_dataset
from lorasmith.advice.audit.report_page import write_page


def test_the_page_shows_every_rule_and_each_picture_once(
    dataset: MakeDataset, tmp_path: Path
) -> None:
    folder = dataset({"a.png": "zorp, <b>hat</b>", "b.png": "zorp, cap"})
    shutil.copy(folder / "a.png", folder / "<c>.png")
    (folder / "d.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    inputs = inputs_of(folder)
    audit = audit_dataset(inputs)
    write_page(tmp_path / "page.html", audit, inputs)
    text = (tmp_path / "page.html").read_text("utf-8")
    assert all(f'id="{finding.rule}"' in text for finding in audit.findings)
    assert all(finding.key in text for finding in audit.findings)
    assert "<c>" not in text
    assert "{{" not in text
    assert not re.search(r"(?:src|href)=\"(?!#)|https?://|url\(", text)
    (line,) = re.findall(r"const pictures = \[(.*)\];", text)
    pictures = [base64.b64decode(part) for part in re.findall(r'"([^"]+)"', line)]
    shown = {image for finding in audit.findings for image in finding.images}
    assert len(pictures) == len(shown) - 1, "without the one that cannot be decoded"
    assert {Image.open(io.BytesIO(data)).format for data in pictures} == {"JPEG"}


def test_a_page_of_nothing(dataset: MakeDataset, tmp_path: Path) -> None:
    inputs = inputs_of(dataset({"a.png": "zorp"}))
    write_page(tmp_path / "page.html", audit_dataset(inputs, rules=[]), inputs)
    assert "nothing found" in (tmp_path / "page.html").read_text("utf-8")
