"""Speech to text with faster-whisper, under frozen settings.

Single precision on every device, beam 5, temperature 0 only (the library's default falls back to sampling and cannot
be reproduced), language forced from the sample and never guessed, no prompt, no conditioning on earlier text, no
voice-activity filter. Segments that the model itself calls no speech (no_speech_prob > 0.6 and avg_logprob < -1) or
that repeat (compression_ratio > 2.4) are dropped.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from avbench.clip import Audio
from avbench.errors import MissingResource
from avbench.features import Context, Network
from avbench.store import array_text, text_array

RATE = 16000
DECODING = {
    "task": "transcribe", "beam_size": 5, "temperature": 0.0, "condition_on_previous_text": False,
    "initial_prompt": None, "vad_filter": False, "word_timestamps": False,
}  # fmt: skip
COMPUTE = "float32"  # on every device: eight bits change single words
NO_SPEECH, LOGPROB, REPETITION = 0.6, -1.0, 2.4
SPACELESS = ("zh", "ja", "th", "yue", "lo", "my", "km")


def load(context: Context) -> Network:
    """{"audio": float32 [N] at 16 kHz, "language": uint8 text} -> {"text": uint8 text}.

    `MissingResource` where the model is not there or cannot speak the language asked for.
    """
    from faster_whisper import WhisperModel

    ((name, path),) = context.weights.items()
    on = context.device if context.device is not None and context.device.type == "cuda" else None
    where: dict[str, Any] = {"device": "cuda", "device_index": on.index or 0} if on else {"device": "cpu"}
    try:
        model = WhisperModel(str(path), compute_type=COMPUTE, cpu_threads=2, local_files_only=True, **where)
    except (RuntimeError, ValueError, OSError) as error:
        raise MissingResource(f"weights {name}: {path} is no CTranslate2 model folder: {error}") from None

    def encode(view: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"text": text_array(transcribe(model, view["audio"], array_text(view["language"])))}

    return encode


def transcribe(model: Any, samples: np.ndarray, language: str) -> str:
    """The kept segments of a 16 kHz waveform, joined by a space (by nothing for scripts without spaces)."""
    if not model.model.is_multilingual and language != "en":
        raise MissingResource(
            f"this Whisper model hears English only, but a sample is in {language!r}; use a multilingual one"
        )
    segments, _ = model.transcribe(samples, language=language, **DECODING)
    kept = [segment.text.strip() for segment in segments if is_speech(segment)]
    return ("" if language in SPACELESS else " ").join(text for text in kept if text)


def is_speech(segment: Any) -> bool:
    """Whether a segment counts as something said."""
    silent = segment.no_speech_prob > NO_SPEECH and segment.avg_logprob < LOGPROB
    return not silent and segment.compression_ratio <= REPETITION


def to_16k(audio: Audio) -> np.ndarray:
    """Mono float32 at 16 kHz."""
    if audio.rate == RATE:
        return np.ascontiguousarray(audio.mono)
    import librosa

    return np.asarray(librosa.resample(audio.mono, orig_sr=audio.rate, target_sr=RATE), dtype=np.float32)
