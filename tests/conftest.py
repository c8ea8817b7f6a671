import gc
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
torch.set_num_threads(1)  # for what is set up before the first test, too


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", help="device of the tests that take one: cpu, cuda, …")


def pytest_collection_modifyitems(items):
    """`-m device`: the tests that `--device` is for."""
    for item in items:
        if "device" in getattr(item, "fixturenames", ()):
            item.add_marker("device")


def pytest_collection_finish():
    """What was imported is no garbage, and need not be searched for it again and again: measurements of memory and
    PyTorch's compiler collect it all the time."""
    gc.freeze()


def pytest_runtest_logfinish():
    """The compiler is imported late, and large."""
    if "torch._dynamo" in sys.modules and not compiler_frozen:
        compiler_frozen.append(True)
        gc.collect()
        gc.freeze()


compiler_frozen: list[bool] = []


@pytest.fixture
def device(request):
    return request.config.getoption("--device")


@pytest.fixture(autouse=True)
def one_thread():
    """Products of this size are fastest, and sums reproducible, with one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
