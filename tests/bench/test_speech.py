"""Speech commands: folders of recordings, their splits and classes, features, and the command from end to end."""

import json
import multiprocessing
import shutil
import sys
import tarfile
import types

import numpy as np
import pytest
import scipy.io.wavfile
import torch
from studies import launch, run_folder

import gle
from bench import gsc
from bench.data import audio
from bench.data import speech_commands as sc
from bench.data.cache import cached_array
from bench.data.series import Form, Frames, Split, in_steps
from bench.kit.folder import Run
from bench.learning import listening
from bench.learning.streams import Streams
from bench.learning.trainers import Offline
from bench.models import populations, speech
from bench.models.baselines import n_parameters
from gle.seeding import generator

# names from the published lists, and of files that stand in neither
NAMED = {
    "validation": (
        "eight/a7dd45cf_nohash_0 sheila/d9ae8983_nohash_0 zero/264f471d_nohash_0 wow/db43cd03_nohash_0 "
        "cat/eee9b9e2_nohash_0 happy/9d32f10a_nohash_4 eight/099d52ad_nohash_3 right/471a0925_nohash_0 "
        "wow/bc196f81_nohash_0 on/b7016c27_nohash_0 one/a6d586b7_nohash_1 three/a8cf01bc_nohash_0"
    ),
    "test": (
        "no/881583a6_nohash_0 yes/94de6a6a_nohash_0 go/0c40e715_nohash_0 down/62ff07ef_nohash_0 "
        "right/0f250098_nohash_0 bird/5eb5fc74_nohash_0 no/c22d3f18_nohash_4 on/4c841771_nohash_0 "
        "stop/563aa4e6_nohash_3 wow/7dc95912_nohash_0 wow/af405b69_nohash_0 bed/2d82a556_nohash_0"
    ),
    "train": (
        "bed/541e4079_nohash_0 go/617de221_nohash_3 go/30a09789_nohash_0 yes/8dd24423_nohash_0 go/abbfc3b4_nohash_0 "
        "yes/29fb33da_nohash_0 yes/1ed557b9_nohash_0 yes/23059a35_nohash_0 bed/d2f4f431_nohash_2 "
        "yes/0ff728b5_nohash_1 go/fb24c826_nohash_0 go/1ed557b9_nohash_0"
    ),
}


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    sc.synthesise(folder)
    return folder


@pytest.fixture
def few(words, tmp_path):
    """Some of the clips, to be spoilt."""
    folder = tmp_path / "few"
    for word in ("yes", "no"):
        (folder / word).mkdir(parents=True)
        for path in sorted((words / word).iterdir()):
            shutil.copy(path, folder / word)
    return folder


# -- splits and classes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "names"), NAMED.items())
def test_the_hash_says_what_the_published_lists_say(split, names):
    assert {sc.hashed_split(f"{name.split('/')[1]}.wav") for name in names.split()} == {split}


def test_lists_and_hash_agree(words):
    listed, hashed = sc.read(words), sc.read(words, "hash")
    assert (listed.split_by, hashed.split_by) == ("lists", "hash")
    assert listed.clips == hashed.clips
    assert listed.fingerprint == hashed.fingerprint
    speakers = [{c.speaker for c in clips} for clips in listed.clips.values()]
    assert all(len(s) for s in speakers)
    assert not speakers[0] & speakers[1] and not speakers[0] & speakers[2] and not speakers[1] & speakers[2]  # noqa: PT018


def test_lists_win_over_the_hash(words, tmp_path):
    """Prevents: lists that are found and not read."""
    folder = shutil.copytree(words, tmp_path / "words")
    lists = {split: (folder / name).read_text() for split, name in sc.LISTS.items()}
    for (_, name), text in zip(sc.LISTS.items(), reversed(lists.values())):
        (folder / name).write_text(text)
    swapped, corpus = sc.read(folder), sc.read(words)
    assert [c.name for c in swapped.clips["test"]] == [c.name for c in corpus.clips["validation"]]


def test_classes_as_published(words):
    """Commands, unknown words and silence, each of those two a tenth of the commands, drawn alike every time."""
    corpus = sc.read(words)
    found, again = sc.task(corpus), sc.task(sc.read(words))
    assert found.classes == ["yes", "no", "up", "_unknown_", "_silence_"]
    for split, clips in found.clips.items():
        of = torch.bincount(found.labels[split], minlength=5).tolist()
        spoken = [c for c in corpus.clips[split] if c.word != "cat"]
        assert sum(of[:3]) == len(spoken)
        assert of[3] == of[4] == -(-len(spoken) // 10)
        assert {c.word for c, y in zip(clips, found.labels[split]) if y == 3} == {"cat"}
        assert clips == again.clips[split]


def test_every_word_a_class(words):
    found = sc.task(sc.read(words), "words")
    assert found.classes == ["cat", "no", "up", "yes"]
    assert all(found.classes[y] == c.word for c, y in zip(found.clips["train"], found.labels["train"]))


def test_a_folder_without_a_command(tmp_path):
    audio.write(tmp_path / "cat" / "a_nohash_0.wav", np.zeros(10))
    with pytest.raises(ValueError, match=r"holds none of the words yes.*but cat: give classes=words"):
        sc.task(sc.read(tmp_path))


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: (p / "yes").mkdir(parents=True)])
def test_a_folder_without_words(make, tmp_path):
    make(tmp_path / "words")
    with pytest.raises(ValueError, match=r"is no folder|holds no word"):
        sc.read(tmp_path / "words")


