"""A process that has imported a tree and its tests, and runs one test after the other with a file of the tree changed.

Each test runs in a fork of its own, which begins with all imports done: what has been imported from the changed file
gets the changed functions in place of its own. Where more than the insides of functions has changed, that is not
possible, and a cold process must import everything.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from types import CodeType, FunctionType
from typing import NamedTuple

from processes import SERVER

RAN = 100  # added to pytest's exit codes: 1 alone is that of any exception
OF_FUNCTIONS = 1  # a flag of code, not of modules and classes (inspect.CO_OPTIMIZED)


class Change(NamedTuple):
    """What a file said, which holds what it is to say."""

    path: Path
    before: str


def run_cold(tree: Path, test: str) -> tuple[int, str]:
    """RAN + exit code of pytest, and its output, in a process that has imported nothing of the tree."""
    output = tree.parent / "output.txt"
    process = SERVER.Process(target=_cold, args=(tree, test, output))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode, output.read_text()


class Warm:
    """The process, which has imported the test files and what they import."""

    def __init__(self, tree: Path, files: Iterable[str]):
        self.output = tree.parent / "output.txt"
        self.requests, theirs = SERVER.Pipe()
        self.process = SERVER.Process(target=_serve, args=(tree, sorted(files), self.output, theirs))
        self.process.start()
        theirs.close()
        self.requests.recv()  # nothing may change before it has imported all

    def run(self, test: str, change: Change | None = None) -> tuple[int, str] | None:
        """As `run_cold`; None where that has to do it."""
        self.requests.send((test, change))
        code = self.requests.recv()
        return None if code is None else (code, self.output.read_text())

    def close(self) -> None:
        self.requests.close()  # which it waits for
        self.process.join()


# -- in the processes --------------------------------------------------------------------------------------------------


def _enter(tree: Path, output: Path) -> None:
    import torch

    _print_to(output)
    assert not {"gle", "hrm", "bench"} & sys.modules.keys(), "the server has imported what is to be changed"
    for name in [n for n in os.environ if n.startswith("PYTEST")]:
        del os.environ[name]
    os.environ |= {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}  # of commands that a test runs
    sys.dont_write_bytecode = True  # what is compiled now must not be taken for the file as it will be
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    torch.set_num_threads(1)  # since several run side by side


def _print_to(output: Path) -> None:
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def _pytest(*arguments: str) -> int:
    import pytest

    return RAN + int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", *arguments]))


def _cold(tree: Path, test: str, output: Path) -> None:
    _enter(tree, output)
    sys.exit(_pytest(test))


def _serve(tree: Path, files: list[str], output: Path, requests: Connection) -> None:
    _enter(tree, output)
    code = _pytest("--collect-only", *files)
    assert code == RAN, f"the tests cannot be collected: {output.read_text()}"
    functions = Functions()
    gc.freeze()  # no child of ours need look at what was imported
    requests.send("ready")
    while True:
        try:
            test, change = requests.recv()
        except EOFError:
            return
        pairs = functions.changed(change) if change else []
        if pairs is None:
            requests.send(None)
            continue
        child = os.fork()
        if not child:
            code = 1
            try:
                _print_to(output)
                functions.exchange(pairs)
                code = _pytest(test)
                sys.stdout.flush()
            finally:
                os._exit(code)
        requests.send(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


class Functions:
    """Those that there are, by what they do."""

    def __init__(self) -> None:
        gc.unfreeze()  # or nobody finds them
        self.found: dict[CodeType, list[FunctionType]] = {}
        for thing in gc.get_objects():
            if type(thing) is FunctionType:
                self.found.setdefault(thing.__code__, []).append(thing)

    def exchange(self, pairs: list[tuple[CodeType, CodeType]]) -> None:
        """Lets all who have a function as it was have the one that is now."""
        for old, new in pairs:
            for function in self.found[old]:
                function.__code__ = new

    def changed(self, change: Change) -> list[tuple[CodeType, CodeType]] | None:
        """The functions that have changed, as they were and as they are; None where that is not all."""
        if not any(getattr(module, "__file__", None) == str(change.path) for module in list(sys.modules.values())):
            return []  # it will be imported as it is now
        texts = change.before, change.path.read_text()
        try:
            before, after = (compile(text, str(change.path), "exec", dont_inherit=True) for text in texts)
        except SyntaxError:  # which a cold process will find, too
            return None
        pairs = _changed(before, after)
        if pairs and all(old in self.found and old.co_freevars == new.co_freevars for old, new in pairs):
            return pairs
        return None


def _changed(before: CodeType, after: CodeType) -> list[tuple[CodeType, CodeType]] | None:
    """The outermost functions that differ, as they were and as they are; None where something else differs."""
    is_function = bool(before.co_flags & OF_FUNCTIONS)
    inner = [[c for c in code.co_consts if isinstance(c, CodeType)] for code in (before, after)]
    if _own(before) != _own(after):
        return [(before, after)] if is_function else None
    pairs: list[tuple[CodeType, CodeType]] = []
    for old, new in zip(*inner, strict=True):
        found = _changed(old, new)
        if found is None:
            return [(before, after)] if is_function else None
        pairs += found
    return [(before, after)] if is_function and pairs else pairs


def _own(code: CodeType) -> tuple[object, ...]:
    """What code is, but for where it stands and for the code in it."""
    constants = [c.co_name if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    names = code.co_name, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    return code.co_code, code.co_flags, code.co_argcount, code.co_kwonlyargcount, names, constants
