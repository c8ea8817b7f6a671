"""What people run: `python -m bench.<name>`."""

import importlib.util
import sys

if _missing := [m for m in ("jsonargparse", "matplotlib", "tqdm", "yaml") if importlib.util.find_spec(m) is None]:
    sys.exit(f'error: the benchmarks need {", ".join(_missing)}: pip install "gle-toolkit[bench]"')
