"""What only PyTorch tells: its build, the device, a training step in each precision.

Run in a process of its own, which writes each stage's result to a file as it comes: a library that
ends the process, or never comes back, then takes that stage with it and nothing else.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lorasmith.advice.doctor.computer import Device, Torch, Trial
from lorasmith.core.errors import UserError
from lorasmith.core.telemetry import switch_off_telemetry

# What libraries raise where a machine lacks something.
FAILURES = (
    AssertionError, AttributeError, ImportError, NotImplementedError, OSError, RuntimeError,
    TypeError, ValueError,
)  # fmt: skip

BITSANDBYTES = "bitsandbytes"
LIBRARIES = ("torch.utils.tensorboard", "onnxruntime", "diffusers", "transformers", "accelerate")
"""That a training or a tagger imports, and whose own needs often clash."""

# Of a layer as SD 1.5 has them at 512 px: a convolution 320 -> 320 of 3 x 3, here on a quarter of
# its 64 x 64 latent pixels, forward and backward. The demo model's layers are too small to tell how
# quick a precision is.
CHANNELS, SIDE, REPEATS = 320, 32, 3
MEGABYTE = 10**6
SIZE_OF_SD15 = 860_000_000  # weights of its denoiser


class Probe:
    """
    Args:
        device: as in ``performance.device``.
    """

    def __init__(self, device: str) -> None:
        self._asked = device
        self._seconds: dict[str, float] = {}

    def stages(self) -> dict[str, Callable[[], Any]]:
        """In the order in which they are run; "torch" and "device" are needed by all others."""
        steps = {name: (lambda name=name: self._step(name)) for name in STEPS}
        return {
            "torch": self._torch,
            "device": self._device,
            BITSANDBYTES: self._bitsandbytes,
            "libraries": self._libraries,
            **steps,
            "VAE": self._vae,
            "8-bit optimizer": self._eight_bit,
        }

    def _torch(self) -> Torch:
        import numpy as np
        import torch

        problem = ""
        try:
            torch.from_numpy(np.zeros(1)).numpy()
        except FAILURES as error:
            problem = _line(error)
        return Torch(
            version=torch.__version__,
            cuda=torch.version.cuda or "",
            hip=torch.version.hip or "",
            xpu=bool(getattr(torch.version, "xpu", None)),
            mps=torch.backends.mps.is_built(),
            architectures=tuple(torch.cuda.get_arch_list()) if torch.version.cuda else (),
            threads=torch.get_num_threads(),
            numpy_problem=problem,
            folder=str(Path(torch.__file__).parents[1]),
        )

    def _device(self) -> Device:
        import torch

        from lorasmith.tensors.device import (
            choose_device,
            choose_precision,
            describe_machine,
            free_memory,
        )
        from lorasmith.tensors.quantization import quantizes_on
        from lorasmith.training.setup.hardware import compiler_problem

        try:
            self.device = choose_device(self._asked)
            machine = describe_machine(self.device)
        except UserError as error:
            self.device = torch.device("cpu")
            return Device(problem=error.problems[0].what)
        except FAILURES as error:
            self.device = torch.device("cpu")
            return Device(problem=_line(error))
        precision = choose_precision("auto", self.device, SIZE_OF_SD15)
        self._machine, self._precision = machine, precision
        is_gpu = self.device.type in ("cuda", "xpu")
        total = None
        if self.device.type == "cuda":
            total = torch.cuda.mem_get_info(self.device)[1]
        problem = ""
        if self.device.type == "cpu" and torch.version.cuda and self._asked in ("auto", "cuda"):
            # Says why: no driver, one that is too old, cards that are hidden.
            try:
                torch.empty(0, device="cuda")
            except FAILURES as error:
                problem = _line(error)
        return Device(
            kind=machine.kind,
            name=machine.name,
            bf16=machine.bf16,
            fp16_breaks=machine.fp16_breaks,
            small_floats=quantizes_on(self.device),
            capability=machine.capability,
            precision=precision.name,
            precision_reason=precision.reason,
            attention=self._attention(),
            free=free_memory(self.device),
            total=total,
            compiler_problem=compiler_problem(machine),
            cards=torch.accelerator.device_count() if is_gpu else 1,
            problem=problem,
        )

    def _attention(self) -> tuple[str, ...]:
        """Kernels that one head-sized attention goes through, forward and backward."""
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel
        from torch.nn.functional import scaled_dot_product_attention

        kernels = {
            "flash": SDPBackend.FLASH_ATTENTION,
            "cuDNN": SDPBackend.CUDNN_ATTENTION,
            "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
            "math": SDPBackend.MATH,
        }
        working = []
        for name, kernel in kernels.items():
            # SD 1.5's heads are of 40, 80 and 160 numbers.
            query = torch.zeros(
                1, 8, 64, 40, device=self.device, dtype=self._precision.dtype, requires_grad=True
            )
            try:
                with sdpa_kernel([kernel]), warnings.catch_warnings(action="ignore"):
                    scaled_dot_product_attention(query, query, query).sum().backward()
            except FAILURES:
                continue
            working.append(name)
        return tuple(working)

    def _libraries(self) -> dict[str, str]:
        problems = {}
        switch_off_telemetry()
        for name in LIBRARIES:
            if importlib.util.find_spec(name.partition(".")[0]) is None:
                continue  # That it is missing is told by the packages.
            try:
                importlib.import_module(name)
            except FAILURES as error:
                problems[name] = _line(error)
        return problems

    def _step(self, name: str) -> Trial:
        """Two training steps of a LoRA on the demo model, and a layer's time."""
        from lorasmith.tensors.device import choose_precision

        precision, weights = STEPS[name]
        try:
            chosen = choose_precision(precision, self.device, SIZE_OF_SD15)
        except UserError as error:
            return Trial(skipped=error.problems[0].what)
        if weights != "none" and not _quantizes(self.device):
            return Trial(skipped="needs 8-bit floats, which PyTorch does not have on this device")
        try:
            finite = self._train(chosen.dtype, weights)
            ratio = None
            if weights == "none":
                self._seconds[name] = self._layer_seconds(chosen.dtype)
                ratio = self._seconds[name] / self._seconds.get("fp32", math.inf) or None
        except FAILURES as error:
            return Trial(finite=False, problem=_line(error))
        return Trial(finite, ratio)

    def _train(self, dtype: Any, weights: str) -> bool:
        import torch

        from lorasmith.adapters.network import AdapterNetwork
        from lorasmith.config.load import load_settings
        from lorasmith.diffusion.global_batch import GlobalBatch
        from lorasmith.models.load import Loading
        from lorasmith.models.open import open_checkpoint
        from lorasmith.models.placement import WeightPlacement
        from lorasmith.training.lr_schedules import learning_rate
        from lorasmith.training.objective import MicroBatch, build_objective
        from lorasmith.training.optim import build_optimizer, flat_groups
        from lorasmith.training.setup.processes import Processes
        from lorasmith.training.step import TrainStep

        loading = Loading(
            open_checkpoint("demo"),
            dtype=dtype,
            device=self.device,
            placement=WeightPlacement(weights),
        )
        model = loading.model
        loading.fill(*model.architecture.family.parts)
        network = AdapterNetwork.create(model.adapter_roots(), rank=4, conv_rank=4)
        network.attach()
        pieces = [(group.name, group.parameters, 1e-3) for group in network.parameter_groups()]
        groups = flat_groups("AdamW", pieces, dtype)
        settings = load_settings(None)
        scaled = dtype == torch.float16
        step = TrainStep(
            model,
            network,
            groups,
            build_optimizer("AdamW", groups, {}),
            learning_rate(settings, 10),
            build_objective(settings, model),
            Processes(self.device),
            scaler=torch.amp.GradScaler(self.device.type) if scaled else None,
        )
        architecture = model.architecture
        side = architecture.native_resolution // architecture.latent_factor
        shape = (2, architecture.latent_channels, side, side)
        samples = [0, 1]
        batch = MicroBatch(
            torch.randn(shape, generator=torch.Generator().manual_seed(0)),
            torch.zeros(shape),
            lambda: model.encode_text(["zorp, standing", ""]),
            torch.ones(2),
            samples,
            whole=GlobalBatch.of_strangers(samples),
        )
        losses = [float(step(number, [batch], 2).loss) for number in range(2)]
        finite = all(map(math.isfinite, losses))
        return finite and all(bool(group.flat.isfinite().all()) for group in groups)

    def _layer_seconds(self, dtype: Any) -> float:
        """The median of some passes, forward and backward, after one that counts for nothing."""
        import torch

        layer = torch.nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, device=self.device, dtype=dtype)
        x = torch.randn(
            1, CHANNELS, SIDE, SIDE, device=self.device, dtype=dtype, requires_grad=True
        )
        seconds = []
        for _ in range(1 + REPEATS):
            start = time.perf_counter()
            layer(x).sum().backward()
            if self.device.type != "cpu":
                torch.accelerator.synchronize(self.device)
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds[1:])

    def _vae(self) -> Trial:
        """An image through the demo's VAE and back, in fp32 as lorasmith has it, then in the half
        precision of the device."""
        import torch

        from lorasmith.models.load import load_model

        try:
            if not self._there_and_back(load_model("demo", device=self.device)):
                return Trial(finite=False, problem="fp32 gives numbers that are not finite")
            half = torch.bfloat16 if self.device.type == "cpu" else torch.float16
            if not self._there_and_back(
                load_model("demo", dtype=half, device=self.device, vae_dtype=half)
            ):
                return Trial(finite=False)
        except FAILURES as error:
            return Trial(finite=False, problem=_line(error))
        return Trial()

    def _there_and_back(self, model: Any) -> bool:
        import torch

        side = model.architecture.native_resolution
        numbers = torch.Generator().manual_seed(0)
        pixels = torch.rand(1, 3, side, side, generator=numbers) * 2 - 1
        with torch.no_grad():
            mean, _ = model.encode_images(pixels)
            images = model.decode_latents(mean)
        return bool(mean.isfinite().all() and images.isfinite().all())

    def _bitsandbytes(self) -> Trial:
        """Imported by itself, and before diffusers, which does so wherever it is installed."""
        if importlib.util.find_spec(BITSANDBYTES) is None:
            return Trial(skipped="bitsandbytes is not installed")
        try:
            importlib.import_module(BITSANDBYTES)
        except FAILURES as error:
            hide(BITSANDBYTES)
            return Trial(problem=f"it cannot be imported: {_line(error)}")
        return Trial()

    def _eight_bit(self) -> Trial:
        from lorasmith.training.setup.hardware import eight_bit_fails

        if importlib.util.find_spec(BITSANDBYTES) is None:
            return Trial(skipped="bitsandbytes is not there")
        return Trial(problem=eight_bit_fails("AdamW8bit", {}, self.device))


