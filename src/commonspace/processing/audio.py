"""Sounds to log-mel frames, as Whisper counts them.

A sound becomes mono at 16 kHz, is padded with silence to whole seconds and then measured: its frames depend on nothing
but itself, whatever else is in its batch.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import lru_cache

import av
import numpy as np
import soundfile
import soxr
import torch

from commonspace.content import Audio
from commonspace.errors import ContentError
from commonspace.processing.decoding import cause, container_options, decoding
from commonspace.processing.preprocessing import Preprocessing

MIN_RATE, MAX_RATE = 1_000, 768_000  # Hz; beyond them a header is broken, or a file of bytes a bomb of samples
MAX_CHANNELS = 64  # of an array; more are samples that stand where channels belong
_GSM_FRAME, _GSM_RATE = 33, 8000
_BLOCK = 2**20  # numbers decoded at a time, of all channels together
_COVER_PIXELS = 2**24  # of the picture that a music file may hold; nothing reads it

Measure = Callable[[torch.Tensor, Preprocessing], torch.Tensor]  # samples [n] at `audio_rate` to mel frames [M, T]


def read_audio(
    part: Audio, preprocessing: Preprocessing, *, cut: bool, measure: Measure | None = None
) -> tuple[torch.Tensor, str]:
    """Log-mel frames float32 [M, T] of a sound, and what was cut off it ("" for nothing); None measures by `log_mel`.

    Raises ContentError that names the sound where it cannot be read, has no samples or holds NaN, and, unless it may
    be `cut`, where it is longer than `max_audio_seconds`.
    """
    limit = preprocessing.max_audio_seconds
    if isinstance(part.source, np.ndarray):
        taken = Recording(part.label, part.rate, limit, preprocessing.audio_rate)
        values = _checked_array(part.source, part.label)
        taken.add(_mono(values[:, : taken.left]))
        seconds = values.shape[1] / taken.rate
    else:
        taken, seconds = _decode(part.read_bytes(), part.label, limit, preprocessing.audio_rate)
    return finish(taken, seconds, limit, preprocessing, cut=cut, measure=measure)


class Recording:
    """The first `limit` seconds of a sound, taken block by block, as mono at `target` Hz.

    No more than those are held, however high the sound's own `rate` and however many its channels.
    Raises ContentError for a rate that no sound has, and for samples that are no numbers.
    """

    def __init__(self, label: str, rate: float | None, limit: float, target: int) -> None:
        if not (isinstance(rate, (int, float, np.number)) and MIN_RATE <= rate <= MAX_RATE):
            raise ContentError(
                f"{label}: has {rate} samples a second, {MIN_RATE} to {MAX_RATE} are taken; resample it or correct it"
            )
        self.label, self.rate = label, int(rate)
        self.left = int(limit * self.rate)  # samples still to be taken
        self.count = 0  # samples taken
        self._stream = soxr.ResampleStream(self.rate, target, 1, dtype="float32") if self.rate != target else None
        self._blocks: list[np.ndarray] = []

    def add(self, block: np.ndarray) -> None:
        """Take what there is room for of mono float32 [n]."""
        block = block[: self.left]
        if not np.isfinite(block).all():
            raise ContentError(f"{self.label}: holds NaN or infinite samples; replace the file")
        self.left -= len(block)
        self.count += len(block)
        self._blocks.append(self._stream.resample_chunk(block) if self._stream else block)

    def samples(self) -> torch.Tensor:
        """All that was taken, float32 [n]; ends the recording."""
        if self._stream:
            self._blocks.append(self._stream.resample_chunk(np.empty(0, np.float32), last=True))
        return torch.from_numpy(np.concatenate(self._blocks).astype(np.float32, copy=False))


def finish(
    taken: Recording,
    seconds: float,
    limit: float,
    preprocessing: Preprocessing,
    *,
    cut: bool,
    measure: Measure | None = None,
) -> tuple[torch.Tensor, str]:
    """Checked log-mel [M, T] of a sound that is `seconds` long as a whole, and what was cut off it."""
    label, over = taken.label, ""
    if not taken.count:
        raise ContentError(f"{label}: has zero length; replace the file")
    if seconds > limit:
        over = f"{label}: cut from {seconds:.1f} to {limit:g} s"
        if not cut:
            raise ContentError(
                f"{label}: is {seconds:.1f} s long, at most {limit:g} s are taken; cut it or use on_limit=truncate"
            )
    mel = (measure or log_mel)(taken.samples(), preprocessing)
    if not torch.isfinite(mel).all():
        raise ContentError(f"{label}: its samples are too large to measure; full scale is 1, so scale it down")
    return mel, over


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


def _checked_array(values: np.ndarray, label: str) -> np.ndarray:
    """[channels, samples] of an array of one axis or two."""
    kind, bits = values.dtype.kind, 8 * values.dtype.itemsize
    if values.ndim not in (1, 2) or kind not in "fiu" or (kind in "iu" and bits > 32):
        raise ContentError(
            f"{label}: an audio array is [samples] or [channels, samples] of floats or of integers of 8 to 32 bits, "
            f"this one is {values.dtype} {list(values.shape)}"
        )
    values = np.atleast_2d(values)
    if len(values) > MAX_CHANNELS:
        raise ContentError(
            f"{label}: has {len(values)} channels, at most {MAX_CHANNELS} are taken; "
            "an array is [channels, samples], so transpose it"
        )
    return values


def _mono(values: np.ndarray) -> np.ndarray:
    """float32 [samples] of [channels, samples]; integers fill their range, unsigned around half."""
    if not values.size:
        return np.empty(0, np.float32)
    if values.dtype.kind in "iu":
        values = values / 2.0 ** (8 * values.dtype.itemsize - 1) - (values.dtype.kind == "u")
    with np.errstate(over="ignore"):  # as when a file is read
        return (values.mean(0, dtype=np.float64) if len(values) > 1 else values[0]).astype(np.float32)


def _decode(data: bytes, label: str, limit: float, target: int) -> tuple[Recording, float]:
    """The first `limit` seconds of a sound file, and how long the whole sound is."""
    if not data:
        raise ContentError(f"{label}: is empty, a sound of zero length; replace the file")
    raw = {}
    if label.lower().endswith(".gsm"):
        if len(data) % _GSM_FRAME or any(byte >> 4 != 0xD for byte in data[::_GSM_FRAME]):
            raise ContentError(f"{label}: is no sequence of GSM 06.10 frames; replace the file")
        raw = {"format": "RAW", "subtype": "GSM610", "samplerate": _GSM_RATE, "channels": 1}
    try:
        with soundfile.SoundFile(io.BytesIO(data), **raw) as sound:
            return _read_blocks(sound, label, limit, target)
    except ContentError:
        raise
    except Exception as error:
        failure = f"cannot be read as a sound: {cause(error)}"
    with (
        decoding(label, failure, "use wav, flac, ogg, opus, mp3, m4a or gsm"),
        av.open(io.BytesIO(data), **container_options(_COVER_PIXELS)) as container,
    ):
        return decode_track(container, label, limit, target)


def _read_blocks(sound: soundfile.SoundFile, label: str, limit: float, target: int) -> tuple[Recording, float]:
    taken = Recording(label, sound.samplerate, limit, target)
    size = max(1, _BLOCK // sound.channels)
    while taken.left:
        block = sound.read(min(size, taken.left), dtype="float32", always_2d=True)
        if not len(block):  # before that a header's count of samples may have been a lie
            return taken, taken.count / taken.rate
        with np.errstate(over="ignore"):  # what is beyond float32 is refused as infinite
            taken.add(block.mean(1))
    return taken, sound.frames / taken.rate


def decode_track(
    container: av.container.InputContainer, label: str, limit: float, target: int
) -> tuple[Recording, float]:
    """As `_decode`, of the first audio stream of an open container; empty where it has none."""
    if not container.streams.audio:
        raise ContentError(f"{label}: has no audio stream; replace the file")
    stream = container.streams.audio[0]
    taken = Recording(label, stream.rate or stream.codec_context.sample_rate, limit, target)
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=taken.rate)
    count, whole = 0, True
    for block in _track_blocks(container, stream, resampler):
        taken.add(block)
        count += len(block)
        if count > taken.count:
            whole = False
            break
    seconds = count / taken.rate
    if not whole and container.duration:
        seconds = max(seconds, container.duration / av.time_base)
    return taken, seconds


def _track_blocks(
    container: av.container.InputContainer, stream: av.AudioStream, resampler: av.AudioResampler
) -> Iterator[np.ndarray]:
    for frame in container.decode(stream):
        for block in resampler.resample(frame):
            yield block.to_ndarray()[0]
    for block in resampler.resample(None):
        yield block.to_ndarray()[0]
