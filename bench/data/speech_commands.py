"""Google Speech Commands (Warden 2018): words of one second, by thousands of speakers, in a folder as published.

    <folder>/<word>/<speaker>_nohash_<n>.wav    <folder>/validation_list.txt    testing_list.txt    _background_noise_/

Whole or in part, version 0.01 or 0.02. The splits are the published ones: no speaker is in two of them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import math
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from bench.data import audio
from bench.data.cache import cached_array
from bench.data.series import Frames

log = logging.getLogger(__name__)

COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")  # the published task
SILENCE, UNKNOWN = "_silence_", "_unknown_"
BACKGROUND = "_background_noise_"
LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
SPLITS = ("train", "validation", "test")
CLIP = audio.RATE  # samples: a second
VOLUME = 0.1  # published peak of noise
SHARE = 10  # per cent of the words in a split, of unknown and of silence, as published
SEED = 59185  # of what is drawn for them, the published one
ARCHIVES = {  # version → address, SHA-256
    "0.01": (
        "http://download.tensorflow.org/data/speech_commands_v0.01.tar.gz",
        "743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d",
    ),
    "0.02": (
        "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
        "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
    ),
}


class Clip(NamedTuple):
    """path: of the recording; None for silence, which is made. number: of a made one in its split."""

    word: str
    path: Path | None
    number: int = 0

    @property
    def name(self) -> str:
        return f"{self.word}/{self.number}" if self.path is None else f"{self.word}/{self.path.name}"

    @property
    def speaker(self) -> str:
        return "" if self.path is None else speaker_of(self.path.name)


def speaker_of(name: str) -> str:
    return name.split("_nohash_")[0]


def hashed_split(name: str, validation: int = 10, test: int = 10) -> str:
    """The split of a file by the published rule: the SHA-1 of its name up to "_nohash_", as a percentage, below
    `validation`, below `validation` + `test`, or above. It hangs on nothing but the speaker."""
    most = 2**27 - 1
    percentage = int(hashlib.sha1(speaker_of(name).encode()).hexdigest(), 16) % (most + 1) * (100 / most)
    return "validation" if percentage < validation else "test" if percentage < validation + test else "train"


@dataclass
class Corpus:
    """What a folder holds. clips: of each split, sorted by name. split_by: "lists" or "hash". background: recordings of
    noise. fingerprint: of the names and sizes of all clips."""

    folder: Path
    words: list[str]
    clips: dict[str, list[Clip]]
    split_by: str
    background: list[Path]
    fingerprint: str


def read(folder: Path, split_by: Literal["lists", "hash", "auto"] = "auto") -> Corpus:
    """split_by: the folder's lists, the published hash, which says the same, or the lists where there are any.

    Raises ValueError for a folder that is missing or holds no word, and for lists that are missing.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder")
    words = sorted(d.name for d in folder.iterdir() if d.is_dir() and not d.name.startswith((".", "_")))
    files = {w: files_in(folder / w) for w in words}
    words = [w for w in words if files[w]]
    if not words:
        raise ValueError(
            f"{folder} holds no word: there must be a folder for each, with WAV files in it, as in {folder}/yes"
        )
    lists = {split: folder / name for split, name in LISTS.items()}
    missing = [p.name for p in lists.values() if not p.is_file()]
    if split_by == "lists" and missing:
        raise ValueError(f"{folder} has no {' and no '.join(missing)}: give split_by=hash, which says the same")
    listed = split_by == "lists" or (split_by == "auto" and not missing)
    named = {line: s for s, p in lists.items() for line in lines_of(p)} if listed else {}
    clips: dict[str, list[Clip]] = {split: [] for split in SPLITS}
    names = hashlib.sha256()
    for word in words:
        for path in files[word]:
            name = f"{word}/{path.with_suffix('.wav').name}"
            split = named.get(name, "train") if listed else hashed_split(path.name)
            clips[split].append(Clip(word, path))
            names.update(f"{word}/{path.name} {path.stat().st_size}\n".encode())
    noises = sorted((folder / BACKGROUND).glob("*.wav")) if (folder / BACKGROUND).is_dir() else []
    return Corpus(folder, words, clips, "lists" if listed else "hash", noises, names.hexdigest()[:16])


