"""Google Speech Commands (§2.7.2, Fig. 8e, Tables 1 and 3): GLE networks that learn to spot keywords online, beside an
MLP, a TCN, a GRU and an LSTM.

    python -m bench.gsc --data speech_commands                                                  a row for each model
    python -m bench.gsc --data speech_commands --config configs/gsc/gle_52k.yaml --seeds 3      one row
    python -m bench.gsc --config configs/gsc/gle_52k.yaml --smoke true    seconds, with words of its own
    python -m bench.gsc --listen recording.wav --weights runs/gsc/<folder>/network.pt           what a network hears

The folder is the published archive (version 0.01 or 0.02), whole or in part, unpacked: `--download 0.02` fetches it
into the folder named. `GSC_DATA` may name it once for all.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Optional

import numpy as np
import torch

import gle
from bench.data import audio
from bench.data import speech_commands as data
from bench.data.cache import cache_dir
from bench.data.series import Form, Frames, Labelled, Split, steps_of
from bench.data.speech_commands import Augmentation, Features
from bench.kit import figures
from bench.kit.benchmark import Benchmark, Rows, main
from bench.kit.figures import Drawn, plt
from bench.kit.folder import Run, write_atomically
from bench.kit.tables import Table, mean_std
from bench.learning import listening
from bench.learning import options as learning
from bench.learning.run import DIVIDE, SCORE, learn, learning_curves, ordered, table, trainer_of
from bench.learning.trainers import Online, Trainer
from bench.models import speech
from bench.models.populations import ONLINE, Model

# Published results (mean, std, in %): Table 3, for twelve classes
PUBLISHED = {
    "gle": (91.44, 0.23),
    "mlp": (88.00, 0.25),
    "tcn": (92.32, 0.28),
    "gru": (94.93, 0.25),
    "lstm": (94.00, 0.19),
}
CURVE = {1: 42.9, 10: 56.6, 50: 71.2, 100: 80.5, 150: 86.3, 420: 91.4}  # epoch → validation accuracy of its GLE network


@dataclass
class Speech(learning.Learning):
    """One row of the table. The time unit is a frame.

    Args:
        data: the folder of the words; by default what the environment's GSC_DATA names.
        download: a version of the published archive, fetched into `data` first.
        classes: the ten published commands (as many as there are) beside unknown words and silence, or every word.
        split_by: the folder's lists, the published hash of the speaker, or the lists where there are any; both say the
            same.
        test_data: folder of a second test set, with a folder for each class: the published test archive.
        features: what the network sees of a clip.
        augmentation: of the training clips.
        lags: frames, by each of which a copy of the features lies behind, as further inputs.
        gated: instants count, in the cost and in the readout, as much as a gate on the sound's level says.
        size: of a baseline: small, for a part of the data, or as published.
        listen: a recording to hear what a trained network makes of it.
        weights: of that network: network.pt of a run.
    """

    name: str = "gle_52k"
    data: Optional[Path] = None
    download: Optional[Literal["0.01", "0.02"]] = None
    classes: Literal["commands", "words"] = "commands"
    split_by: Literal["auto", "lists", "hash"] = "auto"
    test_data: Optional[Path] = None
    features: Features = field(default_factory=Features)
    augmentation: Augmentation = field(default_factory=Augmentation)
    lags: list[int] = field(default_factory=list)
    gated: bool = True
    size: Literal["small", "published"] = "small"
    model: Model = field(
        default_factory=lambda: Model(
            populations=[(30, 2.4, 2.4), (30, 1.0, 1.0), (30, 2.0, 1.0), (30, 4.0, 1.0), (30, 8.0, 1.0)],
            hidden_layers=3,
            output_tau=2.4,
            weight_gain=2.2,
            bias_gain=0.3,
        )
    )
    training: learning.Training = field(default_factory=learning.Training)
    dt: float = 1.0
    block: int = 1
    readout: Literal["sum", "mean", "vote", "last", "best"] = "best"
    seed_list: list[int] = field(default_factory=lambda: list(range(10)))
    listen: Optional[Path] = field(default=None, metadata={"of_call": True})
    weights: Optional[Path] = field(default=None, metadata={"of_call": True})


WHERE = """where are the words? Give --data a folder that holds them (or set GSC_DATA), with a folder for each word.
The published archive: --data speech_commands --download 0.02 fetches it (2.3 GB) and unpacks it there.
To try the command without it: --smoke true, which makes some words of its own."""


def settled(o: Speech) -> Speech:
    if o.data is None and (named := os.environ.get("GSC_DATA")):
        return dataclasses.replace(o, data=Path(named).absolute())
    return o


def corpus_of(o: Speech) -> data.Corpus:
    """Raises ValueError where there is none."""
    if o.data is None:
        raise ValueError(WHERE)
    if o.download is not None and not (o.data.is_dir() and any(o.data.iterdir())):
        data.download(o.data, o.download)
    if o.smoke and not o.data.exists():
        with tempfile.TemporaryDirectory(dir=_made(o.data.parent)) as where:
            data.synthesise(Path(where) / "words")
            if not o.data.exists():
                shutil.move(Path(where) / "words", o.data)
    return data.read(o.data, o.split_by)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def form(o: Speech, classes: int) -> Form:
    """Of what the network sees: steps of dt for GLE, frames for the baselines."""
    frames = o.features.frames
    steps = steps_of(frames, o.dt) if o.model.kind in ONLINE else frames
    return Form(steps, o.features.size * (1 + len(o.lags)), classes)


def check(o: Speech) -> None:
    """Complains before any work is done: ValueError with the value and the fix."""
    f, a = o.features, o.augmentation
    least = {"size": (f.size, 1), "window": (f.window, 2), "hop": (f.hop, 1), "variants": (a.variants, 0)}
    for name, (value, bound) in least.items():
        if value < bound:
            raise ValueError(f"{name} must be at least {bound}, got {value}")
    if f.window % 2:
        raise ValueError(f"window must be even, got {f.window}")
    if f.window > data.CLIP:
        raise ValueError(f"window must not be longer than a clip of {data.CLIP} samples, got {f.window}")
    if f.kind == "mfcc" and f.size > 40:
        raise ValueError(f"size must be at most 40, the mel bands behind the MFCCs, got {f.size}")
    if not 0 <= a.probability <= 1 or not 0 <= a.volume <= 1:
        raise ValueError(f"probability and volume must lie between 0 and 1, got {a.probability:g} and {a.volume:g}")
    if not 0 <= a.shift < data.CLIP:
        raise ValueError(f"shift must lie between 0 and the {data.CLIP} samples of a clip, got {a.shift}")
    if wrong := [lag for lag in o.lags if not 0 < lag < f.frames]:
        raise ValueError(f"lags must lie between 1 and the {f.frames} frames of a clip, got {wrong[0]}")
    if o.gated and f.kind == "mfcc" and o.model.kind in ONLINE:
        raise ValueError("the gate is on the level of log_mel features: give gated=false for mfcc")
    if o.model.kind == "lagnet":
        raise ValueError("lagnet is for series of one feature: choose gle or a baseline")
    if o.size == "published" and o.model.kind == "tcn" and (f.frames < 19 or f.size * (1 + len(o.lags)) < 7):
        raise ValueError(f"the published tcn needs 19 frames of 7 features, these are {f.frames} of {f.size}")
    if o.model.kind == "tcn" and o.training.batch < 2:
        raise ValueError(f"batch must be at least 2 for tcn, which normalises over it, got {o.training.batch}")
    if not o.model.populations:
        raise ValueError("populations is empty: give at least one [neurons, tau_m, tau_r]")
    found = data.task(corpus_of(o), o.classes)
    whole = form(o, len(found.classes))
    if whole.steps % f.frames:
        raise ValueError(f"dt must be 1/k, so that a frame has k steps, got {o.dt:g}")
    learning.check(o, whole, len(found.clips["train"]))
    second(o, found)
    for stage in range(len(learning.stages(o))):
        trainer_of(o, whole, stage, baseline=baseline(o, whole))


def tiny(o: Speech) -> Speech:
    """Of a smoke run: on words of its own."""
    words = dataclasses.replace(learning.tiny(o), data=cache_dir() / "made-words-1", download=None, test_data=None)
    k = math.ceil(1 / min([0.5, *(tau for _, *taus in o.model.populations for tau in taus)]))
    log_mel = o.features.kind == "log_mel"
    return dataclasses.replace(
        words,
        augmentation=dataclasses.replace(o.augmentation, variants=min(o.augmentation.variants, 1)),
        features=dataclasses.replace(o.features, hop=max(o.features.hop, 800)) if log_mel else o.features,
        model=dataclasses.replace(o.model, populations=[(4, m, r) for _, m, r in o.model.populations]),
        dt=max(o.dt, 1 / k),
    )


def baseline(o: Speech, whole: Form) -> Any:
    return lambda seed: speech.seeded(o.model.kind, o.size, whole, seed)


def second(o: Speech, found: data.Task) -> data.Task | None:
    """The second test set, where one is named."""
    return None if o.test_data is None else data.second_task(o.test_data, found.classes)


def splits(o: Speech, corpus: data.Corpus, found: data.Task) -> Labelled:
    test, validation = (split(o, corpus, found, name) for name in ("test", "validation"))  # before what takes long
    steps = form(o, len(found.classes)).steps
    return Labelled(split(o, corpus, found, "train"), validation, test, len(found.classes), steps)


def split(o: Speech, corpus: data.Corpus, found: data.Task, name: str) -> Split:
    x = data.frames(corpus, found, name, o.features, o.augmentation, cache_dir(), o.lags)
    return Split(x, found.labels[name], gates(x) if o.gated and o.model.kind in ONLINE else None)


def gates(x: Frames) -> torch.Tensor:
    """How much each frame counts, of all variants: [variants · samples, frames]."""
    return torch.cat([audio.gate(torch.from_numpy(np.asarray(a, np.float32))) for a in x.arrays])


def run(o: Speech, run: Run) -> dict[str, Any]:
    torch.set_flush_denormal(True)
    corpus = corpus_of(o)
    found = data.task(corpus, o.classes)
    described = data.described(corpus, found)
    begun = run.part("data", lambda: described)
    if begun != described:
        raise ValueError(
            f"the words in {o.data} are others than when the run began (folder {described['fingerprint']}, it was "
            f"{begun['fingerprint']}): put them back, or start a new run"
        )
    more = second(o, found)
    unheard = None if more is None else split(o, corpus, more, "test")
    labelled = splits(o, corpus, found)

    def then(trainer: Trainer, readouts: list[str]) -> dict[str, Any]:
        if isinstance(trainer, Online):
            kept(trainer, o, found.classes, run)
        return {} if unheard is None else {"second test": trainer.evaluate(unheard, readouts)["accuracy"]}

    result = learn(o, labelled, run, baseline=baseline(o, form(o, len(found.classes))), then=then)
    return {**result, "data": described}


def kept(trainer: Online, o: Speech, classes: list[str], run: Run) -> None:
    """What `--listen` needs: the networks, and what they hear."""
    gle.save(run.path / "network.pt", trainer.simulation)
    heard = {"classes": classes, "features": dataclasses.asdict(o.features), "lags": o.lags, "gated": o.gated}
    write_atomically(run.path / "heard.json", lambda f: f.write(json.dumps(heard, indent=1).encode()))


# -- tables and figures ------------------------------------------------------------------------------------------------


def words_alone(result: Mapping[str, Any]) -> list[float]:
    """Accuracy on clips of the words themselves, without silence and unknown words, of each seed."""
    classes = result["data"]["classes"]
    rows = [i for i, name in enumerate(classes) if not name.startswith("_")]
    each = (np.array(confusion)[rows] for confusion in result["confusion"])
    return [100 * float(said[range(len(rows)), rows].sum() / max(1, said.sum())) for said in each]


def tables(results: Sequence[Mapping[str, Any]]) -> list[Table]:
    results = ordered(results, PUBLISHED)
    rows: list[tuple[str, ...]] = []
    for r in results:
        heading, row = table([r], {}).rows
        rows = rows or [(*heading[:-1], "words alone %", "published %")]
        quoted = PUBLISHED.get(kind(r))
        rows.append((*row[:-1], mean_std(words_alone(r)), "{:.1f} ± {:.1f}".format(*quoted) if quoted else "–"))
    return [Table(rows, subset(results[0]))]


def kind(result: Mapping[str, Any]) -> str:
    return result["options"]["model"]["kind"]


def subset(result: Mapping[str, Any]) -> str:
    """What was learned from."""
    d = result["data"]
    parts = [f"{s['clips']} clips of {s['speakers']} speakers for {name}" for name, s in d["splits"].items()]
    published = set(data.COMMANDS) <= set(d["words"])
    return f"Classes: {', '.join(d['classes'])}. {'; '.join(parts)}. Folder {d['fingerprint']}." + (
        "" if published else " A part of the published data: the published figures are for twelve classes."
    )


def by_class(result: Mapping[str, Any]) -> Table:
    """Of each class how many of its clips were known, and what they were taken for most often otherwise."""
    classes = result["data"]["classes"]
    total = np.sum(result["confusion"], 0)
    rows: list[tuple[str, ...]] = [("class", "test clips", "right %", "mostly taken for")]
    for i, name in enumerate(classes):
        each = [100 * c[i][i] / max(1, sum(c[i])) for c in result["confusion"]]
        others = total[i].copy()
        others[i] = 0
        worst = classes[int(others.argmax())] if others.any() else "–"
        rows.append((name, str(int(total[i].sum() // len(each))), mean_std(each), worst))
    return Table(rows)


def confusion(result: Mapping[str, Any]) -> plt.Figure:
    """Of all test clips of a class [rows] the share that was taken for each [columns], over all seeds."""
    classes = result["data"]["classes"]
    total = np.sum(result["confusion"], 0)
    share = 100 * total / np.maximum(total.sum(1, keepdims=True), 1)
    figure, axes = plt.subplots(figsize=(5.6, 5.0))
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    for i, row in enumerate(share):
        for j, value in enumerate(row):
            if value >= 0.5:
                axes.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=6, color="w" if value > 50 else "k")
    names = [c.strip("_") for c in classes]
    axes.set_xticks(range(len(names)), names, rotation=60, fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set(xlabel="taken for", ylabel="said", title=f"{result['name']}: test clips of each class (%)")
    figure.colorbar(image, shrink=0.8)
    return figure


def curves(results: Sequence[Mapping[str, Any]]) -> plt.Figure:
    """Learning curves, beside that of the published GLE network, which is of validation accuracy on twelve classes."""
    figure = learning_curves(results, {}, "Speech commands")
    axes = figure.axes[0]
    longest = max(len(r["curve"]) for r in results)
    points = {e: a for e, a in CURVE.items() if e <= longest}
    axes.plot(list(points), list(points.values()), "k+", label="published GLE network, twelve classes")
    axes.legend(fontsize=7, loc="lower right")
    return figure


def bars(results: Sequence[Mapping[str, Any]]) -> plt.Figure:
    """Test accuracy, mean ± standard deviation over seeds, beside the published figures (Fig. 8e)."""
    figure, axes = plt.subplots(figsize=(5.6, 3.4))
    each = ordered(results, PUBLISHED)
    for i, r in enumerate(each):
        axes.bar(i, np.mean(r["test"]), yerr=np.std(r["test"]), color="C0" if r["online"] else "0.7", width=0.6)
        axes.text(i, np.mean(r["test"]) + 1.5, f"{np.mean(r['test']):.1f}", ha="center", fontsize=7)
        if quoted := PUBLISHED.get(kind(r)):
            axes.plot([i - 0.35, i + 0.35], [quoted[0]] * 2, "k--", linewidth=1)
    axes.set_xticks(range(len(each)), [r["name"] for r in each], rotation=20, fontsize=7)
    axes.set(ylabel="test accuracy / %", ylim=(40, 102))
    axes.set_title("Speech commands (blue: online; dashed: published, twelve classes)", fontsize=8)
    return figure


def draw(result: Mapping[str, Any]) -> Drawn:
    return {"learning_curve.png": curves([result]), "confusion.png": confusion(result)}


# -- listening ---------------------------------------------------------------------------------------------------------


def listen(o: Speech, given: Sequence[str]) -> None:
    """Streams a recording past a trained network and says what it hears.

    Raises ValueError where one of both is missing or is none.
    """
    if o.listen is None or o.weights is None:
        raise ValueError("--listen recording.wav and --weights network.pt belong together: give both")
    heard = listening.hear(o.listen, o.weights)
    for line in heard.lines():
        print(line)
    picture = o.runs / "gsc" / f"heard-{o.listen.stem}.png"
    figures.save({picture.name: heard.draw()}, _made(picture.parent))
    print(f"picture: {picture}")


benchmark = Benchmark(
    name="gsc",
    summary="Google Speech Commands: keywords spotted online, and the baselines of Table 3",
    Options=Speech,
    check=check,
    settled=settled,
    tiny=tiny,
    run=run,
    tables=lambda result: [*tables([result]), by_class(result)],
    draw=draw,
    score=SCORE,
    published=PUBLISHED,
    divide=DIVIDE,
    rows=Rows(
        configs={
            "mlp": ["--training.epochs=15"],
            "tcn": ["--training.epochs=5"],
            "gru": ["--training.epochs=10"],
            "gle_52k": ["--training.epochs=6", "--consolidation.epochs=12"],
            "gle_delays": ["--training.epochs=6", "--consolidation.epochs=12"],
        },
        own=("--name", "--model", "--consolidation", "--size"),
        note="Short budget: the published figures are for twelve classes and up to 420 epochs.",
        table=lambda results: tables(results)[0],
        draw=lambda results: {"learning_curves.png": curves(results), "accuracy.png": bars(results)},
    ),
    instead={"--listen": listen, "--weights": listen},
)

if __name__ == "__main__":
    main(benchmark)
