"""What can train an adapter is found out before anything is loaded, with the reason where not."""

from __future__ import annotations

from typing import Any

import pytest

from lorasmith.config.optimizers import OPTIMIZERS, catalogue
from lorasmith.core.errors import SettingsError
from lorasmith.training.setup.check_optimizer import check_optimizer


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_all_of_the_table_pass(name: str) -> None:
    if OPTIMIZERS[name].package == "bitsandbytes":
        pytest.importorskip("bitsandbytes")
    check_optimizer(name, {})


@pytest.mark.parametrize(
    ("name", "args", "where", "what"),
    [
        ("AdamW", {"betas": (0.9, 1.5)}, "optimizer.args", "Invalid beta"),
        ("AdamW", {"betas": 0.9}, "optimizer.args", "AdamW"),
        ("Prodigy", {"d0": -1}, "optimizer.args", "Invalid d0"),
        ("torch.optim.RMSprop", {"alpah": 0.9}, "optimizer.args", "did you mean alpha?"),
        ("torch.optim.RMSprop", {"lr": 0.9}, "optimizer.args", "set optimizer.lr"),
        ("torch.optim.RMSProp", {}, "optimizer.name", "did you mean torch.optim.RMSprop?"),
        ("torch.optim.LBFGS", {}, "optimizer.name", "closure"),
        ("torch.nn.Linear", {}, "optimizer.name", "write it as module.Class"),
        ("no_such_library.Adam", {}, "optimizer.name", "pip install no-such-library"),
    ],
)
def test_what_does_not_fit_is_said(name: str, args: dict[str, Any], where: str, what: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check_optimizer(name, args)
    (problem,) = caught.value.problems
    assert problem.where == where
    assert what in str(problem)
    assert problem.hint


def test_one_that_draws_from_a_hidden_generator_is_refused() -> None:
    """It would not go on from a saved state as if it had not stopped."""
    pytest.importorskip("pytorch_optimizer")
    with pytest.raises(SettingsError, match="as if it had not stopped"):
        check_optimizer("pytorch_optimizer.Kron", {})


UNFIT = {
    *("LBFGS", "AliG"),  # Need a closure.
    *("AdaHessian", "SophiaH"),  # Need second derivatives.
    *("LOMO", "AdaLOMO", "AdamMini"),  # Need the model itself.
    *("BSAM", "Ranger21"),  # Need to know the number of samples or steps.
    *("DeMo", "DistributedMuon"),  # Reduce gradients between processes themselves.
    *("AdaShift", "Conda", "SCION", "SCIONLight", "ScalableShampoo"),  # Have code in their state.
    *("Kron", "Magma"),  # Draw random numbers.
}


@pytest.mark.slow
def test_the_catalogue_trains_but_for_those_that_cannot() -> None:
    """A quarter of it, and all that are known not to."""
    pytest.importorskip("pytorch_optimizer")
    tried = {*catalogue()[::4], *UNFIT.intersection(catalogue())}
    refused = set()
    for name in tried:
        try:
            check_optimizer(f"pytorch_optimizer.{name}", {})
        except SettingsError:
            refused.add(name)
    assert refused <= UNFIT
    assert len(tried - refused) > 20