def lines_of(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as a list of names: {error}") from error


# -- classes -----------------------------------------------------------------------------------------------------------


class Task(NamedTuple):
    """classes: their names. clips: of each split, and the class of each clip."""

    classes: list[str]
    clips: dict[str, list[Clip]]
    labels: dict[str, Tensor]


def task(corpus: Corpus, classes: Literal["commands", "words"] = "commands") -> Task:
    """commands: the ten published words, as many as there are, beside "unknown", drawn from all other words, and
    "silence": each 10 % of the words of a split, as published. words: every word is a class.

    Raises ValueError where a split would be empty, or no command is among the words.
    """
    if classes == "words":
        names = list(corpus.words)
        clips = {split: list(own) for split, own in corpus.clips.items()}
    else:
        wanted = [w for w in COMMANDS if w in corpus.words]
        if not wanted:
            raise ValueError(
                f"{corpus.folder} holds none of the words {', '.join(COMMANDS)}, but {', '.join(corpus.words)}: give "
                "classes=words, for which each of them is a class"
            )
        others = len(wanted) < len(corpus.words)
        names = [*wanted, *([UNKNOWN] if others else []), SILENCE]
        clips = {}
        for n, (split, own) in enumerate(corpus.clips.items()):
            spoken = [c for c in own if c.word in wanted]
            rest = [c for c in own if c.word not in wanted]
            number = math.ceil(len(spoken) * SHARE / 100)
            drawn = np.random.default_rng([SEED, n]).permutation(len(rest))[:number]
            silent = [Clip(SILENCE, None, i) for i in range(number)]
            clips[split] = [*spoken, *(rest[i] for i in sorted(drawn)), *silent]
    for n, (split, own) in enumerate(clips.items()):
        if not own:
            raise ValueError(f"{corpus.folder} has no clip for {split}: give more of the words' recordings")
        # a network that hears one clip after the other must not tell a word by the one before
        clips[split] = [own[i] for i in np.random.default_rng([SEED, 10 + n]).permutation(len(own))]
    place = {word: i for i, word in enumerate(names)}
    labels = {s: torch.tensor([place.get(c.word, place.get(UNKNOWN, 0)) for c in own]) for s, own in clips.items()}
    return Task(names, clips, labels)


def second_task(folder: Path, classes: Sequence[str]) -> Task:
    """Of a folder with a folder for each class, silence and unknown words included, as the published test archive has
    them: all of its clips are for testing. Raises ValueError where there is none of the classes."""
    clips = [Clip(w, f) for w in classes for f in files_in(folder / w)]
    if not clips:
        raise ValueError(f"{folder} holds none of the classes {', '.join(classes)}, a folder each")
    clips = [clips[i] for i in np.random.default_rng(SEED).permutation(len(clips))]
    labels = torch.tensor([list(classes).index(c.word) for c in clips])
    return Task(list(classes), {"test": clips}, {"test": labels})


def files_in(folder: Path) -> list[Path]:
    """The recordings in it, without what an operating system leaves beside them."""
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [f for f in found if f.suffix.lower() in audio.SUFFIXES and not f.name.startswith(".")]


# -- features ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Features:
    """What a network sees of a clip.

    Args:
        kind: log_mel, whose windows are centred on every hop, or mfcc.
        size: bands, or coefficients.
        window: of the Fourier transform, in samples.
        hop: samples from one window to the next.
    """

    kind: Literal["log_mel", "mfcc"] = "log_mel"
    size: int = 32
    window: int = 1024
    hop: int = 400

    @property
    def frames(self) -> int:
        return CLIP // self.hop + 1 if self.kind == "log_mel" else (CLIP - self.window) // self.hop + 1

    def __call__(self, x: Tensor) -> Tensor:
        made = audio.log_mel if self.kind == "log_mel" else audio.mfcc
        return audio.standardised(made(x, self.size, self.window, self.hop))


@dataclass(frozen=True)
class Augmentation:
    """Of a training clip, as published: perhaps noise, of the folder's own recordings where there are any and otherwise
    synthetic; then a shift.

    Args:
        variants: of each training clip, made once; an epoch takes one of them. 0: the clips as they are.
        probability: of noise.
        volume: the loudest that its peak may be; a clip's is at most one.
        shift: the furthest either way, in samples.
    """

    variants: int = 5
    probability: float = 0.8
    volume: float = VOLUME
    shift: int = 1600


def samples_of(clip: Clip) -> np.ndarray:
    """A second of samples: a shorter clip is followed by zeros. Raises ValueError for a longer one."""
    x = np.zeros(CLIP, np.float32)
    if clip.path is not None:
        read = audio.read(clip.path)
        if len(read) > CLIP:
            raise ValueError(f"{clip.path} is longer than a second ({len(read) / audio.RATE:g} s): cut it first")
        x[: len(read)] = read
    return x


def sounding(clip: Clip, background: Sequence[np.ndarray], split: str, variant: int, how: Augmentation) -> np.ndarray:
    """The samples of a clip in its variant 0, as it is, or another one, augmented. Every second silence has noise in
    variant 0, too: a network must not take digital zeros for it."""
    x = samples_of(clip)
    key = int.from_bytes(hashlib.sha256(f"{split}/{clip.name}".encode()).digest()[:4], "big")
    rng = np.random.default_rng([SEED, variant, key])
    if variant == 0 and not (clip.path is None and clip.number % 2):
        return x
    if variant == 0 or rng.random() < how.probability:
        x = x + rng.uniform(0, how.volume if variant else VOLUME) * _noise(background, rng)
    if variant:
        x = audio.shifted(x, int(rng.integers(-how.shift, how.shift + 1)))
    return np.clip(x, -1, 1)


def _noise(background: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    if not len(background):
        return audio.noise(CLIP, rng)
    recording = background[int(rng.integers(len(background)))]
    begin = rng.integers(max(1, len(recording) - CLIP + 1))
    cut = np.zeros(CLIP, np.float32)
    cut[: min(CLIP, len(recording))] = recording[begin : begin + CLIP]
    return cut


def frames(
    corpus: Corpus,
    task: Task,
    split: str,
    features: Features,
    how: Augmentation,
    folder: Path,
    lags: Sequence[int] = (),
) -> Frames:
    """The features of all clips of a split, those for training in their variants: float16, each variant an array of its
    own in `folder`, so that a kill loses one of them. lags: see `Frames`."""
    clips = task.clips[split]
    names = hashlib.sha256("\n".join(map(stamp_of, clips)).encode()).hexdigest()[:16]
    noises = [stamp_of(Clip(BACKGROUND, p)) for p in corpus.background]
    arrays = []
    variants = how.variants if split == "train" else 0
    for variant in range(1, variants + 1) if variants else [0]:
        settings = {
            "background": noises, "clips": names, "split": split, "variant": variant, "version": VERSION,
            "features": dataclasses.asdict(features), "augmentation": settings_of(how) if variant else None,
        }  # fmt: skip

        def made(variant: int = variant) -> np.ndarray:
            background = [audio.read(p) for p in corpus.background]
            out = np.empty((len(clips), features.frames, features.size), np.float16)
            title = f"features, {split}" + (f", variant {variant} of {variants}" if variant else "")
            log.info("%s: %d clips, once", title, len(clips))
            with tqdm(total=len(clips), desc=title, unit="clip", disable=None) as bar:
                for begin in range(0, len(clips), 256):
                    part = clips[begin : begin + 256]
                    x = np.stack([sounding(c, background, split, variant, how) for c in part])
                    out[begin : begin + len(part)] = features(torch.from_numpy(x)).half().numpy()
                    bar.update(len(part))
            return out

        arrays.append(cached_array("speech", settings, made, folder))
    return Frames(arrays, lags)


def stamp_of(clip: Clip) -> str:
    """What tells a recording from another one, or from itself before it was changed."""
    if clip.path is None:
        return clip.name
    status = clip.path.stat()
    return f"{clip.path} {status.st_size} {status.st_mtime_ns}"


def settings_of(how: Augmentation) -> dict[str, Any]:
    """All that one variant hangs on."""
    return {k: v for k, v in dataclasses.asdict(how).items() if k != "variants"}


VERSION = 1  # of what is made here: raised whenever the same clips give other features


# -- where they come from ----------------------------------------------------------------------------------------------


def download(folder: Path, version: str = "0.02", fetch: Callable[..., Any] = torch.hub.download_url_to_file) -> None:
    """The published archive, its checksum compared, unpacked into `folder`, which must not exist or be empty: there is
    either all of it afterwards, or nothing. Raises ValueError for a folder that is not empty, and where the archive
    cannot be had or is another one."""
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty: give a new folder for the download")
    address, digest = ARCHIVES[version]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as where:
        archive, unpacked = Path(where) / "archive.tar.gz", Path(where) / "unpacked"
        try:
            fetch(address, str(archive), hash_prefix=digest, progress=True)
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{address} could not be downloaded: {error}") from error
        unpack(archive, unpacked)
        if folder.exists():
            folder.rmdir()
        shutil.move(unpacked, folder)


def unpack(archive: Path, folder: Path) -> None:
    """Raises ValueError for an archive that is damaged, or would write outside the folder."""
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ValueError(f"{archive} cannot be unpacked: {error}") from error


# -- a corpus of one's own ---------------------------------------------------------------------------------------------

SPOKEN = {  # word → frequencies in Hz that two formants pass through
    "yes": ((300, 500, 400), (2200, 1800, 2600)),
    "no": ((400, 500, 350), (1800, 1000, 800)),
    "up": ((700, 600, 300), (1200, 1200, 1000)),
    "cat": ((600, 800, 500), (1500, 1800, 1800)),
}


def synthesise(folder: Path, speakers: int = 40, words: Sequence[str] = tuple(SPOKEN), seed: int = 0) -> None:
    """Writes a small corpus in the published layout, lists included: "words" of two gliding formants, by many speakers
    of their own pitch and pace. It is no speech, but can be learned, and takes no download."""
    rng = np.random.default_rng(seed)
    named: dict[str, list[str]] = {split: [] for split in LISTS}
    for _ in range(speakers):
        name = f"{rng.integers(2**32):08x}_nohash_0.wav"
        pitch, tract, pace = rng.uniform(90, 250), rng.uniform(0.9, 1.1), rng.uniform(0.35, 0.6)
        for word in words:
            audio.write(folder / word / name, spoken(word, pitch, tract, pace, rng))
            if (split := hashed_split(name)) in named:
                named[split].append(f"{word}/{name}")
    for split, names in named.items():
        (folder / LISTS[split]).write_text("\n".join(names) + "\n")


def spoken(word: str, pitch: float, tract: float, pace: float, rng: np.random.Generator) -> np.ndarray:
    """A clip: harmonics of the pitch (Hz) under two formants that glide, for `pace` seconds of up to one."""
    length = int(rng.uniform(0.85, 1.0) * CLIP)
    n = int(pace * CLIP)
    t = np.arange(n) / audio.RATE
    at = np.linspace(0, 1, n)
    formants = [np.interp(at, [0, 0.5, 1], f) * tract for f in SPOKEN[word]]
    x = np.zeros(n)
    for h in range(1, int(4000 / pitch)):
        loud = sum(np.exp(-(((h * pitch - f) / 150) ** 2)) for f in formants)
        x += loud * np.sin(2 * np.pi * h * pitch * t + rng.uniform(0, 2 * np.pi))
    x *= np.hanning(n) / np.abs(x).max() * rng.uniform(0.2, 0.9)
    whole = 0.003 * rng.standard_normal(length)
    begin = rng.integers(0, length - n)
    whole[begin : begin + n] += x
    return whole.astype(np.float32)


def described(corpus: Corpus, task: Task) -> dict[str, Any]:
    """For a result: what was learned from."""
    return {
        "fingerprint": corpus.fingerprint,
        "split_by": corpus.split_by,
        "words": corpus.words,
        "classes": task.classes,
        "background": len(corpus.background),
        "splits": {
            split: {
                "clips": len(own),
                "speakers": len({c.speaker for c in own if c.path is not None}),
                "of": [int(n) for n in torch.bincount(task.labels[split], minlength=len(task.classes))],
            }
            for split, own in task.clips.items()
        },
    }
