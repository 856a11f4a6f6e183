"""Signals that are no ECGs, as someone may post them by mistake or to see what happens.

Each kind draws a new signal from its own range of parameters every time: `kind(rng, fs, n_samples,
n)` gives [n, n_samples] at about 1 mV, n channels of one source. `as_record` puts them on leads.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import signal

from ecg.leads import LEADS, LIMB_FROM_I_II, LIMB_LEADS
from ecg.record import Record

Kind = Callable[[np.random.Generator, float, int, int], np.ndarray]
FS = (100.0, 250.0, 500.0, 1000.0)
AUDIO_FS = 4000
LAYOUTS = ("one lead", "six limb leads", "twelve leads", "twelve scaled copies")


def _time(fs: float, n_samples: int) -> np.ndarray:
    return np.arange(n_samples) / fs


def _some_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """From none to 30 uV rms."""
    return rng.choice([0.0, 0.003, 0.01, 0.03]) * rng.standard_normal(shape)


def _coloured(rng: np.random.Generator, fs: float, n_samples: int, n: int, slope: float):
    """Noise of power 1 / f^slope above 0.1 Hz, of unit rms."""
    f = np.fft.rfftfreq(n_samples, 1 / fs)
    spectrum = rng.standard_normal((n, len(f))) + 1j * rng.standard_normal((n, len(f)))
    spectrum *= np.where(f > 0, np.maximum(f, 0.1), np.inf) ** (-slope / 2)
    noise = np.fft.irfft(spectrum, n_samples)
    return noise / noise.std(axis=-1, keepdims=True)


def sine(rng, fs, n_samples, n):
    hz = np.exp(rng.uniform(np.log(0.2), np.log(45)))
    phase = rng.uniform(0, 2 * np.pi, (n, 1))
    wave = np.sin(2 * np.pi * hz * _time(fs, n_samples) + phase)
    return wave * rng.uniform(0.3, 1.5, (n, 1)) + _some_noise(rng, (n, n_samples))


def white_noise(rng, fs, n_samples, n):
    return rng.uniform(0.1, 1) * rng.standard_normal((n, n_samples))


def pink_noise(rng, fs, n_samples, n):
    return rng.uniform(0.1, 1) * _coloured(rng, fs, n_samples, n, rng.uniform(0.8, 1.4))


def random_walk(rng, fs, n_samples, n):
    steps = rng.standard_normal((n, n_samples)) * rng.uniform(0.3, 2) / np.sqrt(fs)
    return np.cumsum(steps, axis=-1)


def constant_noise(rng, fs, n_samples, n):
    level = rng.uniform(-2, 2, (n, 1))
    return level + 10 ** rng.uniform(-2, -0.5) * rng.standard_normal((n, n_samples))


def square_wave(rng, fs, n_samples, n):
    hz, duty = np.exp(rng.uniform(np.log(0.4), np.log(8))), rng.choice([0.5, rng.uniform(0.1, 0.9)])
    wave = signal.square(2 * np.pi * (hz * _time(fs, n_samples) + rng.uniform()), duty)
    return wave * rng.uniform(-1, 1, (n, 1)) + _some_noise(rng, (n, n_samples))


def triangle_wave(rng, fs, n_samples, n):
    hz, width = np.exp(rng.uniform(np.log(0.4), np.log(8))), rng.choice([0.5, 1.0, rng.uniform()])
    wave = signal.sawtooth(2 * np.pi * (hz * _time(fs, n_samples) + rng.uniform()), width)
    return wave * rng.uniform(-1, 1, (n, 1)) + _some_noise(rng, (n, n_samples))


def _pulse_times(rng, duration_s: float, bpm: tuple[float, float], spread: float) -> np.ndarray:
    period = 60 / rng.uniform(*bpm)
    intervals = period * (1 + spread * rng.standard_normal(int(duration_s / period) + 4))
    return np.cumsum(np.maximum(intervals, 0.2)) - rng.uniform(1, 2) * period


def cartoon(rng, fs, n_samples, n):
    """A triangle a beat on a straight line, mostly evenly spaced; often a wider one after it."""
    time = _time(fs, n_samples)
    at = _pulse_times(rng, n_samples / fs, (45, 160), rng.choice([0, 0, 0.03]))
    half, tail = rng.uniform(0.03, 0.09), rng.random() < 0.5
    after, wide = rng.uniform(0.2, 0.3), rng.uniform(0.06, 0.12)
    height, tail_height = rng.uniform(0.4, 2), rng.uniform(0.1, 0.4)
    wave = np.zeros(n_samples)
    for t in at:
        wave += height * np.maximum(0, 1 - np.abs(time - t) / half)
        if tail:
            wave += tail_height * np.maximum(0, 1 - np.abs(time - t - after) / wide)
    return wave * rng.uniform(0.4, 1, (n, 1)) + _some_noise(rng, (n, n_samples))


def sketch(rng, fs, n_samples, n):
    """P, Q, R, S and T as triangles, as a hand would draw them, every lead with its own heights."""
    phase_s = [-0.16, -0.03, 0.0, 0.03, 0.25] + rng.uniform(-0.02, 0.02, 5)
    halves = rng.uniform([0.03, 0.015, 0.02, 0.015, 0.06], [0.06, 0.03, 0.06, 0.05, 0.12])
    heights = rng.uniform([0, -0.2, 0.4, -0.4, 0], [0.25, 0, 1.5, 0, 0.5])
    own = np.ones((n, 1)) * heights * (rng.uniform(0.3, 1.2, (n, 5)) if rng.random() < 0.5 else 1)
    time = _time(fs, n_samples)
    wave = np.zeros((n, n_samples))
    for t in _pulse_times(rng, n_samples / fs, (45, 160), rng.choice([0, 0, 0.03])):
        for at, half, height in zip(phase_s, halves, own.T, strict=True):
            wave += height[:, None] * np.maximum(0, 1 - np.abs(time - t - at) / half)
    noise = rng.choice([0.0, 0.003, 0.01]) * rng.standard_normal((n, n_samples))
    return wave * rng.uniform(0.4, 1, (n, 1)) + noise


def pulses(rng, fs, n_samples, n):
    """Smooth bumps, evenly spaced: a metronome's, a wheel's."""
    phase = np.exp(rng.uniform(np.log(0.6), np.log(3))) * _time(fs, n_samples) + rng.uniform()
    wave = np.abs(np.sin(np.pi * phase)) ** np.exp(rng.uniform(np.log(2), np.log(200)))
    return wave * rng.uniform(0.3, 1.5, (n, 1)) + _some_noise(rng, (n, n_samples))


def tones(rng, fs, n_samples, n):
    """One to four sines together, swelling and fading or sweeping."""
    time = _time(fs, n_samples)
    wave = np.zeros((n, n_samples))
    for _ in range(rng.integers(1, 5)):
        hz = np.exp(rng.uniform(np.log(0.5), np.log(45)))
        swell = 1 + rng.choice([0, 1]) * np.sin(2 * np.pi * rng.uniform(0.3, 3) * time)
        sweep = 1 + rng.choice([0, 0.05]) * time
        phase = 2 * np.pi * hz * time * sweep + rng.uniform(0, 2 * np.pi, (n, 1))
        wave += rng.uniform(0.2, 1) * swell * np.sin(phase)
    return wave + _some_noise(rng, (n, n_samples))


def ppg(rng, fs, n_samples, n):
    """Pulses with a dicrotic wave, on a breathing baseline."""
    time = _time(fs, n_samples)
    at = _pulse_times(rng, n_samples / fs, (45, 120), rng.uniform(0.01, 0.08))
    rise, notch = rng.uniform(0.07, 0.12), rng.uniform(0.25, 0.35)
    wave = rng.uniform(0, 0.3) * np.sin(2 * np.pi * rng.uniform(0.15, 0.4) * time)
    for t in at:
        size = 1 + 0.05 * rng.standard_normal()
        wave += size * np.exp(-0.5 * ((time - t) / np.where(time < t, rise, 1.6 * rise)) ** 2)
        wave += 0.35 * size * np.exp(-0.5 * ((time - t - notch) / 0.1) ** 2)
    return wave * rng.uniform(0.3, 1, (n, 1)) + _some_noise(rng, (n, n_samples))


def eeg(rng, fs, n_samples, n):
    """1/f background, an alpha rhythm that comes and goes, blinks; scaled up to ECG size or not."""
    time = _time(fs, n_samples)
    waxing = np.clip(_coloured(rng, fs, n_samples, 1, 3.0), 0, None)
    alpha = waxing * np.sin(2 * np.pi * rng.uniform(8, 12) * time + rng.uniform(0, 6))
    wave = _coloured(rng, fs, n_samples, n, rng.uniform(1, 2)) + rng.uniform(0, 2) * alpha
    if rng.random() < 0.5:
        for t in rng.uniform(0, n_samples / fs, rng.integers(1, 5)):
            wave += rng.uniform(2, 6) * np.exp(-0.5 * ((time - t) / rng.uniform(0.08, 0.15)) ** 2)
    return wave * rng.choice([0.03, 0.1, 0.3])


def emg(rng, fs, n_samples, n):
    """Band-limited noise, at rest and in bursts, some of them rhythmic."""
    time = _time(fs, n_samples)
    low, high = 20, min(150, 0.45 * fs)
    sos = signal.butter(2, (low, high), "bandpass", fs=fs, output="sos")
    wave = signal.sosfilt(sos, rng.standard_normal((n, n_samples + 200)), axis=-1)[:, 200:]
    rhythm = np.sin(2 * np.pi * rng.uniform(0.3, 2.5) * time + rng.uniform(0, 6))
    bursts = np.clip(rhythm - rng.uniform(-0.5, 0.9), 0, None)
    envelope = rng.uniform(0.02, 0.3) + rng.choice([0, 1]) * bursts
    return rng.uniform(0.3, 1) * wave * envelope / wave.std()


def respiration(rng, fs, n_samples, n):
    time = _time(fs, n_samples)
    hz, depth = rng.uniform(0.15, 0.6), rng.uniform(0.5, 1.5)
    phase = 2 * np.pi * hz * time + 0.3 * np.cumsum(rng.standard_normal(n_samples)) / np.sqrt(fs)
    wave = np.sin(phase) + rng.uniform(0, 0.4) * np.sin(2 * phase + rng.uniform(0, 6))
    return depth * wave * rng.uniform(0.3, 1, (n, 1)) + _some_noise(rng, (n, n_samples))


def _as_sampled(rng, audio: np.ndarray, fs: float, n_samples: int) -> np.ndarray:
    """Audio at AUDIO_FS resampled to fs, or its samples taken for samples at fs."""
    if rng.random() < 0.5:
        start = rng.integers(max(1, audio.shape[-1] - n_samples))
        return audio[:, start : start + n_samples]
    return signal.resample_poly(audio, round(fs), AUDIO_FS, axis=-1)[:, :n_samples]


def speech(rng, fs, n_samples, n):
    """Voiced syllables, their harmonics and formants, and pauses."""
    time = np.arange(round(AUDIO_FS * n_samples / fs) + AUDIO_FS) / AUDIO_FS
    pitch = rng.uniform(90, 250) * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * time + rng.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(pitch) / AUDIO_FS
    voice = sum(np.sin(k * phase) / k ** rng.uniform(0.5, 1.5) for k in range(1, 8))
    syllables = np.clip(np.sin(2 * np.pi * rng.uniform(2, 6) * time + rng.uniform(0, 6)), 0, None)
    words = np.sin(2 * np.pi * rng.uniform(0.2, 0.6) * time + rng.uniform(0, 6)) > -0.5
    breath = 0.1 * rng.standard_normal(len(time))
    audio = (voice + breath) * syllables ** rng.uniform(0.5, 2) * words
    return _as_sampled(rng, audio[None] * rng.uniform(0.3, 1, (n, 1)), fs, n_samples)


def music(rng, fs, n_samples, n):
    """Plucked notes in time with a beat, and a drum."""
    time = np.arange(round(AUDIO_FS * n_samples / fs) + AUDIO_FS) / AUDIO_FS
    audio = np.zeros(len(time))
    period = 60 / rng.uniform(60, 180)
    hits = rng.standard_normal(len(time))
    scale = 55 * 2 ** (rng.choice([0, 2, 4, 7, 9, 12, 16, 24], 8) / 12) * rng.choice([1, 2, 4])
    for t in np.arange(0, time[-1], period):
        since = np.maximum(time - t, 0)
        note = np.sin(2 * np.pi * rng.choice(scale) * since) * np.exp(-since * rng.uniform(2, 8))
        drum = hits * np.exp(-since * 30) * rng.choice([0, 0.5])
        audio += (time >= t) * (note + drum)
    return _as_sampled(rng, audio[None] * rng.uniform(0.3, 1, (n, 1)), fs, n_samples)


KINDS: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (
        sine, white_noise, pink_noise, random_walk, constant_noise, square_wave, triangle_wave,
        cartoon, sketch, pulses, tones, ppg, eeg, emg, respiration, speech, music,
    )
}  # fmt: skip


def as_record(kind: str, layout: str, rng: np.random.Generator, duration_s: float = 10.0) -> Record:
    """A drawn signal as a Record at one of FS; limb leads obey Einthoven's and Goldberger's laws.

    layout: one of LAYOUTS; "twelve leads" draws eight channels of one source, the scaled copies
    are of a single one.
    """
    fs = float(rng.choice(FS))
    n_samples = round(duration_s * fs)
    draw = KINDS[kind]
    if layout == "one lead":
        lead = str(rng.choice(("I", "II", "V1", "V5")))
        return Record(draw(rng, fs, n_samples, 1).astype(np.float32), fs, (lead,))
    n = {"six limb leads": 2, "twelve leads": 8, "twelve scaled copies": 1}[layout]
    source = draw(rng, fs, n_samples, n)
    if n == 1:
        source = source * rng.uniform(-1, 1.5, (8, 1))
    limbs = LIMB_FROM_I_II @ source[:2]
    if layout == "six limb leads":
        return Record(limbs.astype(np.float32), fs, LIMB_LEADS)
    return Record(np.concatenate([limbs, source[2:]]).astype(np.float32), fs, LEADS)
