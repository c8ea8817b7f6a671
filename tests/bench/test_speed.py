import json
import subprocess
import sys
from pathlib import Path

from bench import speed


def test_smoke(tmp_path, capsys):
    speed.main(speed.Options(quick=True, out=tmp_path))
    assert "ratio" in capsys.readouterr().out
    (file,) = tmp_path.glob("*.json")
    rows = json.loads(file.read_text())["rows"]
    assert {r["row"] for r in rows} == {"train", "evaluate 1000"}
    assert all(r["ms"] > 0 and r["floor_ms"] > 0 for r in rows)


def test_flags():
    """Prevents: flags that only the module's own main() understands."""
    command = [sys.executable, "-m", "bench.speed", "--help"]
    printed = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True).stdout
    for flag in ("--threads", "--ensembles", "--quick", "--out"):
        assert f" {flag} " in printed
