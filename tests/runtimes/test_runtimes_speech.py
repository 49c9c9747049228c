"""Sounds to text: WAV files of every kind, other rates, log-mel frames, windows, words, CTC."""

from __future__ import annotations

import itertools
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeward.errors import SourceError, UnsupportedError, UsageError
from edgeward.runtimes.proof.words import word_errors
from edgeward.runtimes.tasks.ctc import CtcLetters, joined
from edgeward.runtimes.tasks.log_mel import LogMel, MelSettings, mel_filters, mel_settings
from edgeward.runtimes.tasks.sound import read_sound, read_wav, resample
from edgeward.runtimes.tasks.speech import SpokenRules, windows
from edgeward.runtimes.tasks.writing_rules import read_rules

RATE = 16_000
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
WORDS = st.lists(st.sampled_from(["the", "ferry", "leaves", "at", "seven"]), max_size=8)


def tone(seconds: float, hertz: float, rate: int) -> NDArray[np.float32]:
    clock = np.arange(int(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * hertz * clock)).astype(np.float32)


def wav(
    values: NDArray[np.float32], kind: int, bits: int, channels: int, rate: int = RATE
) -> bytes:
    """A WAV file that says the same in every channel."""
    spread = np.repeat(values[:, None], channels, axis=1)
    if bits == 8:
        body = np.round(spread * 127 + 128).astype(np.uint8).tobytes()
    elif kind == FLOAT:
        body = spread.astype(f"<f{bits // 8}").tobytes()
    else:
        whole = np.round(spread * (2 ** (bits - 1) - 1)).astype("<i4")
        body = whole.reshape(-1, 1).view(np.uint8)[:, : bits // 8].tobytes()
    width = bits // 8 * channels
    form = struct.pack("<HHIIHH", kind, channels, rate, rate * width, width, bits)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"LIST\x03\0\0\0abc\0"
    chunks += b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WAVE" + chunks


@pytest.mark.parametrize(
    ("kind", "bits"), [(PCM, 8), (PCM, 16), (PCM, 24), (PCM, 32), (FLOAT, 32), (FLOAT, 64)]
)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_every_kind_of_wav_is_read(tmp_path: Path, kind: int, bits: int, channels: int) -> None:
    values = tone(0.1, 440, RATE)
    (tmp_path / "one.wav").write_bytes(wav(values, kind, bits, channels))
    read = read_wav(tmp_path / "one.wav")
    assert read.rate == RATE
    assert np.abs(read.values - values).max() < 2 / 2 ** min(bits - 1, 20)


def test_an_extensible_wav_is_read(tmp_path: Path) -> None:
    values = tone(0.1, 440, RATE)
    plain = wav(values, PCM, 16, 1)
    form = struct.pack("<HHIIHH", EXTENSIBLE, 1, RATE, RATE * 2, 2, 16)
    form += struct.pack("<HHIH14s", 22, 16, 4, PCM, bytes(14))
    whole = b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<I", len(form)) + form
    (tmp_path / "one.wav").write_bytes(whole + plain[plain.index(b"data") :])
    assert np.abs(read_wav(tmp_path / "one.wav").values - values).max() < 1e-4


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 200), at=st.integers(0, 60), byte=st.integers(0, 255))
def test_a_damaged_wav_is_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, cut: int, at: int, byte: int
) -> None:
    path = tmp_path_factory.mktemp("w") / "one.wav"
    data = bytearray(wav(tone(0.005, 440, RATE), PCM, 16, 1))
    data[at] = byte
    path.write_bytes(bytes(data[: len(data) - cut]))
    try:
        read = read_wav(path)
    except UsageError as error:
        assert str(path) in error.what
        return
    assert np.isfinite(read.values).all()


def test_what_is_no_sound_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.wav").write_bytes(b"ID3\x04" + bytes(100))
    with pytest.raises(UsageError, match="cannot be read as WAV") as refused:
        read_sound(tmp_path / "one.wav", None, RATE)
    assert "ffmpeg" in str(refused.value.next)
    (tmp_path / "empty.wav").write_bytes(wav(tone(0.0, 440, RATE), PCM, 16, 1))
    with pytest.raises(UsageError, match=r"empty\.wav cannot be read as WAV\n.*is not empty"):
        read_wav(tmp_path / "empty.wav")
    samples = tone(0.1, 440, RATE)
    for bad, rate in (
        (samples, None),
        (samples, 0),
        (samples.astype(np.int64), RATE),
        (samples[None, None], RATE),
        (samples[:0], RATE),
        (samples * np.nan, RATE),
    ):
        with pytest.raises(UsageError):
            read_sound(bad, rate, RATE)


