"""The frame of a benchmark that measures and ends: options from flags, a run folder, errors in one line."""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser

from bench.files import Run, SaveError, environment

log = logging.getLogger(__name__)


def launch(
    name: str, options: type, measure: Callable[[Any], dict[str, Any]], report: Callable[[dict, Path], str], argv=None
) -> Path:
    """Parses flags into the dataclass `options`, measures, and writes config.yaml, env.json, result.json; then
    `report` draws figures into the run folder and returns the text to print. Returns the folder.

    options must have the fields runs (folder of the run folders) and smoke, and a method `shortened`.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    p = ArgumentParser(prog=f"python -m bench.{name}", description=(options.__doc__ or "").splitlines()[0])
    p.add_class_arguments(options, as_group=False)
    o = options(**p.instantiate(p.parse_args(argv)).as_dict())
    o = o.shortened() if o.smoke else o
    torch.set_num_threads(1)  # single neurons and small layers are fastest with one
    try:
        with torch.no_grad():
            result = measure(o)
        cpu, settings = torch.device("cpu"), json.loads(json.dumps(dataclasses.asdict(o), default=str))
        run = Run.create(o.runs, name, yaml.safe_dump(settings, sort_keys=False), cpu)
        run.finish({"name": name, "config": settings, "environment": environment(cpu)} | result)
        print(report(result, run.path))
    except (ValueError, FloatingPointError, SaveError) as error:  # expected: said in one line, without a traceback
        sys.exit(f"error: {error}")
    log.info("results: %s", run.path)
    return run.path
