from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from commonspace.errors import ConfigError, ContentError, WeightsError
from commonspace.models.towers.audio import AudioTower
from commonspace.processing.audio import log_mel
from commonspace.processing.preprocessing import Preprocessing
from tests.media import noise, tone

SMALL = {
    "vocab_size": 8, "d_model": 16, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2,
    "encoder_ffn_dim": 24, "num_mel_bins": 8, "max_source_positions": 100, "pad_token_id": 0, "bos_token_id": 0,
    "eos_token_id": 0, "decoder_start_token_id": 0, "suppress_tokens": [], "begin_suppress_tokens": [],
}  # fmt: skip
WINDOW = 200  # mel frames of the small encoder


def tower(**options: bool) -> AudioTower:
    torch.manual_seed(0)
    return AudioTower(SMALL, **options).eval()


def mel(frames: int, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 8, frames, generator=torch.Generator().manual_seed(2))


def test_a_full_window_is_the_encoders_own_output_averaged_in_twos():
    audio, frames = tower(), mel(WINDOW)
    states = audio.encoder(frames).last_hidden_state
    torch.testing.assert_close(audio(frames), (states[:, 0::2] + states[:, 1::2]) / 2)
    assert audio(frames).shape == (2, WINDOW // 4, audio.width)


def test_a_short_sound_is_an_encoder_of_its_own_length():
    """Against the library's encoder built for that length, its positions the first ones of the long table."""
    audio, frames = tower(), mel(60)
    short = WhisperEncoder(WhisperConfig(**{**SMALL, "max_source_positions": 30})).eval()
    state = audio.encoder.state_dict()
    state["embed_positions.weight"] = state["embed_positions.weight"][:30]
    short.load_state_dict(state)
    states = short(frames).last_hidden_state
    torch.testing.assert_close(audio(frames), (states[:, 0::2] + states[:, 1::2]) / 2)


def test_attention_by_a_plain_formula():
    """One layer by hand: convolutions, positions, softmax attention, feed-forward, final norm."""
    audio = tower()
    encoder, frames = audio.encoder, mel(40, 1)
    gelu, norm = torch.nn.functional.gelu, torch.nn.functional.layer_norm
    x = gelu(encoder.conv2(gelu(encoder.conv1(frames))))[0].T + encoder.embed_positions.weight[:20]
    for layer in encoder.layers:
        y = norm(x, (16,), layer.self_attn_layer_norm.weight, layer.self_attn_layer_norm.bias)
        heads = []
        for head in range(2):
            part = slice(8 * head, 8 * head + 8)
            q, k, v = (getattr(layer.self_attn, f"{name}_proj")(y)[:, part] for name in "qkv")
            heads.append(torch.softmax(q @ k.T / 8**0.5, dim=-1) @ v)
        x = x + layer.self_attn.out_proj(torch.cat(heads, dim=1))
        x = x + layer.fc2(gelu(layer.fc1(norm(x, (16,), layer.final_layer_norm.weight, layer.final_layer_norm.bias))))
    x = norm(x, (16,), encoder.layer_norm.weight, encoder.layer_norm.bias)
    torch.testing.assert_close(audio(frames)[0], (x[0::2] + x[1::2]) / 2, atol=1e-5, rtol=1e-4)


def test_long_sounds_go_window_by_window():
    audio, frames = tower(), mel(2 * WINDOW + 40)
    rows = torch.cat([audio(part) for part in frames.split(WINDOW, dim=-1)], dim=1)
    torch.testing.assert_close(audio(frames), rows)


def test_batch_neighbours_do_not_matter():
    audio, frames = tower(), mel(80, 3)
    torch.testing.assert_close(audio(frames)[:1], audio(frames[:1]))


def test_frozen_unless_asked():
    audio = tower().train()
    assert audio.frozen and not audio.encoder.training
    audio.train_whole()
    audio.train()
    audio(mel(40)).square().mean().backward()
    assert not audio.frozen and audio.encoder.training
    without = {name for name, parameter in audio.named_parameters() if parameter.grad is None}
    assert without == {"encoder.embed_positions.weight"}


def test_fingerprint():
    audio, other = tower(), tower()
    assert audio.fingerprint == other.fingerprint
    with torch.no_grad():
        other.encoder.layers[1].fc1.bias[0] += 1e-3
    assert audio.fingerprint != other.fingerprint


def test_bad_lengths_and_configs():
    for frames in (0, 42):
        with pytest.raises(ContentError, match=f"{frames} mel frames are no whole rows"):
            tower()(mel(frames))
    with pytest.raises(ConfigError, match="max_source_positions=99 must be even"):
        AudioTower({**SMALL, "max_source_positions": 99})


def test_a_folder_without_encoder(tmp_path: Path):
    WhisperConfig(**SMALL).save_pretrained(tmp_path)
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="holds no whole Whisper encoder"):
        AudioTower.from_weights(tmp_path)


def test_whisper_on_thirty_seconds_and_on_two(weights_folder: Path):
    audio = AudioTower.from_weights(weights_folder / "whisper-tiny.en").eval()
    long = log_mel(torch.from_numpy(noise(30) + tone(30)), Preprocessing())[None]
    short = log_mel(torch.from_numpy(tone(2) + noise(2)), Preprocessing())[None]
    with torch.no_grad():
        states = audio.encoder(long).last_hidden_state
        torch.testing.assert_close(audio(long), states.unflatten(1, (-1, 2)).mean(2), atol=1e-5, rtol=1e-5)
        rows = audio(short)[0]
    assert rows.shape == (50, 384)
    first = torch.tensor([-0.36489, -0.34690, 0.54685, -0.94621, 0.75492, -0.19925])
    torch.testing.assert_close(rows[0, :6], first, atol=2e-3, rtol=0)
    assert rows.std().item() == pytest.approx(1.05158, abs=1e-3)


@pytest.mark.parametrize(("frames", "expected"), [(60, [3, 2]), (WINDOW, [1] * 5), (WINDOW + 60, [1] * 10)])
def test_a_cpu_takes_about_a_window_at_a_time(frames, expected):
    audio, sounds, taken = tower(), mel(frames, 5), []
    audio.encoder.conv1.register_forward_pre_hook(lambda module, given: taken.append(len(given[0])))
    rows = audio(sounds)
    assert taken == expected
    torch.testing.assert_close(rows, torch.cat([audio(sound[None]) for sound in sounds]), atol=1e-5, rtol=1e-4)
