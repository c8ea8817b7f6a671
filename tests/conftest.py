import gc
import multiprocessing
import os
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import processes

# how well the C++ compiler optimises is not ours to test, and takes it half of its time; read when it first compiles
os.environ.setdefault("TORCHINDUCTOR_DEBUG_COMPILE", "1")
torch.set_num_threads(1)  # for what is set up before the first test, too
os.fsync = lambda file: None  # no machine loses its power here, and files are written by the thousand


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", help="device of the tests that take one: cpu, cuda, …")


SHARES = 12  # into which the sabotages are divided
KILLS = "test_kills.py"


def pytest_configure(config):
    """xdist would begin with the groups of most tests, which are not those that take longest."""
    config.option.loadscopereorder = False


@pytest.hookimpl(tryfirst=True)  # before xdist looks for the groups
def pytest_collection_modifyitems(config, items):
    """`-m device`: the tests that `--device` is for. With several workers (`--dist loadgroup`) the tests of a file stay
    together, as they share what they made; but sabotages share nothing, and commands what one benchmark made: small
    groups, which come last, so that no worker waits for another. Kills, the longest tests, come first."""
    shared = config.pluginmanager.hasplugin("xdist")
    items.sort(key=lambda item: item.path.name != KILLS)
    for n, item in enumerate(items):
        if shared:
            item.add_marker(pytest.mark.xdist_group(_group(item, n)))
        if "device" in getattr(item, "fixturenames", ()):
            item.add_marker("device")


def _group(item, n):
    name = item.path.as_posix().removeprefix(f"{Path(__file__).parent.as_posix()}/")
    if name in ("test_sabotage.py", KILLS):
        return f"{name} {n % SHARES}"
    command = getattr(item, "callspec", None) and item.callspec.params.get("command")
    if name == "commands/test_commands.py" and isinstance(command, str):
        return next((word for word in command.split() if word.startswith("bench.")), name)
    return name


def pytest_collection_finish(session):
    """What was imported is no garbage, and need not be searched for it again and again: measurements of memory and
    PyTorch's compiler collect it all the time. And groups must be groups: where each test goes to any worker, what
    tests share is made by every worker, which takes half as long again."""
    if getattr(session.config.option, "loadgroup", False) and not all("@" in item.nodeid for item in session.items):
        raise pytest.UsageError("pytest-xdist does not see the groups of tests with this version of pytest")
    gc.freeze()


def pytest_runtest_logfinish():
    """The compiler is imported late, and large. A process that was forked has it from its parent."""
    if "torch._dynamo" in sys.modules and not compiler_frozen and multiprocessing.parent_process() is None:
        compiler_frozen.append(True)
        gc.collect()
        gc.freeze()


compiler_frozen: list[bool] = []


@pytest.fixture(scope="session")
def server():
    processes.begun()


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
