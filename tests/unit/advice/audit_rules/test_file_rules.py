"""Rules about files."""

from __future__ import annotations

from tests.audits import MakeDataset, audit_rule, captioned, faultless, mended


def test_pictures_that_no_run_takes(dataset: MakeDataset) -> None:
    """As the check warns of them."""
    folder = captioned(dataset, "zorp, hat", "zorp, dog")
    assert audit_rule("not-used", folder) == []
    faultless(7).save(folder / "10_zorp" / "anim.gif")
    (folder / "10_zorp" / "photo.HEIC").write_bytes(b"")
    for place in ("girl/a.png", "10_zorp/within/b.png", "stray.png"):
        (folder / place).parent.mkdir(exist_ok=True)
        faultless(8).save(folder / place)
    (finding,) = audit_rule("not-used", folder)
    for name in ("anim.gif", "photo.HEIC", "girl", "within", "beside the N_name folders"):
        assert name in finding.what
    assert finding.value == 5


def test_captions_of_other_encodings(dataset: MakeDataset) -> None:
    captions = ["zorp, café", "zorp, hat", "zorp, dog", "zorp, été"]
    folder = captioned(dataset, *captions)
    for name, encoding in [("00", "utf-16"), ("01", "utf-8-sig"), ("03", "cp1252")]:
        path = next(folder.rglob(f"{name}.txt"))
        path.write_bytes(path.read_text("utf-8").encode(encoding))
    findings = audit_rule("caption-encoding", folder)
    assert [finding.images[0].stem for finding in findings] == ["00", "01", "03"]
    assert mended("caption-encoding", folder) == [
        "zorp, café",
        "zorp, hat",
        "zorp, dog",
        "zorp, été",
    ]


def test_utf_16_without_a_mark_is_told(dataset: MakeDataset) -> None:
    folder = captioned(dataset, "zorp, hat", "zorp, dog")
    next(folder.rglob("01.txt")).write_bytes("zorp, dog".encode("utf-16-le"))
    (finding,) = audit_rule("caption-encoding", folder)
    assert "in UTF-16" in finding.what
    assert [image.name for image in finding.images] == ["01.png"]


def test_captions_of_other_endings(dataset: MakeDataset) -> None:
    folder = captioned(dataset, "zorp, hat", "zorp, dog", "zorp, cat")
    assert audit_rule("caption-endings", folder) == []
    path = next(folder.rglob("02.txt"))
    path.rename(path.with_suffix(".caption"))
    (finding,) = audit_rule("caption-endings", folder)
    assert [image.name for image in finding.images] == ["02.png"]


def test_two_pictures_of_one_name(dataset: MakeDataset) -> None:
    folder = captioned(dataset, "zorp, hat", "zorp, dog")
    assert audit_rule("shared-caption", folder) == []
    faultless(9).save(folder / "10_zorp" / "01.webp", lossless=True)
    (finding,) = audit_rule("shared-caption", folder)
    assert {image.name for image in finding.images} == {"01.png", "01.webp"}


def test_what_is_no_text_is_no_empty_caption(dataset: MakeDataset) -> None:
    folder = captioned(dataset, "zorp, hat", "zorp, dog")
    next(folder.rglob("01.txt")).write_bytes(bytes(range(256)))
    (finding,) = audit_rule("not-text", folder)
    assert [image.name for image in finding.images] == ["01.png"]
    assert audit_rule("empty-caption", folder) == audit_rule("caption-encoding", folder) == []