def test_missing_lists(few):
    with pytest.raises(ValueError, match=r"has no validation_list.txt and no testing_list.txt: give split_by=hash"):
        sc.read(few, "lists")
    assert sc.read(few).split_by == "hash"


# -- recordings --------------------------------------------------------------------------------------------------------


def sine(hertz, samples=audio.RATE):
    return np.sin(2 * np.pi * hertz * np.arange(samples) / audio.RATE)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda p: p.write_bytes(b"RIFF, but no more"), "is damaged or no WAV file"),
        (lambda p: p.write_bytes(b""), "is damaged or no WAV file"),
        (lambda p: scipy.io.wavfile.write(p, 8000, np.zeros(8000, np.int16)), "8000 samples a second"),
        (lambda p: scipy.io.wavfile.write(p, 16000, np.zeros((9, 2), np.int16)), "has 2 channels"),
        (lambda p: scipy.io.wavfile.write(p, 16000, np.zeros(0, np.int16)), "is empty|is damaged"),
        (lambda p: scipy.io.wavfile.write(p, 16000, np.zeros(16001, np.int16)), "is longer than a second"),
        (lambda p: (audio.write(p, np.zeros(9000)), p.write_bytes(p.read_bytes()[:9000])), "is damaged.*Reached EOF"),
        (lambda p: scipy.io.wavfile.write(p, 16000, np.full(9, np.nan, np.float32)), "not finite at sample 0"),
    ],
)
def test_recordings_that_cannot_be_used(write, message, tmp_path):
    path = tmp_path / "spoilt_nohash_0.wav"
    write(path)
    with pytest.raises(ValueError, match=f"spoilt_nohash_0.wav.*({message})"):
        sc.samples_of(sc.Clip("yes", path))


def test_short_clips_are_followed_by_zeros(tmp_path):
    audio.write(tmp_path / "a.wav", 0.5 * np.ones(100))
    x = sc.samples_of(sc.Clip("yes", tmp_path / "a.wav"))
    np.testing.assert_allclose(x[:100], 0.5, atol=1e-4)
    assert len(x) == 16000 and not x[100:].any()  # noqa: PT018


def test_flac(tmp_path, monkeypatch):
    path = tmp_path / "a.flac"
    path.write_bytes(b"fLaC, but no more")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "soundfile", None)
        with pytest.raises(ValueError, match=r"a.flac needs soundfile: pip install .*, or convert it to WAV"):
            audio.read(path)
    soundfile = pytest.importorskip("soundfile")
    with pytest.raises(ValueError, match=r"a.flac is damaged or no FLAC file"):
        audio.read(path)
    soundfile.write(path, 0.5 * sine(440, 400), 16000)
    np.testing.assert_allclose(audio.read(path), 0.5 * sine(440, 400), atol=1e-4)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.float32])
def test_all_kinds_of_samples(kind, tmp_path):
    x = 0.5 * sine(440, 400)
    scale = {np.uint8: 127, np.int16: 32767, np.int32: 2**31 - 1, np.float32: 1}[kind]
    stored = x * scale + (128 if kind is np.uint8 else 0)
    scipy.io.wavfile.write(tmp_path / "a.wav", 16000, stored.astype(kind))
    np.testing.assert_allclose(audio.read(tmp_path / "a.wav"), x, atol=0.02 if kind is np.uint8 else 1e-4)


# -- features ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def torchaudio(monkeypatch):
    """Its transforms, which are plain PyTorch, beside a PyTorch that its native extension was not built for."""
    pytest.importorskip("torch")
    try:
        import torchaudio
    except ImportError:
        pytest.skip("torchaudio is not installed")
    except OSError:
        for name in [n for n in sys.modules if n.startswith("torchaudio")]:
            del sys.modules[name]
        stub = types.ModuleType("torchaudio._extension")
        stub._IS_TORCHAUDIO_EXT_AVAILABLE = False
        stub.fail_if_no_align = stub.fail_if_no_rir = lambda f: f
        monkeypatch.setitem(sys.modules, "torchaudio._extension", stub)
        import torchaudio
    return torchaudio


