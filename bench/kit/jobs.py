"""Many runs at once, each in a process of its own: on this machine, or on a Ray cluster."""

from __future__ import annotations

import contextlib
import importlib
import logging
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from bench.kit.folder import Stopped, write_atomically

log = logging.getLogger(__name__)


class Job(NamedTuple):
    """A run of the benchmark that ends the module, with these options, in a folder of the sweep's run folder."""

    module: str
    options: Any
    folder: Path


class Ended(NamedTuple):
    """error: what ended it early, or nothing. files: of its folder, from a machine that does not share it."""

    error: str
    files: dict[str, bytes]


Submit: TypeAlias = Callable[[Job], "Future[Ended]"]  # whose exception tells of a process or machine that was lost


# -- a job, wherever it runs -------------------------------------------------------------------------------------------


def begun(folder: Path) -> Path | None:
    """The run folder of a job."""
    return next((file.parent for file in sorted(folder.glob("*/*/config.yaml"))), None)


def done(folder: Path) -> Path | None:
    """The result file of a job that has come to its end."""
    run = begun(folder)
    return run / "result.json" if run is not None and (run / "result.json").exists() else None


def work(job: Job) -> Ended:
    """Runs a job, or goes on with it, as its benchmark's own command would. What it says goes to log.txt. An error is
    told, not raised: it is the job's, and no other's."""
    from bench.kit.benchmark import begin, complete  # takes longest to import, and is not needed to ask for jobs

    shared = (job.folder.parents[1] / "config.yaml").exists()
    with tempfile.TemporaryDirectory() as scratch:
        here = job.folder if shared else Path(scratch)
        here.mkdir(parents=True, exist_ok=True)
        error = ""
        with (
            open(here / "log.txt", "a", encoding="utf-8") as said,
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
        ):
            logging.basicConfig(stream=said, level=logging.INFO, format="%(message)s", force=True)
            try:
                benchmark = importlib.import_module(job.module).benchmark
                complete(benchmark, *begin(benchmark, replace(job.options, runs=here, resume=begun(here))))
            except Exception as raised:
                traceback.print_exc()
                kind = "" if isinstance(raised, (ValueError, Stopped)) else f"{type(raised).__name__}: "
                error = " ".join(f"{kind}{raised}".split()) or type(raised).__name__
        files = [] if shared else sorted(p for p in here.rglob("*") if p.is_file())
        return Ended(error, {p.relative_to(here).as_posix(): p.read_bytes() for p in files})


def received(job: Job, ended: Ended) -> None:
    """Writes files that came from another machine; the result last, which says that all are there."""
    for name, content in sorted(ended.files.items(), key=lambda item: item[0].endswith("result.json")):
        write_atomically(job.folder / name, lambda f, content=content: f.write(content))  # type: ignore[misc]


# -- on this machine ---------------------------------------------------------------------------------------------------

# a server that has imported what takes long, and forks for each job, where the system can
CONTEXT: Any = multiprocessing.get_context(
    "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
)


@contextlib.contextmanager
def on_this_machine(processes: int, preload: Sequence[str] = ()) -> Iterator[Submit]:
    """So many jobs at a time. Those that still run at the end are killed: they can be gone on with. preload: modules
    that the jobs need."""
    running: set[BaseProcess] = set()
    starting, closed = threading.Lock(), False

    def alone(job: Job) -> Ended:
        receive, send = CONTEXT.Pipe(duplex=False)
        process = CONTEXT.Process(target=_answer, args=(send, job, dict(os.environ)))
        with starting:
            if closed:
                raise Stopped("the sweep ends")
            process.start()
            running.add(process)
        send.close()
        try:
            return receive.recv()
        except EOFError:
            process.join()
            raise Stopped(_lost(process.exitcode)) from None
        finally:
            process.join()
            running.discard(process)
            receive.close()

    if CONTEXT.get_start_method() == "forkserver":
        CONTEXT.set_forkserver_preload([__name__, "bench.kit.benchmark", *preload])
        with _deaf():
            multiprocessing.forkserver.ensure_running()
    with ThreadPoolExecutor(processes) as pool:
        try:
            yield lambda job: pool.submit(alone, job)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            with starting:
                closed = True
            for process in list(running):
                process.kill()


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """What begins here ignores Ctrl-C from its first moment on: a server that is still importing would tell of it in a
    traceback."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the first thread's
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _lost(code: int | None) -> str:
    killed = code is not None and code < 0
    how = f"was killed by signal {-code} ({signal.Signals(-code).name})" if killed else f"ended with {code}"  # type: ignore[operator]
    return f"its process {how}" + (": was memory short?" if killed and code == -signal.SIGKILL else "")


def _answer(send: Connection, job: Job, environment: dict[str, str]) -> None:
    os.environ.update(environment)  # the server may have begun with another one
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the first process decides what ends
    threading.Thread(target=_end_with_parent, daemon=True).start()
    send.send(work(job))


def _end_with_parent() -> None:
    """A job whose sweep was killed must not go on writing where a resumed one will write."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


# -- on a cluster ------------------------------------------------------------------------------------------------------

PACKAGES = ("bench", "gle", "hrm")
TRIES = 3  # of a job that is lost with its process or machine, after the first


@contextlib.contextmanager
def on_ray(address: str, cpus: int, gpus: float) -> Iterator[Submit]:
    """As many jobs at a time as the cluster has room for, each with so many CPUs and GPUs; an empty address starts Ray
    on this machine alone. What is lost with a machine is begun again on another, or gone on with where both share the
    sweep's run folder. Our own packages travel with the jobs. Raises Stopped where there is no such cluster."""
    import ray

    sources = [str(Path(sys.modules[p].__file__ or "").parent) for p in PACKAGES if importlib.import_module(p)]
    environment = {"py_modules": sources, "excludes": ["results", "__pycache__"]}
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, runtime_env=environment)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise Stopped(f"no Ray cluster answers at {address or 'this machine'}: {error}") from error
    try:
        asked = {"CPU": cpus, "GPU": gpus}
        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(all(node.get(kind, 0) >= number for kind, number in asked.items()) for node in alive):
            log.warning("no machine of the cluster has %d CPUs and %g GPUs yet: waiting for one", cpus, gpus)
        remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=TRIES, max_calls=1)(work)
        yield lambda job: remote.remote(job).future()
    finally:
        ray.shutdown()
