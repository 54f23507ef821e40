"""Sounds to log-mel frames, as Whisper counts them.

A sound becomes mono at 16 kHz, is padded with silence to whole seconds and then measured: its frames depend on nothing
but itself, whatever else is in its batch.
"""

from __future__ import annotations

import io
from functools import lru_cache

import av
import numpy as np
import soundfile
import soxr
import torch

from commonspace.content import Audio
from commonspace.errors import ContentError
from commonspace.processing.preprocessing import Preprocessing

_GSM_FRAME, _GSM_RATE = 33, 8000
_MOST_CHANNELS = 64  # of an array; more are samples taken for channels


def read_audio(part: Audio, preprocessing: Preprocessing, *, cut: bool) -> tuple[torch.Tensor, str]:
    """Log-mel frames float32 [M, T] of a sound, and what was cut off it ("" for nothing).

    Raises ContentError that names the sound where it cannot be read, has no samples or holds NaN, and, unless it may
    be `cut`, where it is longer than `max_audio_seconds`.
    """
    limit = preprocessing.max_audio_seconds
    if isinstance(part.source, np.ndarray):
        samples, rate = _from_array(part.source, part.label), int(part.rate or 0)
        seconds = len(samples) / rate
        samples = samples[: int(limit * rate)]
    else:
        samples, rate, seconds = _decode(part.read_bytes(), part.label, limit)
    return finish(samples, rate, seconds, part.label, limit, preprocessing, cut=cut)


def finish(
    samples: np.ndarray, rate: int, seconds: float, label: str, limit: float, preprocessing: Preprocessing, *, cut: bool
) -> tuple[torch.Tensor, str]:
    """Checked log-mel [M, T] of mono `samples` at `rate` Hz, `seconds` long before they were cut to `limit`."""
    if len(samples) == 0:
        raise ContentError(f"{label}: has zero length; replace the file")
    if not np.isfinite(samples).all():
        raise ContentError(f"{label}: holds NaN or infinite samples; replace the file")
    over = ""
    if seconds > limit:
        over = f"{label}: cut from {seconds:.1f} to {limit:g} s"
        if not cut:
            raise ContentError(
                f"{label}: is {seconds:.1f} s long, at most {limit:g} s are taken; cut it or use on_limit=truncate"
            )
    if rate != preprocessing.audio_rate:
        samples = soxr.resample(samples, rate, preprocessing.audio_rate)
    return log_mel(torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32)), preprocessing), over


def log_mel(samples: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """Whisper's log-mel float32 [M, T] of samples [n] at `audio_rate`, zero-padded to whole seconds (at least one)."""
    rate, size = preprocessing.audio_rate, preprocessing.audio_fft
    samples = torch.nn.functional.pad(samples, (0, max(rate, len(samples) + -len(samples) % rate) - len(samples)))
    spectrum = torch.stft(samples, size, preprocessing.audio_hop, window=torch.hann_window(size), return_complex=True)
    power = spectrum[:, :-1].abs().square()
    logs = (mel_filters(rate, size, preprocessing.audio_mels) @ power).clamp(min=1e-10).log10()
    return (torch.maximum(logs, logs.max() - 8) + 4) / 4


@lru_cache
def mel_filters(rate: int, size: int, mels: int) -> torch.Tensor:
    """Slaney's triangular filters of equal area, float32 [mels, size / 2 + 1]: linear to 1 kHz, logarithmic above."""
    frequencies = np.linspace(0, rate / 2, size // 2 + 1)
    corners = _mel_to_hertz(np.linspace(0, _hertz_to_mel(rate / 2), mels + 2))
    rise = (frequencies - corners[:-2, None]) / np.diff(corners)[:-1, None]
    fall = (corners[2:, None] - frequencies) / np.diff(corners)[1:, None]
    triangles = np.maximum(0, np.minimum(rise, fall)) * (2 / (corners[2:] - corners[:-2]))[:, None]
    return torch.from_numpy(triangles.astype(np.float32))


def _hertz_to_mel(hertz: float) -> float:
    return 3 * hertz / 200 if hertz < 1000 else 15 + 27 * np.log(hertz / 1000) / np.log(6.4)


def _mel_to_hertz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15, 200 * mel / 3, 1000 * np.exp(np.log(6.4) * (mel - 15) / 27))


def _from_array(values: np.ndarray, label: str) -> np.ndarray:
    """Mono float32 [samples] of [samples] or [channels, samples]; integers fill their range, unsigned around half."""
    kind, bits = values.dtype.kind, 8 * values.dtype.itemsize
    if values.ndim not in (1, 2) or kind not in "fiu" or (kind in "iu" and bits > 32):
        raise ContentError(
            f"{label}: an audio array is [samples] or [channels, samples] of floats or of integers of 8 to 32 bits, "
            f"this one is {values.dtype} {list(values.shape)}"
        )
    if values.ndim == 2 and len(values) > _MOST_CHANNELS:
        raise ContentError(f"{label}: has {len(values)} channels; an array is [channels, samples], so transpose it")
    if kind in "iu":
        half = 2.0 ** (bits - 1)
        values = values / half - (kind == "u")
    return np.atleast_2d(values).mean(0, dtype=np.float64).astype(np.float32)


def _decode(data: bytes, label: str, limit: float) -> tuple[np.ndarray, int, float]:
    """Mono samples of at most `limit` seconds, their rate, and how long the whole sound is."""
    if not data:
        raise ContentError(f"{label}: is empty, a sound of zero length; replace the file")
    raw = {}
    if label.lower().endswith(".gsm"):
        if len(data) % _GSM_FRAME or any(byte >> 4 != 0xD for byte in data[::_GSM_FRAME]):
            raise ContentError(f"{label}: is no sequence of GSM 06.10 frames; replace the file")
        raw = {"format": "RAW", "subtype": "GSM610", "samplerate": _GSM_RATE, "channels": 1}
    try:
        with soundfile.SoundFile(io.BytesIO(data), **raw) as sound:
            samples = sound.read(int(limit * sound.samplerate), dtype="float32", always_2d=True)
            return samples.mean(1), sound.samplerate, sound.frames / sound.samplerate
    except (soundfile.SoundFileError, RuntimeError) as first:
        try:
            with av.open(io.BytesIO(data)) as container:
                return decode_track(container, label, limit)
        except av.error.FFmpegError as second:
            raise ContentError(
                f"{label}: cannot be read as a sound ({str(first).rstrip('.')}; {second.strerror}); "
                "use wav, flac, ogg, opus, mp3, m4a or gsm"
            ) from second


def decode_track(container: av.container.InputContainer, label: str, limit: float) -> tuple[np.ndarray, int, float]:
    """As `_decode`, of the first audio stream of an open container; empty where it has none."""
    if not container.streams.audio:
        raise ContentError(f"{label}: has no audio stream; replace the file")
    stream = container.streams.audio[0]
    rate = stream.rate or stream.codec_context.sample_rate
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate)
    blocks, count, most = [], 0, int(limit * rate)
    for frame in container.decode(stream):
        for block in resampler.resample(frame):
            blocks.append(block.to_ndarray()[0])
            count += blocks[-1].size
        if count > most:
            break
    if count <= most:
        blocks += [block.to_ndarray()[0] for block in resampler.resample(None)]
    samples = np.concatenate(blocks) if blocks else np.empty(0, np.float32)
    seconds = len(samples) / rate
    if count > most and container.duration:
        seconds = max(seconds, container.duration / av.time_base)
    return samples[:most], rate, seconds