def sounds():
    g = torch.Generator().manual_seed(0)
    t = torch.arange(16000) / 16000
    noise = torch.randn(16000, generator=g)
    return torch.stack([torch.sin(2 * torch.pi * (200 + 3000 * t) * t) + 1e-2 * noise, 0.1 * noise, 0 * t])


def test_log_mel_is_torchaudios(torchaudio):
    import torchaudio.transforms as T

    theirs = T.MelSpectrogram(16000, n_fft=1024, hop_length=400, n_mels=32)(sounds())
    torch.testing.assert_close(audio.log_mel(sounds()), (theirs.mT + 1e-9).log2(), rtol=0, atol=1e-4)
    assert audio.log_mel(sounds()).shape == (3, 41, 32)


def test_mfcc_is_torchaudios(torchaudio):
    import torchaudio.transforms as T

    mel = {"n_fft": 640, "hop_length": 320, "n_mels": 40, "center": False}
    theirs = T.MFCC(16000, n_mfcc=10, melkwargs=mel)(sounds()[:2])
    ours = torch.stack([audio.mfcc(x) for x in sounds()[:2]])
    assert ours.shape == (2, 49, 10)
    assert (ours[0] - theirs[0].mT).abs().max() < 1e-2 * theirs[0].abs().max() * 1e-2


def test_a_tone_stands_in_its_band():
    """By the definition of the scale: a tone of f Hz is loudest in the band whose centre is next to mel(f)."""
    for hertz in (300.0, 1000.0, 4000.0):
        loud = audio.mel_spectrum(torch.from_numpy(sine(hertz)).float(), 32, 1024, 400)[20].argmax().item()
        centres = np.linspace(0, audio.mel(np.array(8000.0)), 34)[1:-1]
        assert loud == np.abs(centres - audio.mel(np.array(hertz))).argmin()


