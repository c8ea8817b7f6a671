import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from studies import Finished, finished, launch, smoke_flags

sys.path.insert(0, str(Path(__file__).parent))  # for toy


@pytest.fixture(scope="session", autouse=True)
def _own_server(server):
    """Before a sweep has one."""


@pytest.fixture(scope="session")
def smoke(tmp_path_factory) -> Callable[[str], Finished]:
    """The smoke run of a study, made once for all tests."""
    made: dict[str, Finished] = {}

    def of(study: str) -> Finished:
        if study not in made:
            runs = tmp_path_factory.mktemp("runs")
            made[study] = finished(runs, launch(study, *smoke_flags(study, runs)))
        return made[study]

    return of
