"""A handful of the kills of `kills.py`, at moments that are the same each time."""

import pytest
from kills import COMMANDS, differences, survive


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_killed_runs_are_those_left_alone(command, tmp_path):
    """Prevents: a checkpoint that lacks what a resumed run needs, and files that a kill cuts."""
    assert survive(command, 2, 0, folder=tmp_path).kills == 2


def test_differences_are_found():
    """Prevents: a comparison that cannot fail."""
    import torch

    one = {"a": [1, {"w": torch.ones(3), "seconds": 1.0}], "b": float("nan")}
    same = {"a": [1, {"w": torch.ones(3), "seconds": 2.0}], "b": float("nan")}
    assert not list(differences(one, same))
    for other in (
        {"a": [1, {"w": torch.ones(3) + 1e-7, "seconds": 1.0}], "b": float("nan")},
        {"a": [1, {"w": torch.ones(3), "seconds": 1.0}], "b": 0.0},
        {"a": [2, {"w": torch.ones(3), "seconds": 1.0}], "b": float("nan")},
        {"a": [1], "b": float("nan")},
        {"a": [1, {"w": torch.ones(3), "seconds": 1.0}]},
    ):
        assert len(list(differences(one, other))) == 1
