"""Whether a sound or a clip is all there: a page of errors under its name and a file cut short are not.

Nothing is decoded whole: the end of a sound, the first frame of a clip, and the packets that its container promises.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from pathlib import Path
from typing import BinaryIO

import av
import soundfile

from data_prep.pictures import MAX_PIXELS, is_whole_picture

# As commonspace.processing.decoding.CONTAINERS, with which rows are read: no playlist, which names other files.
FORMATS = (
    "mov,mp4,matroska,webm,avi,gif,apng,flv,mpegts,mpeg,mpegvideo,asf,mxf,nut,h264,hevc,m4v,obu,ivf,h263,vc1,dv,"
    "ogg,wav,w64,aiff,au,caf,flac,mp3,aac,ac3,eac3,amr,ape,tta,wv,voc"
)
_END = 4096  # samples that are decoded of a sound's end
_UNKNOWN = 0x7FFF_0000  # from here on a size in a header stands for one that its writer, a pipe, did not know
_SLACK = 64  # bytes by which writers miscount
_LATE = 1.0  # seconds that a clip in Matroska may end before the length it states
_PROMISED = re.compile(r"(\d+) \(should be (\d+)\)")  # in what libsndfile tells of a header


def is_whole_sound(source: Path | bytes) -> bool:
    """Whether a sound, or the soundtrack of a clip, can be decoded and goes on to the end that its file states."""
    try:
        with _opened(source) as file:
            return _is_whole_sound(file)
    except Exception:  # decoders raise what they like on foreign bytes
        return False


def is_whole_clip(source: Path | bytes) -> bool:
    """Whether the first frame of a clip can be decoded and none of its packets is missing."""
    try:
        with _opened(source) as file:
            start = file.read(12)
            if start[:4] == b"RIFF" and start[8:] == b"WEBP":  # animated, which FFmpeg does not decode
                return is_whole_picture(source)
            file.seek(0)
            return _has_all_packets(file, "video")
    except Exception:  # as above
        return False


def _opened(source: Path | bytes) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def _is_whole_sound(file: BinaryIO) -> bool:
    try:
        sound = soundfile.SoundFile(file)
    except soundfile.SoundFileError:  # a container that FFmpeg reads
        file.seek(0)
        return _has_all_packets(file, "audio")
    with sound:
        promises = [tuple(map(int, found)) for found in _PROMISED.findall(sound.extra_info)]
        if any(size - there > _SLACK and size < _UNKNOWN for size, there in promises):
            return False
        if sound.format == "OGG" and _ends_inside_page(file):
            return False
        if sound.frames < _UNKNOWN and (sound.format != "MP3" or _states_length(file)):
            sound.seek(max(0, sound.frames - _END))
        return len(sound.read(_END)) > 0


def _states_length(file: BinaryIO) -> bool:
    """Whether an MP3 has the tag that counts its frames; without one its length is a guess."""
    place = file.tell()
    file.seek(0)
    start = file.read(2**16)
    file.seek(place)
    return b"Xing" in start or b"Info" in start


def _ends_inside_page(file: BinaryIO) -> bool:
    """Whether the last page of an Ogg file is longer than what is there of it."""
    place = file.tell()
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - 2**17))  # a page has at most 65,307 bytes
    end = file.read()
    file.seek(place)
    page = end[end.rfind(b"OggS") :]
    sizes = page[27 : 27 + page[26]] if len(page) > 26 else b""
    return not sizes or len(sizes) < page[26] or len(page) < 27 + len(sizes) + sum(sizes)


def _has_all_packets(file: BinaryIO, kind: str) -> bool:
    whitelists = {"format_whitelist": FORMATS, "protocol_whitelist": "none"}
    known = {"max_pixels": str(MAX_PIXELS), "ignore_editlist": "1"}  # what an edit hides is counted too
    with av.open(file, container_options=whitelists, options=known, metadata_errors="replace") as container:
        sounds, pictures = list(container.streams.audio[:1]), list(container.streams.video[:1])
        streams = sounds if kind == "audio" else pictures + sounds
        if not (sounds if kind == "audio" else pictures):
            return False
        streams[0].codec_context.thread_count = 1  # for one frame
        streams[0].codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        counts, end, decoded = Counter(), 0.0, False
        for packet in container.demux(streams):
            if packet.is_corrupt:
                return False
            if not decoded and packet.stream is streams[0]:
                decoded = bool(packet.decode())
            if packet.dts is not None:
                counts[packet.stream.index] += 1
            if packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if "matroska" in container.format.name and container.duration:
            return decoded and end > container.duration / av.time_base - _LATE
        listed = "mov" in container.format.name
        return decoded and not (listed and any(counts[one.index] < one.frames for one in streams))