STEPS = {
    "fp32": ("fp32", "none"),
    "fp16": ("fp16", "none"),
    "bf16": ("bf16", "none"),
    "fp8": ("auto", "fp8"),
    "nf4": ("auto", "nf4"),
}
"""What is computed in, and what the frozen weights are kept in (``train.base_precision``)."""


HIDDEN = "hide:"
"""Before the name of a module, among the names of stages: it is as if that were not installed."""


def hide(module: str) -> None:
    """Let importing a module fail as if it were not installed, so that what else it would end can
    be tried."""
    sys.modules[module] = None  # type: ignore[assignment]


def _quantizes(device: Any) -> bool:
    from lorasmith.tensors.quantization import quantizes_on

    return quantizes_on(device)


def _line(error: BaseException) -> str:
    """The first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def main(out: str, device: str, names: Sequence[str]) -> None:
    """Run stages and write a line of JSON before and after each.

    Args:
        out: the file that they go to.
        names: those of :meth:`Probe.stages`; "torch" and "device" among them. With :data:`HIDDEN`
            before them, of modules.
    """
    for name in names:
        if name.startswith(HIDDEN):
            hide(name.removeprefix(HIDDEN))
    stages = Probe(device).stages()
    with Path(out).open("a", encoding="utf-8") as file:

        def write(**record: Any) -> None:
            file.write(json.dumps(record) + "\n")
            file.flush()

        for name in (name for name in names if not name.startswith(HIDDEN)):
            write(stage=name)
            result = stages[name]()
            fields = asdict(result) if isinstance(result, Torch | Device | Trial) else result
            write(stage=name, result=fields)


def child_arguments(out: Path, device: str, names: Sequence[str]) -> list[str]:
    """Of a Python that does :func:`main`, wherever this package lies."""
    folder = str(Path(__file__).parents[3])
    code = (
        "import sys; folder = sys.argv.pop(1); sys.path += [folder] * (folder not in sys.path);"
        f" from {__name__} import main; main(sys.argv[1], sys.argv[2], sys.argv[3:])"
    )
    # -P: files in the current folder hide no module.
    return [sys.executable, "-P", "-c", code, folder, str(out), device, *names]
