"""Layouts of tokens as the pretrained models have them, with ids of our own: no model is made for them."""

from __future__ import annotations

from commonspace.processing.native_layout import NativeLayout

SEEN, HEARD = ((100,), (101,)), ((102,), (103,))  # marks around pictures and sounds
PLACES = {"image": 110, "video": 111, "audio": 112}
OMNI = NativeLayout(
    "Qwen2_5OmniProcessor", 28,
    {"image": SEEN, "video": SEEN, "audio": HEARD, "sounding": ((100, 102), (103, 101))}, PLACES, audio_tokens=25,
)  # fmt: skip
QWEN3_OMNI = NativeLayout(
    "Qwen3OmniMoeProcessor", 32, OMNI.marks, PLACES, audio_tokens=13, positions_per_second=13
)  # fmt: skip
QWEN3_VL = NativeLayout("Qwen3VLProcessor", 32, {"image": SEEN, "video": SEEN}, PLACES, stamped=True)
