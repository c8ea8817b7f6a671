import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import speed


def test_smoke(tmp_path, capsys):
    speed.main(speed.Options(quick=True, out=tmp_path))
    assert "ratio" in capsys.readouterr().out
    (file,) = tmp_path.glob("*.json")
    rows = json.loads(file.read_text())["rows"]
    assert {r["row"] for r in rows} == {"train", "evaluate 1000"}
    assert all(r["ms"] > 0 and r["floor_ms"] > 0 for r in rows)


@pytest.mark.slow
def test_divided_ensemble():
    """Shares of different size, each in a process of its own."""
    row = speed.divided_row("15k", 3, "eager", 2, speed.Options(turns=1))
    assert row["threads"] == 2
    assert row["per_seed_ms"] == pytest.approx(row["ms"] / 3)
    assert row["ms"] > row["floor_ms"] > 0


def test_flags():
    """Prevents: flags that only the module's own main() understands."""
    command = [sys.executable, "-m", "bench.speed", "--help"]
    printed = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True).stdout
    for flag in ("--threads", "--ensembles", "--quick", "--out"):
        assert f" {flag} " in printed
