import pytest

from bench.learning import timing


@pytest.mark.slow
def test_divided_ensemble():
    """Shares of different size, each in a process of its own."""
    row = timing.divided_row("15k", 3, "eager", 2, timing.Timing(turns=1, steps=24))
    assert row["threads"] == 2
    assert row["per_seed_ms"] == pytest.approx(row["ms"] / 3)
    assert row["ms"] > row["floor_ms"] > 0
