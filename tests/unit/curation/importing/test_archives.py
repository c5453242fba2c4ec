"""Archives from anywhere: what they may not do."""

from __future__ import annotations

import contextlib
import io
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorasmith.core.errors import DatasetError, Problem, Stopped
from lorasmith.core.events import Controls
from lorasmith.curation.importing import archives
from lorasmith.curation.importing.archives import unpack


def unpacked(archive: Path, folder: Path, controls: Controls | None = None) -> list[Problem]:
    folder.mkdir(exist_ok=True)
    check = (controls or Controls()).check
    return list(unpack(archive, folder, lambda suffix: suffix in (".png", ".txt"), check))


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_is_sound_comes_out_and_what_is_not_is_named(tmp_path: Path) -> None:
    archive = tmp_path / "a.cbz"
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("in/a.png", b"picture")
        file.writestr("in/a.txt", b"hat")
        file.writestr("notes.html", b"passed over")
        file.writestr("../up.png", b"x")
        file.writestr("in/../../up.txt", b"x")
        file.writestr("/root.png", b"x")
        file.writestr("C:/drive.png", b"x")
        file.writestr("C:\\windows\\drive.png", b"x")
        file.writestr("..\\up.png", b"x")
        file.writestr(link, "/etc/passwd")
        file.writestr("inner.zip", b"x")
        file.writestr("inner.rar", b"x")
        file.writestr("in/a.png/b.png", b"x")
        file.writestr("x" * 300 + ".png", b"x")
    problems = unpacked(archive, tmp_path / "out")
    assert names(tmp_path / "out") == {"in/a.png", "in/a.txt"}
    assert names(tmp_path) == {"a.cbz", "out/in/a.png", "out/in/a.txt"}
    assert (tmp_path / "out/in/a.png").read_bytes() == b"picture"
    assert len(problems) == 11
    assert all(problem.where.startswith(str(archive)) for problem in problems)
    texts = "\n".join(problem.what for problem in problems)
    for reason in ("outside of its folder", "absolute", "is a link", "within an archive"):
        assert reason in texts


def test_two_files_of_one_name(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.png", b"first")
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("a.png", b"second")
    (problem,) = unpacked(archive, tmp_path / "out")
    assert "another file" in problem.what
    assert (tmp_path / "out/a.png").read_bytes() == b"first"


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.png", bytes(50_000_000))
    with pytest.raises(DatasetError, match="as bombs do"):
        unpacked(archive, tmp_path / "out")
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_STORED) as file:
        file.writestr("b.png", bytes(1_000_000))
    (problem,) = unpacked(archive, tmp_path / "out")
    assert "times what it takes" in problem.what
    assert names(tmp_path / "out") == {"b.png"}


def test_an_archive_for_which_there_is_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("a.png", b"x" * 5000)
        file.writestr("film.mp4", b"x" * 50_000)
    monkeypatch.setattr(archives, "free_bytes", lambda folder: 6000)
    assert not unpacked(tmp_path / "a.zip", tmp_path / "out")
    monkeypatch.setattr(archives, "free_bytes", lambda folder: 4000)
    with pytest.raises(DatasetError, match=r"needs 5.0 kB .* TMPDIR"):
        unpacked(tmp_path / "a.zip", tmp_path / "out")


def test_what_claims_less_than_it_holds(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.png", b"a" * 5000)
    data = buffer.getvalue().replace((5000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    (tmp_path / "a.zip").write_bytes(data)
    (problem,) = unpacked(tmp_path / "a.zip", tmp_path / "out")
    assert problem.what == "is damaged"
    assert not names(tmp_path / "out")


def test_encrypted_and_damaged_entries(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.png", b"PICTURE")
    data = bytearray(buffer.getvalue())
    (tmp_path / "damaged.zip").write_bytes(bytes(data).replace(b"PICTURE", b"PICTURF", 1))
    (problem,) = unpacked(tmp_path / "damaged.zip", tmp_path / "out")
    assert problem.what == "is damaged"
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "encrypted.zip").write_bytes(data)
    (problem,) = unpacked(tmp_path / "encrypted.zip", tmp_path / "out")
    assert problem.what == "is encrypted"
    assert not names(tmp_path / "out")


def test_no_archive_and_a_stop(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"no archive")
    with pytest.raises(DatasetError, match="cannot be read as an archive"):
        unpacked(tmp_path / "a.zip", tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        file.writestr("a.png", b"x")
    controls = Controls()
    controls.stop()
    with pytest.raises(Stopped):
        unpacked(tmp_path / "b.zip", tmp_path / "out", controls)


def sound() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("in/a.png", b"picture" * 30)
        file.writestr("a.txt", "hat")
    return buffer.getvalue()


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.integers(0, len(sound()) - 1), st.integers(0, 255)), max_size=6))
def test_changed_bytes_break_nothing(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(sound())
    for place, value in changes:
        data[place] = value
    folder = tmp_path_factory.mktemp("changed")
    (folder / "a.zip").write_bytes(data)
    with contextlib.suppress(DatasetError):
        unpacked(folder / "a.zip", folder / "out")
    assert all(name.startswith(("out/", "a.zip")) for name in names(folder))


def test_empty_files_are_not_unpacked(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.png", b"")
        file.writestr("b.png", b"x")
        file.writestr("b.txt", b"")
    (problem,) = unpacked(archive, tmp_path / "out")
    assert (problem.where, problem.what) == (f"{archive}/a.png", "is empty (0 bytes)")
    assert names(tmp_path / "out") == {"b.png"}


@pytest.mark.parametrize("count", [3, pytest.param(70_000, marks=pytest.mark.slow)])
def test_too_many_files_are_refused_before_their_list_is_read(
    tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the count at the end; above 65535 in the record of Zip64."""
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.comment = b"by somebody"
        for number in range(count):
            file.writestr(zipfile.ZipInfo(f"{number}.png"), b"")
    assert archives._claimed_count(archive) == count
    monkeypatch.setattr(archives, "MOST_ENTRIES", count - 1)
    monkeypatch.setattr(zipfile.ZipFile, "__init__", None)
    with pytest.raises(DatasetError, match=f"holds {count} files; the most is {count - 1}"):
        unpacked(archive, tmp_path / "out")


def test_what_an_end_claims(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    for data in (b"", b"PK\x05\x06", b"x" * 100_000):
        archive.write_bytes(data)
        assert archives._claimed_count(archive) == 0
        with pytest.raises(DatasetError, match="cannot be read as an archive"):
            unpacked(archive, tmp_path / "out")
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.png", b"x")
    assert archives._claimed_count(archive) == 1