def test_standardised_silence_is_zero():
    x = audio.standardised(audio.log_mel(sounds()))
    assert x[2].abs().max() < 0.01  # rounding
    torch.testing.assert_close(x[:2].mean((1, 2)), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(x[:2].square().mean((1, 2)), torch.ones(2))


def test_the_gate_looks_back_only():
    x = torch.zeros(2, 30, 4)
    x[:, 10:20] = 1.0
    x[1, 20:] = 5.0
    g = audio.gate(x)
    assert torch.equal(g[0, :20], g[1, :20])
    assert g[0, 5] < 0.1 < 0.9 < g[0, 19]
    assert audio.gate(x[0, :15]).equal(g[0, :15])


def test_variants_and_lags():
    a, b = (np.random.default_rng(n).standard_normal((3, 5, 2)).astype(np.float16) for n in (0, 1))
    frames = Frames([a, b], lags=(1, 2))
    assert frames.shape == (6, 5, 6)
    got = frames[torch.tensor([[1, 4]])]
    assert got.shape == (1, 2, 5, 6)
    for given, x in zip((a[1], b[1]), got[0]):
        np.testing.assert_array_equal(x[:, :2], given)
        np.testing.assert_array_equal(x[2:, 4:], given[:-2])
        assert not x[:2, 4:].any()


def test_steps_lie_between_frames():
    x = torch.tensor([[0.0], [4.0], [2.0]])
    assert in_steps(x, 12).flatten().tolist() == [0, 1, 2, 3, 4, 3.5, 3, 2.5, 2, 2, 2, 2]
    assert in_steps(x, 3) is x
    with pytest.raises(ValueError, match=r"4 steps are no multiple of 3 frames"):
        in_steps(x, 4)


def test_streams_carry_steps_weights_and_variants():
    frames = Frames([np.full((4, 3, 2), v, np.float16) for v in (1, 2)])
    split = Split(frames, torch.arange(4), w=torch.arange(24.0).reshape(8, 3))
    streams = Streams(Form(6, 2, 4), 1, 2, staggered=True)
    streams.turn(split, torch.tensor([[0, 1]]))
    x, y, w = streams.turn(split, torch.tensor([[2, 7]]))
    assert x.shape == (6, 1, 2, 2)
    assert (x[:, 0, 1, 0] == torch.tensor([1, 1, 1, 2, 2, 2])).all()  # the second stream turns in the middle
    assert y[:, 0].argmax(-1).T.tolist() == [[2] * 6, [1, 1, 1, 3, 3, 3]]
    assert (
        w[:, 0, 1].tolist()
        == in_steps(split.w[1][:, None], 6)[3:, 0].tolist() + in_steps(split.w[7][:, None], 6)[:3, 0].tolist()
    )


def test_a_variant_is_drawn_for_each_sample():
    from bench.learning.streams import drawn_variants

    split = Split(Frames([np.zeros((500, 1, 1), np.float16)] * 3), torch.zeros(500, dtype=torch.long))
    drawn = drawn_variants(split, generator(0, "data"))
    assert torch.bincount(drawn // 500).min() > 100
    assert (drawn % 500 == 0).all()


# -- the cache ---------------------------------------------------------------------------------------------------------


FEATURES = sc.Features(size=8)


def features(folder, cache, variants=2, split="train"):
    corpus = sc.read(folder)
    return sc.frames(corpus, sc.task(corpus), split, FEATURES, sc.Augmentation(variants=variants), cache)


def test_a_kill_loses_one_variant(few, tmp_path, monkeypatch):
    whole = features(few, tmp_path / "whole")
    made, sounding = [], sc.sounding

    def killed(clip, background, split, variant, how):
        if variant == 2 and clip.word == "yes":
            raise KeyboardInterrupt
        made.append(variant)
        return sounding(clip, background, split, variant, how)

    monkeypatch.setattr(sc, "sounding", killed)
    with pytest.raises(KeyboardInterrupt):
        features(few, tmp_path / "cache")
    made.clear()
    monkeypatch.setattr(sc, "sounding", lambda c, b, s, v, h: made.append(v) or sounding(c, b, s, v, h))
    again = features(few, tmp_path / "cache")
    assert set(made) == {2}
    for a, b in zip(whole.arrays, again.arrays):
        np.testing.assert_array_equal(a, b)
        assert isinstance(a, np.memmap)
        assert a.dtype == np.float16
    made.clear()
    features(few, tmp_path / "cache", variants=1)  # fewer variants are among those that there are
    assert not made


def test_a_damaged_cache_is_made_anew(few, tmp_path, caplog):
    whole = features(few, tmp_path, 1)
    (path,) = tmp_path.glob("speech-*.npy")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()
    path.write_bytes(content)
    again = features(few, tmp_path, 1)
    assert "is damaged (the checksum differs): making it anew" in caplog.text
    np.testing.assert_array_equal(whole.arrays[0], again.arrays[0])


def test_silence_is_that_of_no_option(few, tmp_path):
    """Prevents: test clips that hang on how training clips are augmented."""
    corpus = sc.read(few)
    task = sc.task(corpus)
    loud, plain = (
        sc.frames(corpus, task, "test", FEATURES, sc.Augmentation(volume=v), tmp_path / str(v)).arrays[0]
        for v in (1.0, 0.1)
    )
    np.testing.assert_array_equal(loud, plain)


def test_a_changed_second_set_is_read_anew(few, tmp_path):
    corpus = sc.read(few)
    task = sc.second_task(few, ["yes", "no"])

    def features():
        return sc.frames(corpus, task, "test", FEATURES, sc.Augmentation(), tmp_path).arrays[0].copy()

    before = features()
    audio.write(
        few / "yes" / task.clips["test"][[c.word for c in task.clips["test"]].index("yes")].path.name, sine(440)
    )
    assert not np.array_equal(before, features())


def test_clips_come_in_no_order_of_words(words):
    """Prevents: a network that hears one clip after the other and goes by the one before."""
    y = sc.task(sc.read(words)).labels["train"]
    assert (y[1:] == y[:-1]).float().mean() < 0.45


def test_what_an_operating_system_leaves_is_no_clip(few):
    n = sum(map(len, sc.read(few).clips.values()))
    (few / "yes" / "._a_nohash_0.wav").write_bytes(b"remark")
    shutil.copy(sc.read(few).clips["train"][0].path, few / "yes" / "abc_nohash_9.WAV")
    assert sum(map(len, sc.read(few).clips.values())) == n + 1


def test_rows_keep_their_figures(smoke):
    """Prevents: columns of one row beside the name of another."""
    _, result, _ = smoke
    other = {**result, "name": "mlp", "options": {**result["options"], "model": {"kind": "mlp"}}}
    other["confusion"] = [[[0, 9, 0, 0, 0]] * 5]
    for given in ([result, other], [other, result]):
        rows = {row[0]: row for row in gsc.tables(given)[0].rows}
        assert rows["mlp"][-1] == "88.0 ± 0.2"
        assert float(rows["mlp"][-2].split()[0]) == pytest.approx(100 / 3, abs=0.1)
        assert rows["gle_52k"][-1] == "91.4 ± 0.2"


def test_other_words_than_the_run_began_with(tmp_path, few, monkeypatch):
    """Prevents: a run that goes on with other data and says nothing."""
    checkpoint = Run.checkpoint

    def stopped(self, state):
        checkpoint(self, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "checkpoint", stopped)
    flags = ["--data", str(few), "--model.kind", "mlp", "--training.epochs", "2", "--training.batch", "10"]
    with pytest.raises(SystemExit):
        launch("gsc", *flags, "--augmentation.variants", "1", "--runs", str(tmp_path / "runs"))
    monkeypatch.setattr(Run, "checkpoint", checkpoint)
    sc.read(few).clips["train"][0].path.unlink()
    with pytest.raises(SystemExit, match="are others than when the run began"):
        launch("gsc", "--resume", str(run_folder(tmp_path / "runs")))


def test_changed_recordings_are_read_anew(few, tmp_path):
    before = features(few, tmp_path, 0, "train").arrays[0].copy()
    clip = sc.read(few).clips["train"][0]
    size = clip.path.stat().st_size
    audio.write(clip.path, audio.read(clip.path)[::-1])
    assert clip.path.stat().st_size == size
    assert not np.array_equal(before, features(few, tmp_path, 0, "train").arrays[0])


def _features(folder, cache, queue):
    torch.set_num_threads(1)
    queue.put(float(np.asarray(features(folder, cache, 1).arrays[0], np.float64).sum()))


def test_two_runs_share_a_cache(few, tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    both = [context.Process(target=_features, args=(few, tmp_path, queue)) for _ in range(2)]
    for p in both:
        p.start()
    sums = [queue.get(timeout=60) for _ in both]
    for p in both:
        p.join()
    assert sums[0] == sums[1]
    assert len(list(tmp_path.glob("speech-*.npy"))) == 1
    assert not list(tmp_path.glob(".*tmp"))


def test_what_cannot_be_cached_is_kept_in_memory(tmp_path, caplog):
    (tmp_path / "taken").write_text("a file")
    got = cached_array("x", {}, lambda: np.arange(3), tmp_path / "taken")
    assert got.tolist() == [0, 1, 2]
    assert "the data are not cached" in caplog.text


def test_augmentation_is_the_same_each_time_and_for_training_alone(few):
    corpus = sc.read(few)
    clip, how = corpus.clips["train"][0], sc.Augmentation()
    plain = sc.sounding(clip, (), "train", 0, how)
    np.testing.assert_array_equal(plain, sc.samples_of(clip))
    first, again, second = (sc.sounding(clip, (), "train", v, how) for v in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second)
    still = sc.Augmentation(probability=0, shift=0)
    np.testing.assert_array_equal(sc.sounding(clip, (), "train", 1, still), plain)
    loud = sc.sounding(sc.Clip(sc.SILENCE, None, 0), [sine(440, 40000)], "train", 1, sc.Augmentation(probability=1))
    assert 0 < np.abs(loud).max() <= 0.1


def test_a_shift_moves_and_pads():
    x = np.arange(5.0)
    assert audio.shifted(x, 2).tolist() == [0, 0, 0, 1, 2]
    assert audio.shifted(x, -2).tolist() == [2, 3, 4, 0, 0]
    assert audio.shifted(x, 0).tolist() == x.tolist()


# -- the archive -------------------------------------------------------------------------------------------------------


def test_download(words, tmp_path):
    """All of it or nothing, and nothing outside the folder."""

    def fetch(address, path, hash_prefix, progress):
        assert hash_prefix == sc.ARCHIVES["0.02"][1]
        with tarfile.open(path, "w:gz") as tar:
            tar.add(words, ".")

    sc.download(tmp_path / "got", fetch=fetch)
    assert sc.read(tmp_path / "got").fingerprint == sc.read(words).fingerprint
    with pytest.raises(ValueError, match=r"is not empty"):
        sc.download(tmp_path / "got", fetch=fetch)
    assert [p.name for p in tmp_path.iterdir()] == ["got"]


def test_an_archive_that_is_another(tmp_path):
    def fetch(*args, **kwargs):
        raise RuntimeError("invalid hash value")

    with pytest.raises(ValueError, match=r"could not be downloaded: invalid hash value"):
        sc.download(tmp_path / "got", fetch=fetch)
    assert not list(tmp_path.iterdir())


def test_an_archive_that_would_write_elsewhere(tmp_path):
    (tmp_path / "a").write_text("a")
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "a", "../outside")
    with pytest.raises(ValueError, match=r"evil.tar.gz cannot be unpacked"):
        sc.unpack(tmp_path / "evil.tar.gz", tmp_path / "in")
    assert not (tmp_path / "outside").exists()


# -- networks ----------------------------------------------------------------------------------------------------------

PUBLISHED = {"mlp": (25, 495_744), "tcn": (49, 476_734), "gru": (49, 498_012), "lstm": (49, 492_620)}


@pytest.mark.parametrize(("kind", "expected"), PUBLISHED.items())
def test_parameters_as_published(kind, expected):
    frames, parameters = expected
    model = speech.seeded(kind, "published", Form(frames, 10, 12), 0)
    assert n_parameters(model) == parameters
    assert model(torch.randn(2, frames, 10)).shape == (2, 12)


@pytest.mark.parametrize("kind", PUBLISHED)
def test_small_baselines(kind):
    model = speech.seeded(kind, "small", Form(41, 32, 10), 0)
    assert 90_000 < n_parameters(model) < 110_000
    again = speech.seeded(kind, "small", Form(41, 32, 10), 0)
    x = torch.randn(2, 41, 32)
    assert torch.equal(model.eval()(x), again.eval()(x))


def test_a_single_bias_is_the_published_recurrence():
    """Against the equations of a GRU, with the one bias on the input's side."""
    model = speech.Recurrent(Form(4, 3, 2), "gru", 5, single_bias=True, mean=False)
    W, U, b = model.rnn.weight_ih_l0, model.rnn.weight_hh_l0, model.rnn.bias_ih_l0
    x, h = torch.randn(1, 4, 3), torch.zeros(5)
    for t in range(4):
        (r, z, n), (hr, hz, hn) = (W @ x[0, t] + b).chunk(3), (U @ h).chunk(3)
        r, z = torch.sigmoid(r + hr), torch.sigmoid(z + hz)
        h = (1 - z) * torch.tanh(n + r * hn) + z * h
    torch.testing.assert_close(model(x)[0], model.readout(h))
    model(x).sum().backward()
    assert model.rnn.bias_hh_l0.grad is None


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("GSC_DATA", raising=False)
        yield


SMOKE = ["--smoke", "true", "--config", "gle_52k"]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gle.simulate.CHECK_EVERY", 10)
        printed = launch("gsc", *SMOKE, "--runs", str(runs), "--seeds", "2")
    folder = run_folder(runs)
    return folder, json.loads((folder / "result.json").read_text()), printed


def test_smoke(smoke):
    folder, result, printed = smoke
    assert {p.name for p in folder.iterdir()} == {
        "config.yaml", "env.json", "result.json", "checkpoint.pt", "metrics.jsonl", "network.pt", "heard.json", "parts",
        "learning_curve.png", "confusion.png",
    }  # fmt: skip
    for part in ("words alone %", "mostly taken for", "A part of the published data", "113 clips of 31 speakers"):
        assert part in printed
    assert result["data"]["fingerprint"] == sc.read(sc_folder()).fingerprint
    for seed in range(2):
        confusion = np.array(result["confusion"][seed])
        assert confusion.sum() == result["data"]["splits"]["test"]["clips"]
        assert result["test"][seed] == pytest.approx(100 * np.trace(confusion) / confusion.sum())
        each = {name: values[seed] for name, values in result["validation by readout"].items()}
        assert each[result["readout"][seed]] == max(each.values()) == result["validation"][seed]


def sc_folder():
    from bench.data.cache import cache_dir

    return cache_dir() / "made-words-1"


def test_it_learns(smoke):
    """Words of its own, by speakers that it has not heard: chance is one in five."""
    assert min(smoke[1]["test"]) > 60


def test_interrupted_while_it_learns(smoke, tmp_path, monkeypatch):
    """A run that ends in the second stage and goes on is the uninterrupted one, to the bit."""
    _, result, _ = smoke
    checkpoint, saved = Run.checkpoint, []

    def stopped(self, state):
        checkpoint(self, state)
        saved.append(state)
        if len(saved) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "checkpoint", stopped)
    with pytest.raises(SystemExit):
        launch("gsc", *SMOKE, "--runs", str(tmp_path), "--seeds", "2")
    monkeypatch.setattr(Run, "checkpoint", checkpoint)
    folder = run_folder(tmp_path)
    launch("gsc", "--resume", str(folder))
    again = json.loads((folder / "result.json").read_text())
    for key in ("curve", "validation", "test", "confusion", "validation by readout", "data"):
        assert again[key] == result[key], key


@pytest.mark.parametrize("kind", PUBLISHED)
def test_baselines_learn(kind, tmp_path):
    o = gsc.tiny(gsc.Speech(name=kind, runs=tmp_path, smoke=True, compile=False))
    o.model.kind = kind
    o.training.epochs, o.training.lr, o.training.schedule = 8, 3e-3, "constant"
    gsc.check(o)
    result = gsc.run(o, Run.create(tmp_path, "gsc", "a: 1", torch.device("cpu")))
    assert result["test"][0] > 60
    assert result["readout"] == ["sum"]


@pytest.mark.parametrize("kind", ["mlp", "tcn"])
def test_baselines_go_on_where_they_stopped(kind, words):
    """Dropout and batch statistics included. Prevents: masks drawn from a generator that no checkpoint keeps."""
    o = gsc.tiny(gsc.Speech())
    o.model.kind = kind
    corpus = sc.read(words)
    labelled = gsc.splits(o, corpus, sc.task(corpus))

    def rates(part):
        return [1e-3] * o.seeds

    make = gsc.baseline(o, labelled.form)
    whole, first, second = (Offline(o, make) for _ in range(3))
    whole.epoch(labelled.train, rates)
    torch.rand(7)  # what others draw meanwhile
    whole.epoch(labelled.train, rates)
    first.epoch(labelled.train, rates)
    second.load_state_dict(first.state_dict())
    second.epoch(labelled.train, rates)
    for a, b in zip(whole.models[0].state_dict().values(), second.models[0].state_dict().values()):
        assert torch.equal(a, b)


def test_bptt_on_the_same_network(tmp_path):
    """Exact gradients, not online, with one update a sample: it learns, and its readout is chosen as ever."""
    o = gsc.tiny(gsc.Speech(runs=tmp_path, smoke=True, compile=False))
    o.training.rule, o.training.epochs, o.training.lr, o.training.schedule = "bptt", 6, 1e-2, "constant"
    o.training.staggered = o.training.balanced = True
    gsc.check(o)
    result = gsc.run(o, Run.create(tmp_path, "gsc", "a: 1", torch.device("cpu")))
    assert result["online"] is False
    assert len(result["validation by readout"]) == 4
    assert result["test"][0] > 50
    o.training.centred = 50.0
    with pytest.raises(ValueError, match=r"rule = bptt updates once a sample"):
        gsc.check(o)


def test_lateral_weights(tmp_path):
    """They are there, learn, and pass a rate on by a step."""
    o = gsc.tiny(gsc.Speech(runs=tmp_path, smoke=True, compile=False))
    o.model.lateral = 0.5
    o.training.epochs, o.training.lr, o.training.schedule = 2, 1e-3, "constant"
    gsc.check(o)
    run = Run.create(tmp_path, "gsc", "a: 1", torch.device("cpu"))
    gsc.run(o, run)
    net = gsc.gle.load(run.path / "network.pt").network
    fresh = populations.network(o.model, 32, 5, [0], o.dt, "prospective")
    for name in ("hidden 1", "hidden 2"):
        W = f"{name} → {name} (delayed)"
        assert (net[W].W - fresh[W].W).abs().max() > 1e-3
    o.model.hidden_layers = 1
    with pytest.raises(ValueError, match=r"for gle with two hidden layers or more, not gle with 1"):
        gsc.check(o)


def test_delays_and_a_second_test_set(words, tmp_path):
    second = tmp_path / "second"
    for name, word in (("yes", "yes"), ("_unknown_", "cat"), ("_silence_", None)):
        (second / name).mkdir(parents=True)
        for i, path in enumerate(sorted((words / "yes").iterdir())[:4]):
            if word is None:
                audio.write(second / name / f"{i}.wav", np.zeros(16000))
            else:
                shutil.copy(words / word / path.name, second / name)
    o = gsc.tiny(gsc.Speech(runs=tmp_path, smoke=True, compile=False, lags=[2, 4]))
    o.test_data = second
    gsc.check(o)
    run = Run.create(tmp_path, "gsc", "a: 1", torch.device("cpu"))
    result = gsc.run(o, run)
    assert len(result["second test"]) == 1
    assert gsc.gle.load(run.path / "network.pt").network.n_in == 96


def test_what_counts_little_says_little():
    """A network that passes its input on: loud at an instant that counts nothing, it is right by the others."""
    from bench.learning.options import Learning, Training
    from bench.learning.trainers import Online

    def passes_on(o, training, form):
        layer = gle.Layer(2, 2, tau_m=1.0, tau_r=1.0, phi="linear", bias=False, ensemble=(1,))
        with torch.no_grad():
            layer.W.copy_(torch.eye(2).expand_as(layer.W))
        return gle.Network([layer])

    x = torch.zeros(2, 3, 2)
    x[0, :2, 0] = x[1, :2, 1] = 1.0
    x[0, 2, 1] = x[1, 2, 0] = 9.0
    o = Learning(training=Training(batch=2), dt=1.0, compile=False)
    trainer = Online(o, o.training, Form(3, 2, 2), build=passes_on)
    y = torch.tensor([0, 1])
    assert trainer.evaluate(Split(x, y))["accuracy"] == [0.0]
    counted = Split(x, y, torch.tensor([[1.0, 1.0, 0.0]] * 2))
    for readout in ("sum", "mean", "vote"):
        assert trainer.evaluate(counted, [readout])["accuracy"] == [100.0], readout


def test_seeds_divided_among_workers_are_joined(smoke, tmp_path):
    from bench.learning.run import merged, share

    o = gsc.Speech(seeds=2)
    assert [share(o, w, 2).seed_list for w in range(2)] == [[0], [1]]
    _, result, _ = smoke
    halves = [
        {
            **result,
            **{k: [result[k][i]] for k in ("seeds", "readout", "validation", "test", "confusion")},
            "curve": [[row[i]] for row in result["curve"]],
            "validation by readout": {k: [v[i]] for k, v in result["validation by readout"].items()},
        }
        for i in range(2)
    ]
    joined = merged(halves)
    for key in ("test", "confusion", "validation by readout", "curve", "data", "readout"):
        assert joined[key] == result[key]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "where are the words"),
        (["--data", "nowhere"], "nowhere is no folder"),
        (["--smoke", "true", "--lags", "[41]"], "lags must lie between 1 and the 21 frames of a clip, got 41"),
        (["--smoke", "true", "--features.kind", "mfcc"], "give gated=false for mfcc"),
        (["--smoke", "true", "--features.size", "0"], "size must be at least 1, got 0"),
        (["--smoke", "true", "--features.window", "20000"], "window must not be longer than a clip"),
        (["--smoke", "true", "--augmentation.volume", "2"], "must lie between 0 and 1, got 0.8 and 2"),
        (["--smoke", "true", "--augmentation.shift", "-1"], "shift must lie between 0"),
        (["--smoke", "true", "--model.kind", "lagnet"], "lagnet is for series of one feature"),
        (["--smoke", "true", "--block", "0"], "block must be at least 1, got 0"),
        (["--smoke", "true", "--features.window", "1023"], "window must be even, got 1023"),
        (["--smoke", "true", "--dt", "0.84"], "dt must be 1/k, so that a frame has k steps, got 0.84"),
        (["--smoke", "true", "--model.populations", "[]"], "populations is empty"),
        (["--listen", "a.wav"], "belong together"),
    ],
)  # fmt: skip
def test_bad_options(flags, message, tmp_path):
    with pytest.raises(SystemExit) as stop:
        launch("gsc", *flags, "--config", "gle_52k", "--runs", str(tmp_path))
    assert message in str(stop.value)
    assert not list(tmp_path.iterdir())


