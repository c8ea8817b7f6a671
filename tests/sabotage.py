"""One-line sabotages of the core, each of which a named test must catch: `python tests/sabotage.py` runs them all.

Every sabotage is applied to a copy of the tree, where the named test must then fail (untouched, it passes in the
suite itself).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Sabotage(NamedTuple):
    name: str
    file: str
    line: str
    replacement: str
    test: str  # the test that must fail


FILTERS, SCHEME = "tests/theory/test_filters.py", "tests/theory/test_published_scheme.py"
CORE, LOCAL = "tests/contract/test_core.py", "tests/gradients/test_local_gradients.py"

SABOTAGES = [
    Sabotage(
        "time constants exchanged in the error path",
        "gle/integrators.py",
        "return prospective(v, e_inst, _neuron(p.tau_r), _neuron(p.tau_m))",
        "return prospective(v, e_inst, _neuron(p.tau_m), _neuron(p.tau_r))",
        f"{FILTERS}::test_error_filter_is_the_inverse",
    ),
    Sabotage(
        "time constants exchanged in the forward path",
        "gle/integrators.py",
        "return layer.phi.phi(prospective(u, current, _neuron(p.tau_m), _neuron(p.tau_r)))",
        "return layer.phi.phi(prospective(u, current, _neuron(p.tau_r), _neuron(p.tau_m)))",
        f"{FILTERS}::test_forward_transfer_function",
    ),
    Sabotage(
        "φ′ dropped",
        "gle/network.py",
        "inst.append(layer.phi.slope(r) * received)",
        "inst.append(received)",
        f"{LOCAL}::test_steady_state_is_backprop",
    ),
    Sabotage(
        "wrong φ′",
        "gle/neurons.py",
        'Activation("softplus", F.softplus, lambda r: -torch.expm1(-r))',
        'Activation("softplus", F.softplus, torch.sigmoid)',
        f"{LOCAL}::test_instantaneous_network_is_backprop",
    ),
    Sabotage(
        "the new u in the rate",
        "gle/integrators.py",
        "rates.append(rate(layer, p, s.u, current))",
        "rates.append(rate(layer, p, low_pass(s.u, current, _neuron(self.fraction(dynamics.dt, p.tau_m))), current))",
        f"{FILTERS}::test_forward_transfer_function",
    ),
    Sabotage(
        "sign of ΔW flipped",
        "gle/synapses.py",
        "return -torch.matmul(e.mT, r), -e.sum(-2)",
        "return torch.matmul(e.mT, r), -e.sum(-2)",
        f"{LOCAL}::test_gradients_of_the_energy",
    ),
    Sabotage(
        "sign of Δτm flipped",
        "gle/plasticity.py",
        'tau_m = (local.e * u_dot).sum(-2) / batch if "tau_m" in learn else None  # Eq. 23',
        'tau_m = -(local.e * u_dot).sum(-2) / batch if "tau_m" in learn else None  # Eq. 23',
        f"{LOCAL}::test_gradients_of_the_energy",
    ),
    Sabotage(
        "Δτr from the filtered error",
        "gle/plasticity.py",
        "tau_r = -(local.e_inst * u_dot)",
        "tau_r = -(local.e * u_dot)",
        f"{LOCAL}::test_prospective_time_constants",
    ),
    Sabotage(
        "feedback not transposed",
        "gle/synapses.py",
        "return torch.matmul(e, self.feedback.weights(W, B))",
        "return torch.matmul(e, self.feedback.weights(W, B) if W.shape[-1] != W.shape[-2] else W.mT)",
        f"{SCHEME}::test_euler_equals_transcription",
    ),
    Sabotage(
        "gradients summed, not averaged, over the batch",
        "gle/plasticity.py",
        'W / batch if "W" in learn else None,',
        'W if "W" in learn else None,',
        f"{SCHEME}::test_euler_equals_transcription",
    ),
    Sabotage(
        "the old error in the soma",
        "gle/integrators.py",
        "current = current + per_member(dynamics.gamma, e) * e",
        "current = current + per_member(dynamics.gamma, e) * s.e",
        f"{SCHEME}::test_euler_equals_transcription",
    ),
    Sabotage(
        "RK4 with the input of the beginning at its midpoint",
        "gle/integrators.py",
        "nodes, weights = (0, 1, 1, 2), (1 / 6, 1 / 3, 1 / 3, 1 / 6)",
        "nodes, weights = (0, 0, 1, 2), (1 / 6, 1 / 3, 1 / 3, 1 / 6)",
        "tests/theory/test_convergence.py::test_declared_order",
    ),
    Sabotage(
        "exponential error filter not matched",
        "gle/integrators.py",
        "low_pass(v, local.e, a), r, local.e)",
        "low_pass(v, local.e_inst, _neuron(self.fraction(dt, p.tau_r))), r, local.e)",
        f"{FILTERS}::test_error_after_forward_is_the_identity",
    ),
    Sabotage(
        "a delay too few in the sweep",
        "gle/sweep.py",
        'seen = _delay(s.r, r) if integrator.propagation == "delayed" else r',
        "seen = r",
        f"{CORE}::test_every_k_equals_summed_updates",
    ),
    Sabotage(
        "another error filter in the sweep",
        "gle/sweep.py",
        "a = _neuron(integrator.fraction(dt, p.tau_m) * p.tau_m / p.tau_r)",
        "a = _neuron(integrator.fraction(dt, p.tau_m))",
        f"{CORE}::test_every_k_equals_summed_updates",
    ),
    Sabotage(
        "synaptic filters exchanged",
        "gle/plasticity.py",
        "traces.append(Trace(low_pass(old.e, l.e, a_e), low_pass(old.pre, l.pre, a_pre)))",
        "traces.append(Trace(low_pass(old.e, l.e, a_pre), low_pass(old.pre, l.pre, a_e)))",
        f"{LOCAL}::test_synaptic_filters",
    ),
    Sabotage(
        "one learning rate for the whole ensemble",
        "gle/plasticity.py",
        "lr = learning.lr[kind][(...,) + (None,) * (value.ndim - 1 - len(net.ensemble))]",
        "lr = learning.lr[kind].mean()",
        f"{CORE}::test_ensemble_equals_loop",
    ),
    Sabotage(
        "Adam without its bias correction",
        "gle/plasticity.py",
        "rate = lr / (1 - beta1**step)",
        "rate = lr",
        f"{CORE}::test_optimisers_equal_torch",
    ),
    Sabotage(
        "feedback alignment with the transpose",
        "gle/synapses.py",
        "return B\n\n\nFEEDBACKS",
        "return W\n\n\nFEEDBACKS",
        f"{LOCAL}::test_feedback_alignment_uses_its_own_weights",
    ),
]


def run_test(tree: Path, test: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test]
    return subprocess.run(
        command, cwd=tree, capture_output=True, text=True, env={**_environment(), "PYTHONPATH": str(tree)}
    )


def _environment() -> dict[str, str]:
    import os

    return {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}


def caught(sabotage: Sabotage) -> tuple[bool, str]:
    """Whether the named test fails on the sabotaged tree; raises ValueError where the line is not there exactly
    once."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for part in ("gle", "tests"):
            shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", tree)
        path = tree / sabotage.file
        text = path.read_text()
        if text.count(sabotage.line) != 1:
            raise ValueError(
                f"{sabotage.name}: {sabotage.line!r} stands {text.count(sabotage.line)} times in {sabotage.file}"
            )
        path.write_text(text.replace(sabotage.line, sabotage.replacement))
        result = run_test(tree, sabotage.test)
        # exit code 1: tests ran and failed; anything else is an accident, not a catch
        return result.returncode == 1, result.stdout[-2000:] + result.stderr[-2000:]


def main() -> None:
    missed = 0
    for sabotage in SABOTAGES:
        ok, _ = caught(sabotage)
        missed += not ok
        print(f"{'caught' if ok else 'MISSED'}: {sabotage.name} ({sabotage.test})", flush=True)
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
