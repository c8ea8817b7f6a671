"""Recordings and what networks see of them: mel spectra and MFCCs. Windows are in samples at RATE.

The spectra are those of torchaudio's `MelSpectrogram` and `MFCC` with their default settings (HTK mel scale, periodic
Hann window, power), which tests hold them to; torchaudio itself is not needed.
"""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path

import numpy as np
import scipy.fft
import scipy.io.wavfile
import torch
from torch import Tensor

RATE = 16000  # samples a second
SUFFIXES = (".wav", ".flac")


def read(path: Path) -> np.ndarray:
    """The samples of a mono recording at RATE, float32 within ±1.

    Raises ValueError, with the file's name, for what cannot be read, has several channels or another rate; and for
    FLAC where soundfile is not installed.
    """
    if path.suffix.lower() == ".flac":
        try:
            import soundfile
        except ImportError:
            raise ValueError(f'{path} needs soundfile: pip install "gle-toolkit[flac]", or convert it to WAV') from None
    try:
        if path.suffix.lower() == ".flac":
            samples, rate = soundfile.read(path, dtype="float32")
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", scipy.io.wavfile.WavFileWarning)  # chunks with remarks
                warnings.filterwarnings("error", "Reached EOF")  # a file that ends before its data do
                rate, samples = scipy.io.wavfile.read(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    except Exception as error:  # what a damaged file does to the parser
        raise ValueError(f"{path} is damaged or no {path.suffix[1:].upper()} file: {error}") from error
    if samples.ndim != 1:
        raise ValueError(f"{path} has {samples.shape[-1]} channels, one is expected: mix it down first")
    if rate != RATE:
        raise ValueError(f"{path} has {rate} samples a second, {RATE} are expected: resample it first")
    if not len(samples):
        raise ValueError(f"{path} is empty")
    if samples.dtype.kind == "i":
        return samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    if samples.dtype.kind == "u":  # eight bits, around 128
        return samples.astype(np.float32) / 128 - 1
    if not np.isfinite(samples).all():
        raise ValueError(f"{path} is not finite at sample {int(np.flatnonzero(~np.isfinite(samples))[0])}")
    return np.clip(samples.astype(np.float32), -1, 1)


def write(path: Path, samples: np.ndarray) -> None:
    """As WAV, 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.wavfile.write(path, RATE, np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16))


# -- spectra -----------------------------------------------------------------------------------------------------------


def mel(f: np.ndarray) -> np.ndarray:
    """Of frequencies in Hz, on the HTK scale."""
    return 2595 * np.log10(1 + f / 700)


@cache
def mel_bank(bands: int, n_fft: int) -> Tensor:
    """Triangles whose corners lie evenly on the mel scale from 0 to RATE / 2: [n_fft / 2 + 1, bands], float32."""
    corners = 700 * (10 ** (np.linspace(0, mel(np.array(RATE / 2)), bands + 2) / 2595) - 1)
    frequencies = np.linspace(0, RATE / 2, n_fft // 2 + 1)[:, None]
    rising = (frequencies - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - frequencies) / (corners[2:] - corners[1:-1])
    return torch.from_numpy(np.clip(np.minimum(rising, falling), 0, None)).float()


def mel_spectrum(x: Tensor, bands: int, window: int, hop: int, centred: bool = True) -> Tensor:
    """Power in `bands` mel bands of windows that begin `hop` samples apart: [..., samples] → [..., frames, bands].

    centred: the first window is centred on the first sample, the recording mirrored before it; otherwise it begins
    there. Raises ValueError for recordings shorter than half a window, or a whole one.
    """
    least = window // 2 + 1 if centred else window
    if x.shape[-1] < least:
        raise ValueError(f"a recording of {x.shape[-1]} samples is too short for windows of {window}: {least} at least")
    flat = x.reshape(-1, x.shape[-1])
    spectrum = torch.stft(
        flat, window, hop, window=torch.hann_window(window), center=centred, pad_mode="reflect", return_complex=True
    )
    power = (spectrum.real.square() + spectrum.imag.square()).mT
    return (power @ mel_bank(bands, window)).reshape(*x.shape[:-1], power.shape[-2], bands)


def log_mel(x: Tensor, bands: int = 32, window: int = 1024, hop: int = 400) -> Tensor:
    """log₂(mel + 10⁻⁹), as published: a second becomes 41 frames."""
    return (mel_spectrum(x, bands, window, hop) + 1e-9).log2()


def mfcc(x: Tensor, coefficients: int = 10, window: int = 640, hop: int = 320, bands: int = 40) -> Tensor:
    """The first coefficients of the (orthonormal) cosine transform of the mel spectrum in decibels, no more than 80
    below its peak."""
    decibel = 10 * mel_spectrum(x, bands, window, hop, centred=False).clamp(min=1e-10).log10()
    decibel = decibel.maximum(decibel.amax((-1, -2), keepdim=True) - 80)
    basis = scipy.fft.dct(np.eye(bands), norm="ortho")[:, :coefficients]
    return decibel @ torch.from_numpy(basis).float()


def standardised(x: Tensor) -> Tensor:
    """Zero mean and unit variance of each recording [..., frames, features]; one that is the same everywhere, as
    digital silence is, becomes zero."""
    deviation = x - x.mean((-1, -2), keepdim=True)
    return deviation / deviation.square().mean((-1, -2), keepdim=True).sqrt().clamp(min=1e-3)


# -- sounds ------------------------------------------------------------------------------------------------------------


def noise(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Coloured noise, from white to brown at random, with a peak of one: [samples], float32."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    slope = rng.uniform(0, 1)  # of the amplitude, as 1/f^slope
    spectrum *= np.maximum(np.arange(len(spectrum)), 1.0) ** -slope
    made = np.fft.irfft(spectrum, samples)
    return (made / np.abs(made).max()).astype(np.float32)


def shifted(x: np.ndarray, by: int) -> np.ndarray:
    """Later by so many samples, with zeros where nothing was recorded."""
    moved = np.zeros_like(x)
    if by >= 0:
        moved[by:] = x[: len(x) - by]
    else:
        moved[:by] = x[-by:]
    return moved


def low_pass_level(x: Tensor, tau: float) -> Tensor:
    """The mean over features of frames [..., frames, features] through a leaky integrator from rest, τ in frames:
    [..., frames]."""
    level, kept = [], x.new_zeros(x.shape[:-2])
    for frame in x.mean(-1).unbind(-1):
        kept = kept + (frame - kept) / tau
        level.append(kept)
    return torch.stack(level, -1)


def gate(x: Tensor, tau: float = 6.0, threshold: float = 0.25, slope: float = 12.0, floor: float = 0.02) -> Tensor:
    """How much each instant of log-mel frames [..., frames, features] counts, [..., frames]:
    floor + σ(slope (LP_τ[level] − threshold)), about one while there is something to hear. It looks back only, and so
    can run along with a stream."""
    return floor + torch.sigmoid(slope * (low_pass_level(x, tau) - threshold))
