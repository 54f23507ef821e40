"""eSpeak NG's library out of an unpacked package, called for samples: nothing is installed, and nothing is played."""

from __future__ import annotations

import ctypes
import io
from pathlib import Path

import numpy as np
import soundfile

from commonspace.errors import DataError

_RETRIEVAL = 1  # AUDIO_OUTPUT_RETRIEVAL of speak_lib.h: samples go to a callback
_UTF8 = 1
_PEAK = 0.7  # of full scale
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Speaker:
    """Speaks sentences in the voices of one eSpeak NG. The library keeps global state: one speaker a process."""

    def __init__(self, library: Path, data: Path) -> None:
        """`data` is the folder that holds espeak-ng-data.

        Raises:
            DataError: the library is none of this machine, or refuses its data.
        """
        try:
            self._library = ctypes.CDLL(str(library.resolve()))
        except OSError as error:
            raise DataError(
                f"{library}: cannot be loaded ({error}). It is built for Linux on x86-64: on another machine build "
                "without espeak, with data.only=[...]"
            ) from error
        self.rate = self._library.espeak_Initialize(_RETRIEVAL, 0, str(data.resolve()).encode(), 0)
        if self.rate <= 0:
            raise DataError(f"{data}: eSpeak NG does not accept its data; delete its folder and build again")
        self._pieces: list[np.ndarray] = []
        self._keep = _CALLBACK(self._collect)  # the library holds a bare pointer to it
        self._library.espeak_SetSynthCallback(self._keep)

    def _collect(self, samples: ctypes._Pointer, count: int, _events: int | None) -> int:
        if samples and count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def speak(self, text: str, voice: str) -> bytes | None:
        """FLAC of a sentence, one channel, 16 bits; None where the voice says nothing.

        Raises:
            DataError: there is no such voice.
        """
        if self._library.espeak_SetVoiceByName(voice.encode()):
            raise DataError(f"eSpeak NG has no voice {voice!r}; take one of its espeak-ng-data/lang")
        self._pieces.clear()
        data = text.encode()
        self._library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 1, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        samples = np.concatenate(self._pieces) if self._pieces else np.empty(0, np.int16)
        peak = int(np.abs(samples.astype(np.int32)).max(initial=0))
        if not peak:
            return None
        buffer = io.BytesIO()
        soundfile.write(buffer, samples * (_PEAK / peak), self.rate, format="FLAC", subtype="PCM_16")
        return buffer.getvalue()
