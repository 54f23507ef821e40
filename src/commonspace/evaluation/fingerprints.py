"""Fingerprints of media that survive re-encoding and rescaling, and the search for near matches among them.

Legend: Q held-out items, N training items, T steps of time, S bits of one step.
"""

from __future__ import annotations

from collections.abc import Iterator

import imagehash
import numpy as np
import torch
from PIL import Image as pil

from commonspace.content import Audio, Image
from commonspace.processing.audio import read_audio
from commonspace.processing.image import read_image
from commonspace.processing.preprocessing import Preprocessing

_HASH_PIXELS = 128  # the perceptual hash itself looks at 32 x 32
_STEP = 4  # mel frames of 10 ms to one step of an audio fingerprint
_BANDS = 17  # of energy; one bit for each neighbouring pair
_STEPS = 128  # at most: 5 s
_FAINT = 0.02  # moves below, in log-mel units, flip when a sound is encoded again: they are no bit
_SHIFTS = range(-3, 4)  # steps two recordings of the same may lie apart
_BLOCK = 4096


def image_hash(part: Image, preprocessing: Preprocessing) -> np.ndarray:
    """Perceptual hash of an image as the model sees it (upright, on white, padded to a square), bool [64]."""
    pixels = read_image(part, _HASH_PIXELS, preprocessing.image_max_pixels)
    return imagehash.phash(pil.fromarray(pixels.permute(1, 2, 0).numpy())).hash.flatten()


def audio_fingerprint(part: Audio, preprocessing: Preprocessing) -> np.ndarray:
    """Signs of how energy moves between neighbouring bands from step to step, int8 [T, 16], 0 where little moves.

    After Haitsma and Kalker (2002), on log-mel energies of the first 5 seconds; silence padded at the end gives zeros.
    The same spoken words encoded again (Ogg, MP3, resampled, half as loud) agree in at least 96% of the bits, other
    words of the same voice in at most 63% (20 and 900 pairs of tuxpaint's French descriptions).
    """
    mel_MT, _ = read_audio(part, preprocessing, cut=True)
    steps = min(mel_MT.shape[1] // _STEP, _STEPS + 1)
    energy_MS = mel_MT[:, : steps * _STEP].unflatten(1, (steps, _STEP)).mean(2)
    bands_BS = torch.stack([band.mean(0) for band in energy_MS.tensor_split(_BANDS)])
    moves = (bands_BS[1:] - bands_BS[:-1]).diff(dim=1)
    return torch.where(moves.abs() < _FAINT, 0, moves.sign()).T.to(torch.int8).numpy()


def hash_matches(query_Q64: np.ndarray, train_N64: np.ndarray, distance: int) -> np.ndarray:
    """Smallest Hamming distance to training of each hash, where at most `distance`, else -1: int64 [Q]."""
    signs_Q = torch.from_numpy(query_Q64.astype(np.float32) * 2 - 1)
    nearest = torch.full((len(query_Q64),), 65.0)
    for block in _blocks(train_N64):
        signs_N = torch.from_numpy(block.astype(np.float32) * 2 - 1)
        nearest = torch.minimum(nearest, ((64 - signs_Q @ signs_N.T) / 2).amin(dim=1))
    return torch.where(nearest <= distance, nearest, -1).long().numpy()


def cosine_matches(query_QF: np.ndarray, train_NF: np.ndarray, centre_F: np.ndarray) -> np.ndarray:
    """Largest cosine to training of each vector after `centre_F` is taken off both, float32 [Q]."""
    query = torch.nn.functional.normalize(torch.from_numpy(query_QF - centre_F), dim=1)
    best = torch.full((len(query_QF),), -1.0)
    for block in _blocks(train_NF):
        train = torch.nn.functional.normalize(torch.from_numpy(block - centre_F), dim=1)
        best = torch.maximum(best, (query @ train.T).amax(dim=1))
    return best.numpy()


def audio_matches(queries: list[np.ndarray], train: list[np.ndarray]) -> np.ndarray:
    """Largest share of agreeing bits with any training sound, best shift, float32 [Q].

    Only shifts where at least 60% of the bits of the longer of the two lie against bits of the other count.
    """
    best = torch.zeros(len(queries))
    for start in range(0, len(train), _BLOCK):
        best = torch.maximum(best, audio_agreement(queries, train[start : start + _BLOCK]).amax(dim=1))
    return best.numpy()


def audio_agreement(queries: list[np.ndarray], train: list[np.ndarray]) -> torch.Tensor:
    """Share of agreeing bits of each of a few sounds with each of a few others, best shift, float32 [Q, N]."""
    query_QX, best_QN = _padded(queries, 0), torch.zeros(len(queries), len(train))
    sizes_N = _padded(train, 0).abs().sum(1)
    needed_QN = 0.6 * torch.maximum(query_QX.abs().sum(1)[:, None], sizes_N[None])
    for shift in _SHIFTS:
        train_NX = _padded(train, shift)
        overlap_QN = query_QX.abs() @ train_NX.abs().T
        agree_QN = (query_QX @ train_NX.T / overlap_QN.clamp(min=1) + 1) / 2
        agree_QN[(overlap_QN < needed_QN) | (overlap_QN == 0)] = 0
        best_QN = torch.maximum(best_QN, agree_QN)
    return best_QN


def _padded(prints: list[np.ndarray], shift: int) -> torch.Tensor:
    """Fingerprints as rows of one float32 matrix, each moved by `shift` steps, zeros around."""
    margin = max(_SHIFTS)
    out = torch.zeros(len(prints), _STEPS + 2 * margin, _BANDS - 1)
    for row, values in enumerate(prints):
        out[row, margin + shift : margin + shift + len(values)] = torch.from_numpy(values).float()
    return out.flatten(1)


def _blocks(values: np.ndarray) -> Iterator[np.ndarray]:
    return (values[start : start + _BLOCK] for start in range(0, len(values), _BLOCK))