@pytest.mark.parametrize(
    ("rate", "wanted"), [(44_100, RATE), (48_000, RATE), (8000, RATE), (RATE, 22_050)]
)
def test_another_rate_keeps_the_tone_and_drops_what_it_cannot_hold(rate: int, wanted: int) -> None:
    kept = resample(tone(0.5, 440, rate), rate, wanted)
    expected = tone(0.5, 440, wanted)
    inner = slice(wanted // 20, -wanted // 20)
    assert abs(len(kept) - len(expected)) <= 1
    assert np.abs(kept[: len(expected)][inner] - expected[: len(kept)][inner]).max() < 0.01
    if wanted < rate:
        gone = resample(tone(0.5, wanted * 0.62, rate), rate, wanted)
        assert np.abs(gone[inner]).max() < 0.03


def test_samples_of_int16_are_those_of_floats() -> None:
    values = np.round(tone(0.1, 440, RATE) * 32767).astype(np.int16)
    heard = read_sound(values, RATE, RATE)
    assert np.array_equal(heard, values.astype(np.float32) / 32768)
    stereo = np.stack([values, values], axis=1)
    assert np.allclose(read_sound(stereo, RATE, RATE), heard)


def test_frames_tell_a_tone_by_its_filter() -> None:
    settings_ = MelSettings(seconds=1)
    frames = LogMel(settings_)(tone(1.0, 1000, RATE))
    assert frames.shape == (1, 80, 100)
    assert frames.dtype == np.float32
    centres = mel_filters(settings_).argmax(axis=0) * RATE / settings_.window
    assert abs(centres[frames[0, :, 50].argmax()] - 1000) <= 40
    assert frames.max() - frames.min() <= 2.0 + 1e-6


def test_filters_have_one_area_in_hertz() -> None:
    filters = mel_filters(MelSettings(window=4096))
    areas = filters.sum(axis=0) * RATE / 4096
    assert np.abs(areas - 1).max() < 0.02


def test_settings_that_are_none_are_refused(tmp_path: Path) -> None:
    for stated in ({"n_fft": "400"}, {"hop_length": 0}, {"chunk_length": 10**9}):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated))
        with pytest.raises(UnsupportedError, match="log-mel"):
            mel_settings(tmp_path)


@settings(max_examples=40, deadline=None)
@given(seconds=st.floats(0.1, 20), seed=st.integers(0, 9))
def test_windows_follow_one_another_and_fit(seconds: float, seed: int) -> None:
    samples = np.random.default_rng(seed).normal(size=int(seconds * 100)).astype(np.float32)
    found = list(windows(samples, 100, 3))
    assert found[0][0] == 0
    assert found[-1][1] == len(samples)
    assert all(end == start for (_, end), (start, _) in itertools.pairwise(found))
    assert all(0 < end - start <= 300 for start, end in found)


def test_a_long_sound_is_cut_where_it_is_quiet() -> None:
    samples = np.ones(500, np.float32)
    samples[270:282] = 0
    (_, end), _ = windows(samples, 100, 3)
    assert 270 <= end <= 282


@given(WORDS, WORDS)
def test_word_errors_are_a_distance(first: list[str], second: list[str]) -> None:
    one, other = " ".join(first), " ".join(second)
    errors, words = word_errors(one, other)
    assert words == len(first)
    assert errors == word_errors(other, one)[0]
    assert abs(len(first) - len(second)) <= errors <= max(len(first), len(second))
    assert (errors == 0) == (first == second)


def test_words_are_compared_without_case_and_punctuation() -> None:
    assert word_errors("Hello, world.", "hello world") == (0, 2)
    assert word_errors("one two three", "one too three four") == (2, 3)


def test_ctc_joins_repeats_and_leaves_blanks_out(tmp_path: Path) -> None:
    assert joined(np.array([0, 5, 5, 0, 5, 6, 6, 0]), 0) == [5, 5, 6]
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "A": 5, "B": 6}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    letters = CtcLetters(tmp_path)
    assert letters.blank == 0
    assert letters.text([5, 6, 4, 4, 6, 2, 4]) == "AB B"
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(SourceError, match="no vocabulary"):
        CtcLetters(tmp_path)


def speaking(folder: Path) -> SpokenRules:
    (folder / "config.json").write_text(
        json.dumps({"decoder_start_token_id": 10, "eos_token_id": 9})
    )
    stated = {
        "lang_to_id": {"<|en|>": 11, "<|de|>": 12, "<|far|>": 10**6},
        "task_to_id": {"transcribe": 20, "translate": 21},
        "no_timestamps_token_id": 30,
        "suppress_tokens": [1, 2, -1],
        "begin_suppress_tokens": [3],
    }
    (folder / "generation_config.json").write_text(json.dumps(stated))
    return SpokenRules(folder)


def test_language_and_task_go_before_what_is_written(tmp_path: Path) -> None:
    rules = speaking(tmp_path)
    logits = np.zeros(40, np.float32)
    logits[[12, 13]] = 5, 9

    def first(ids: object) -> NDArray[np.float32]:
        assert list(ids) == [10]  # type: ignore[call-overload]
        return logits

    assert rules.given(first).prefix == (10, 12, 20, 30)
    assert rules.given(first, "en", True).prefix == (10, 11, 21, 30)
    with pytest.raises(UsageError, match="no language 'xx'"):
        rules.check("xx", False)
    found = read_rules(tmp_path)
    assert (found.suppressed, found.suppressed_first, found.ends) == ((1, 2), (3,), {9})


def test_a_model_of_one_language_refuses_another(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"decoder_start_token_id": 10}))
    rules = SpokenRules(tmp_path)
    with pytest.raises(UsageError, match="knows no language"):
        rules.check("de", False)
    with pytest.raises(UsageError, match="does not translate"):
        rules.check(None, True)


def test_rules_need_a_first_token(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 1}))
    with pytest.raises(UnsupportedError, match="no first token"):
        read_rules(tmp_path)
    stated = {"decoder_start_token_id": 2, "forced_bos_token_id": 0, "bad_words_ids": [[7], [1, 2]]}
    (tmp_path / "config.json").write_text(json.dumps(stated))
    rules = read_rules(tmp_path)
    assert (rules.prefix, rules.suppressed) == ((2, 0), (7,))
