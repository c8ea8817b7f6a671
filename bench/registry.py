"""Every benchmark: its name, with that of a subcommand, and the module that ends with it. Nothing is imported before it
is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.kit.benchmark import Benchmark

MODULES = {
    "mnist1d": "bench.mnist1d",
    "gsc": "bench.gsc",
    "mackey_glass": "bench.mackey_glass",
    "frequency_response": "bench.frequency_response",
    "receptive_fields": "bench.receptive_fields",
    "teacher_student chain": "bench.teacher_student.chain",
    "teacher_student small": "bench.teacher_student.small",
    "gradient_map": "bench.gradient_map",
    "recurrent": "bench.recurrent",
    "credit": "bench.credit",
    "error_timing": "bench.error_timing",
    "speed": "bench.speed",
    "device": "bench.device",
    "sudoku": "bench.sudoku",
    "maze": "bench.maze",
    "arc": "bench.arc",
    "gradients": "bench.gradients",
    "hrm_dynamics": "bench.hrm_dynamics",
    "depth_width": "bench.depth_width",
    "hrm_speed": "bench.hrm_speed",
    "compare": "bench.compare",
    "sweep": "bench.sweep",
}


def benchmark(name: str) -> Benchmark:
    """Raises ValueError for a name that is none."""
    if name not in MODULES:
        raise ValueError(f"there is no benchmark {name!r} in bench/registry.py; choose one of {', '.join(MODULES)}")
    return importlib.import_module(MODULES[name]).benchmark