# -- listening ---------------------------------------------------------------------------------------------------------


def test_listening(smoke, words, tmp_path):
    """A recording of several words, streamed step by step: where one is said, the network that learned it says so more
    often than by chance."""
    folder, _, _ = smoke
    said = ("yes", "up", "no")
    test = {c.word: c for c in sc.read(words).clips["train"]}
    audio.write(tmp_path / "a.wav", np.concatenate([sc.samples_of(test[w]) for w in said]))
    heard = listening.hear(tmp_path / "a.wav", folder / "network.pt")
    assert heard.probability.shape == (61, 5)
    np.testing.assert_allclose(heard.probability.sum(1), 1, atol=1e-5)
    ends = [heard.classes[heard.probability[20 * (i + 1)].argmax()] for i in range(3)]
    assert sum(a == b for a, b in zip(ends, said)) >= 2
    printed = launch("gsc", "--listen", str(tmp_path / "a.wav"), "--weights", str(folder / "network.pt"), "--runs",
                     str(tmp_path))  # fmt: skip
    assert len([line for line in printed.splitlines() if " s " in line]) == len(list(heard.lines()))
    assert (tmp_path / "gsc" / "heard-a.png").stat().st_size > 10_000


@pytest.mark.parametrize("dt", [1.0, 0.25])
def test_streaming_is_predicting(dt):
    """Step by step or all at once: the same outputs. Of several steps a frame the last ones come as it is known, on the
    line from the frame before."""
    net = gle.Network([gle.Layer(3, 4, tau_m=2.0, tau_r=1.0), gle.Layer(4, 2, tau_m=1.0, tau_r=1.0)], seed=0)
    sim = gle.Simulation(net, dt=dt)
    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    k = round(1 / dt)
    steps = x if k == 1 else torch.cat([x[:1].expand(k, -1), in_steps(x, 12 * k)[:-k]])
    whole, _ = sim.predict(steps.unsqueeze(1))
    torch.testing.assert_close(listening.streamed(sim, x), whole[k - 1 :: k, 0], rtol=1e-4, atol=1e-5)


def test_weights_that_fit_not(smoke, words, tmp_path):
    folder, _, _ = smoke
    recording = next((words / "yes").iterdir())
    for name in ("network.pt", "heard.json"):
        shutil.copy(folder / name, tmp_path)
    about = json.loads((folder / "heard.json").read_text())
    (tmp_path / "heard.json").write_text(json.dumps({**about, "lags": [1]}))
    with pytest.raises(ValueError, match=r"is 32 → 5, heard.json tells of"):
        listening.hear(recording, tmp_path / "network.pt")
    (tmp_path / "heard.json").write_text("{}")
    with pytest.raises(ValueError, match=r"heard.json is damaged"):
        listening.hear(recording, tmp_path / "network.pt")
    (tmp_path / "heard.json").unlink()
    with pytest.raises(ValueError, match=r"heard.json is missing"):
        listening.hear(recording, tmp_path / "network.pt")
    with pytest.raises(ValueError, match=r"there is no file"):
        listening.hear(recording, tmp_path / "none.pt")
