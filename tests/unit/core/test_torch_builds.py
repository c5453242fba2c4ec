"""core/torch_builds.py: which PyTorch a driver and a card take."""

from __future__ import annotations

import pytest

from lorasmith.core.torch_builds import (
    CUDA_BUILDS,
    DRIVERS,
    build_of,
    choose_index,
    driver_for,
    install_command,
    newest_cuda,
    parse_capability,
    parse_nvidia_smi,
    parse_version,
    runs_with,
)

OLD_HEADER = "| NVIDIA-SMI 570.86.15    Driver Version: 570.86.15    CUDA Version: 12.8  |"
NEW_HEADER = "| NVIDIA-SMI 610.43.02    KMD Version: 610.43.02    CUDA UMD Version: 13.3  |"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (OLD_HEADER, ("570.86.15", (12, 8))),
        (NEW_HEADER, ("610.43.02", (13, 3))),
        ("Driver Version: 551.61  CUDA Version: N/A", ("551.61", None)),
        ("NVIDIA-SMI has failed because it couldn't communicate with the driver", ("", None)),
    ],
)
def test_both_forms_of_nvidia_smi_are_read(text: str, expected: object) -> None:
    assert parse_nvidia_smi(text) == expected


@pytest.mark.parametrize(
    ("driver", "windows", "cuda"),
    [
        ("580.65.06", False, (13, 0)),
        ("579.99", False, (12, 9)),
        ("570.65", True, (12, 8)),
        ("570.64", True, (12, 6)),
        ("570.26", False, (12, 8)),
        ("525.60.13", False, (12, 0)),
        ("525.60.11", False, (11, 8)),
        ("470.256.02", False, (11, 4)),
        ("390.157", False, None),
        ("999.1", False, (13, 2)),
    ],
)
def test_the_newest_cuda_of_a_driver(driver: str, windows: bool, cuda: object) -> None:
    assert newest_cuda(driver, windows=windows) == cuda


@pytest.mark.parametrize(
    ("cuda", "capabilities", "index"),
    [
        ((13, 0), [(8, 6)], "cu130"),
        ((13, 4), [(12, 0)], "cu130"),
        ((13, 0), [(6, 1)], "cu126"),  # Pascal, whose last drivers can do 13.0.
        ((13, 0), [(7, 0)], "cu126"),
        ((12, 8), [(12, 0)], "cu128"),  # Blackwell before driver 580.
        ((12, 8), [(8, 9)], "cu126"),
        ((12, 0), [(8, 6)], "cu126"),
        ((12, 4), [(12, 0)], "cpu"),
        ((11, 8), [(8, 6)], "cpu"),
        ((13, 0), [(3, 5)], "cpu"),
        (None, [(8, 6)], "cpu"),
        ((13, 0), [], "cu130"),
        ((12, 4), [None], "cu126"),
        ((13, 0), [(6, 1), (8, 6)], "cu126"),  # The one that has code for both.
        ((13, 0), [(6, 1), (12, 0)], "cu130"),  # None has.
    ],
)
def test_the_index_for_a_driver_and_its_cards(cuda, capabilities, index) -> None:
    assert choose_index(cuda, capabilities) == index


def test_every_build_has_a_driver_and_its_name() -> None:
    for build in CUDA_BUILDS:
        assert build.index == "cu{}{}".format(*build.cuda)
        assert build_of(build.index) is build
        for windows in (False, True):
            least = newest_cuda(driver_for(build.index, windows=windows), windows=windows)
            assert least == build.driver_cuda
        assert runs_with(build.cuda, build.driver_cuda)
    assert build_of("cpu") is None


def test_the_drivers_go_down_with_cuda() -> None:
    assert list(DRIVERS) == sorted(DRIVERS, reverse=True)
    for column in (0, 1):
        versions = [parse_version(drivers[column]) for drivers in DRIVERS.values()]
        assert versions == sorted(versions, reverse=True)


def test_a_major_version_of_cuda_runs_with_each_of_its_drivers() -> None:
    assert runs_with((12, 8), (12, 2))
    assert runs_with((12, 6), (13, 0))
    assert not runs_with((13, 0), (12, 9))


def test_the_line_that_installs() -> None:
    line = install_command("cu130", packages=("torch", "torchvision"))
    assert line == (
        "python -m pip install --upgrade --force-reinstall torch torchvision "
        "--index-url https://download.pytorch.org/whl/cu130"
    )
    assert install_command("", pip="uv pip") == "uv pip install --upgrade --reinstall torch"


def test_versions_are_read_from_their_beginning() -> None:
    assert parse_version("2.13.0+cpu") == (2, 13, 0)
    assert parse_version("580.65.06") == (580, 65, 6)
    assert parse_version("N/A") == ()
    assert parse_capability("8.6") == (8, 6)
    assert parse_capability("[N/A]") is None
