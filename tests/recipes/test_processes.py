"""Two processes with half the batch each give what one process gives."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tests.recipes.runs import command, losses, run, small_dataset
from tests.tolerances import NETWORK, assert_near, near

# Plain gradient descent: what Adam divides by its own small root would not be comparable.
SETTINGS = {
    "train__epochs": "3",
    "save__precision": "fp32",
    "optimizer__name": "SGDNesterov",
    "optimizer__lr": "1",
    "schedule__name": "constant",
    # Draws that hang together over the step of all processes.
    "loss__timestep_strata": "both",
    "loss__antithetic_noise": "true",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
    # Five images and a batch of two leave a last batch of one: the second process has none.
    data = small_dataset(tmp_path / "data", images=5)
    run(command(data, tmp_path / "one", "run", **SETTINGS, train__batch="2"))

    alone = command(data, tmp_path / "two", "run", **SETTINGS, train__batch="1")
    # What `accelerate launch` runs for several GPUs; for CPUs it insists on MPI.
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    launch += ["--master-port", str(free_port())]
    run([*launch, *alone[1:]])

    one = load_file(tmp_path / "one" / "run" / "run.safetensors")
    two = load_file(tmp_path / "two" / "run" / "run.safetensors")
    alike = losses(tmp_path / "one" / "run")
    assert losses(tmp_path / "two" / "run") == near(alike, len(alike) * NETWORK)
    up = [name for name in one if "lora_up" in name]
    assert all(float(one[name].abs().max()) > 0 for name in up), "nothing was learned"
    assert_near(two, one, len(alike) * NETWORK)


ASKING = """
import torch
from lorasmith.training.setup.processes import Processes

processes = Processes(torch.device("cpu"))
assert processes.count == 2


def forbidden(tensor):
    raise AssertionError("the device was asked")


processes.sum_ = forbidden
for answers in ((False, False), (True, False), (False, True), (True, True)):
    assert processes.any(answers[processes.rank]) is any(answers)
"""


@pytest.mark.slow
def test_processes_agree_without_asking_their_devices(tmp_path: Path) -> None:
    """Every step asks whether anyone wants to stop; over GPUs that would wait for the step."""
    script = tmp_path / "ask.py"
    script.write_text(ASKING, encoding="utf-8")
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    run([*launch, "--master-port", str(free_port()), str(script)])


@pytest.mark.broad
def test_accelerate_launch(tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "data", images=2)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    run([*launch, *command(data, tmp_path / "out", "run", train__epochs="1")[1:]])
    assert (tmp_path / "out" / "run" / "run.safetensors").exists()
