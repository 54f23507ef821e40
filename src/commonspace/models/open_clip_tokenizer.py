"""open_clip's tokenizers as `tokenizers` files: from a folder that has one, else CLIP's own vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, normalizers
from transformers import CLIPTokenizer

from commonspace.errors import WeightsError
from commonspace.models.open_clip_weights import CONFIG

_FILE = "tokenizer.json"
_ASCII_PUNCTUATION = Regex(r"[!-/:-@\[-`{-~]")


def read_tokenizer(folder: Path, text_cfg: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of a folder in open_clip's layout: its tokenizer.json, else that of CLIP.

    Raises WeightsError where the settings ask for another tokenizer whose file is not there, for a way of tokenizing
    that has no such form, or where ids go beyond the tower's vocabulary.
    """
    mode = text_cfg.get("tokenizer_mode")
    options = dict(text_cfg.get("tokenizer_kwargs") or {})
    clean = options.pop("clean", None)
    if mode or options or clean not in (None, "canonicalize", "lower", "whitespace"):
        raise WeightsError(f"{folder / CONFIG}: tokenizer_mode={mode}, {options or clean!r} are not read here")
    if (folder / _FILE).is_file():
        tokenizer = Tokenizer.from_file(str(folder / _FILE))
    elif name := text_cfg.get("hf_tokenizer_name"):
        raise WeightsError(f"{folder}: holds no {_FILE}; copy that of {name} into it")
    else:
        tokenizer = clip_tokenizer()
    if clean == "canonicalize":
        tokenizer.normalizer = _canonical(tokenizer.normalizer)
    words, most = tokenizer.get_vocab_size(), text_cfg.get("vocab_size", 49408)
    if words > most:
        raise WeightsError(f"{folder}: its tokenizer knows {words} tokens, its text tower {most}")
    return tokenizer


def clip_tokenizer() -> Tokenizer:
    """CLIP's byte pairs, from the vocabulary that open_clip ships.

    open_clip itself also mends broken encodings (ftfy) and HTML entities before; here a text is taken as it stands.
    """
    from open_clip import SimpleTokenizer

    own = SimpleTokenizer()
    start, end = (own.decoder[index] for index in (own.sot_token_id, own.eot_token_id))
    made = CLIPTokenizer(
        vocab=own.encoder, merges=list(own.bpe_ranks), unk_token=end, bos_token=start, eos_token=end, pad_token=end
    )
    tokenizer = Tokenizer.from_str(made.backend_tokenizer.to_str())
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteLevel(), decoders.Replace("</w>", " "), decoders.Strip(" ", 0, 1)]
    )
    return tokenizer


def _canonical(own: normalizers.Normalizer | None) -> normalizers.Normalizer:
    """SigLIP's texts: lower case, without ASCII punctuation and without more than one space in a row."""
    steps = [
        normalizers.Replace("_", " "), normalizers.Replace(_ASCII_PUNCTUATION, ""), normalizers.Lowercase(),
        normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(),
    ]  # fmt: skip
    return normalizers.Sequence([*steps, *([own] if own is not None else [])])
