"""`load(bundle)`: the same few calls whichever engine runs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import EngineError, UsageError

from .bundle.read import Bundle, Depth, open_bundle
from .engines.base import EngineOptions, EngineSession, Tensor
from .finalize.choice import open_engine
from .statistics.flusher import Flusher
from .statistics.recorder import Observation, Recorder, Snapshot
from .statistics.spool import Spool
from .tasks.chat import Message, asked
from .tasks.classification import TextClassifier
from .tasks.ctc import CtcTranscriber
from .tasks.embedding import Embedder
from .tasks.fill_mask import Filled, MaskFiller
from .tasks.generation import Generator
from .tasks.labels import Classified
from .tasks.picture_tasks import (
    DepthEstimator,
    Detected,
    Detector,
    PictureClassifier,
    Segmented,
    Segmenter,
)
from .tasks.pictures import Picture
from .tasks.question_answering import Answer, Answerer
from .tasks.registry import WRITERS, open_task
from .tasks.sound import Sound
from .tasks.speech import Transcriber, Transcript
from .tasks.streaming import DEFAULT_MAX_TOKENS, Piece
from .tasks.tagging import Tag, TextTagger
from .tasks.text_graph import Text
from .tasks.text_to_text import TextToText
from .tasks.tokens import tokenizer_first

EMBEDDING_TASK = "feature-extraction"
DEFAULT_BATCH = 32

_LONGEST_MS = 1e12

T = TypeVar("T")


class Embedded(NamedTuple):
    """Vectors, float32 (texts, dimensions), and how many tokens they took."""

    vectors: NDArray[np.float32]
    tokens: int


class Session:
    """A loaded bundle; a context manager, safe to call from several threads."""

    def __init__(self, bundle: Bundle, engine: EngineSession, recorder: Recorder) -> None:
        self.bundle = bundle
        self.engine = engine
        self.recorder = recorder
        self._flusher: Flusher | None = None
        self._task = open_task(bundle.manifest.task, bundle.path, engine)

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the graph on its own inputs; keys, dtypes and shapes as the manifest lists them."""
        return self._recorded(lambda: (self.engine.run(inputs), _rows(inputs), 0))

    def embed(
        self,
        texts: Sequence[str],
        *,
        prompt: str | None = None,
        batch_size: int = DEFAULT_BATCH,
        queued_ms: float | None = None,
    ) -> NDArray[np.float32]:
        """Return one vector a text, float32 (texts, dimensions), pooled as the model's files say.

        `prompt` names one of the model's own prompts, `queued_ms` is how long the request waited
        before this call. Raises UsageError where the model does not embed texts, EngineError where
        a vector holds NaN or an infinity.
        """
        return self.embed_counted(
            texts, prompt=prompt, batch_size=batch_size, queued_ms=queued_ms
        ).vectors

    def embed_counted(
        self,
        texts: Sequence[str],
        *,
        prompt: str | None = None,
        batch_size: int = DEFAULT_BATCH,
        queued_ms: float | None = None,
    ) -> Embedded:
        """Do what `embed` does and tell the number of tokens beside the vectors."""
        if queued_ms is not None and not 0 <= queued_ms <= _LONGEST_MS:
            raise UsageError(f"queued_ms is a number of milliseconds, not {queued_ms!r}")
        return self._recorded(lambda: self._embed(texts, prompt, batch_size), queued_ms)

    def classify(
        self, texts: Sequence[Text], *, top_k: int | None = None
    ) -> list[list[Classified]]:
        """Return each text's (or pair's) classes with their scores, the best first.

        Raises UsageError where the model does not classify texts.
        """
        task = self._as(TextClassifier, "it does not classify texts")
        return self._counted(len(texts), lambda: task(texts, top_k))

    def tag(self, texts: Sequence[str]) -> list[list[Tag]]:
        """Return each text's entities; UsageError where the model does not tag."""
        task = self._as(TextTagger, "it does not tag texts")
        return self._counted(len(texts), lambda: task(texts))

    def answer(self, question: str, context: str, *, top_k: int = 1) -> list[Answer]:
        """Return the spans of `context` that answer best; UsageError where it does not answer."""
        task = self._as(Answerer, "it does not answer questions")
        return self._counted(1, lambda: task(question, context, top_k))

    def fill(self, text: str, *, top_k: int = 5) -> list[Filled]:
        """Return the tokens that fit the text's gap; UsageError where the model fills none."""
        task = self._as(MaskFiller, "it does not fill gaps")
        return self._counted(1, lambda: task(text, top_k))

    def generate(
        self,
        prompt: str | Sequence[Message],
        *,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
    ) -> Iterator[Piece]:
        """Stream what follows a text, or the answer to a chat's messages: one Piece a token.

        An encoder and decoder writes what belongs to the text. Temperature 0 takes the likeliest
        token. Raises UsageError at once where the request is wrong or the model does not generate
        texts.
        """
        writes: tuple[type[Generator | TextToText], ...] = (Generator, TextToText)
        task = self._as(writes, "it does not generate texts")
        pieces = task.stream(
            prompt,
            max_tokens=max_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            seed=seed,
            stop=stop,
        )
        return self._streamed(pieces)

    def transcribe(
        self,
        sound: Sound,
        *,
        rate: int | None = None,
        language: str | None = None,
        translate: bool = False,
    ) -> Transcript:
        """Return what a sound says; `sound` is a WAV file, or samples at `rate` a second.

        Raises UsageError where the sound cannot be read or the model does not transcribe.
        """
        hears: tuple[type[Transcriber | CtcTranscriber], ...] = (Transcriber, CtcTranscriber)
        task = self._as(hears, "it does not transcribe speech")
        return self._counted(
            1, lambda: task(sound, rate=rate, language=language, translate=translate)
        )

    def classify_image(self, picture: Picture, *, top_k: int | None = None) -> list[Classified]:
        """Return a picture's classes with their scores, the best first.

        `picture` is a file, an array of uint8 (height, width, 3) or a Pillow image. Raises
        UsageError where it is none or the model does not classify pictures.
        """
        task = self._as(PictureClassifier, "it does not classify pictures")
        return self._counted(1, lambda: (task(picture, top_k), 0))

    def detect(self, picture: Picture, *, threshold: float = 0.5) -> list[Detected]:
        """Return the objects in a picture, boxes in its pixels, the surest first."""
        task = self._as(Detector, "it does not detect objects")
        return self._counted(1, lambda: (task(picture, threshold), 0))

    def segment(self, picture: Picture) -> Segmented:
        """Return the class of each of the picture's pixels."""
        task = self._as(Segmenter, "it does not segment pictures")
        return self._counted(1, lambda: (task(picture), 0))

    def depth(self, picture: Picture) -> NDArray[np.float32]:
        """Return the depth of each of the picture's pixels, in the model's own unit."""
        task = self._as(DepthEstimator, "it does not estimate depth")
        return self._counted(1, lambda: (task(picture), 0))

    @property
    def hears(self) -> bool:
        """Whether it transcribes speech."""
        return isinstance(self._task, (Transcriber, CtcTranscriber))

    @property
    def generator(self) -> Generator:
        """The task that continues texts; UsageError where the bundle is for something else."""
        return self._as(Generator, "it does not generate texts")

    @property
    def sequences(self) -> TextToText | Transcriber:
        """The task of an encoder and decoder; UsageError where the bundle is for another."""
        kinds: tuple[type[TextToText | Transcriber], ...] = (TextToText, Transcriber)
        return self._as(kinds, "it is no encoder with a decoder")

    @property
    def embedder(self) -> Embedder:
        """The embedding task; UsageError where the bundle is for something else."""
        return self._as(Embedder, "it does not embed texts")

    def stats(self) -> Snapshot:
        """Return this session's endpoint statistics so far."""
        return self.recorder.snapshot()

    def spool_to(self, path: Path | str, seconds: float = 10.0) -> None:
        """Keep statistics in a SQLite spool, flushed every `seconds` off the request's path."""
        self.close()
        self._flusher = Flusher(self.recorder, Spool(path), seconds)

    def close(self) -> None:
        """Flush what is left; the session can go on being used."""
        if self._flusher is not None:
            self._flusher.close()
            self._flusher = None

    def __enter__(self) -> Session:
        """Return the session."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def _embed(
        self, texts: Sequence[str], prompt: str | None, batch_size: int
    ) -> tuple[Embedded, int, int]:
        embedder = self.embedder
        prepared = embedder.prepare(texts, prompt)
        if not prepared:
            vectors, tokens = np.zeros((0, embedder.dimensions), np.float32), 0
        elif len(prepared) <= batch_size:
            vectors, tokens = embedder.embed_batch(prepared)
        else:
            vectors, tokens = _in_batches(embedder, prepared, batch_size)
        if not _finite(vectors):
            raise EngineError("The model gave vectors that are not finite")
        return Embedded(vectors, tokens), len(prepared), tokens

    def _as(self, kind: type[T] | tuple[type[T], ...], otherwise: str) -> T:
        if not isinstance(self._task, kind):
            raise UsageError(
                f"This bundle is for {self.bundle.manifest.task}, {otherwise}",
                next=f"edgeward inspect {self.bundle.path}",
            )
        return self._task

    def _counted(self, items: int, call: Callable[[], tuple[T, int]]) -> T:
        def counted() -> tuple[T, int, int]:
            result, tokens = call()
            return result, items, tokens

        return self._recorded(counted)

    def question(self, prompt: str, system: str | None = None) -> str | list[Message]:
        """Return a user's prompt as messages where the model chats, else as it is.

        Raises UsageError where nothing holds `system`.
        """
        if isinstance(self._task, Generator):
            return asked(self.bundle.path, prompt, system)
        if system is not None:
            raise UsageError("This model does not chat", why="so nothing holds --system")
        return prompt

    def _streamed(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        """One request, from its first token asked for to its last; what nobody reads on ends it."""
        began = time.perf_counter_ns()
        try:
            yield from pieces
        except Exception as error:
            self.recorder.record(Observation(0.0, error=type(error).__name__))
            raise
        self.recorder.record(Observation((time.perf_counter_ns() - began) / 1e6))

    def _recorded(
        self, call: Callable[[], tuple[T, int, int]], queued_ms: float | None = None
    ) -> T:
        began = time.perf_counter_ns()
        try:
            result, items, tokens = call()
        except Exception as error:
            self.recorder.record(Observation(0.0, error=type(error).__name__))
            raise
        milliseconds = (time.perf_counter_ns() - began) / 1e6
        self.recorder.record(Observation(milliseconds, items, tokens, queued_ms))
        return result


def load(
    bundle: Bundle | Path | str,
    *,
    threads: int = 0,
    providers: Sequence[str] = (),
    check: Depth = "digests",
    engine: str | None = None,
    plan: Path | None = None,
) -> Session:
    """Load a bundle into its engine.

    `threads` 0 lets the engine choose; `providers` overrides the ones that the bundle was
    compiled for; `engine` asks for one by name, and `plan` for a built engine's file. Raises
    BundleError where the bundle is damaged, EngineError where the engine is missing or refuses it.
    """
    began = time.perf_counter_ns()
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle, check=check)
    manifest = opened.manifest
    stated = str(manifest.recipe.options.get("providers", ""))
    wanted = tuple(providers) or tuple(name for name in stated.split(",") if name)
    parts = {role: opened.path / file for role, file in manifest.parts.items()}
    options = EngineOptions(threads=threads, providers=wanted, parts=parts)
    with tokenizer_first(opened.path) if manifest.task in WRITERS else nullcontext():
        session = open_engine(opened, options, asked=engine, plan=plan, check=check)
        load_ms = (time.perf_counter_ns() - began) / 1e6
        return Session(opened, session, Recorder(opened.digest, load_ms))


def _in_batches(
    embedder: Embedder, texts: Sequence[str], size: int
) -> tuple[NDArray[np.float32], int]:
    """Texts of like length share a batch, so that little padding is computed."""
    if size < 1:
        raise UsageError(f"A batch has at least one text, not {size}")
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    rows: list[NDArray[np.float32]] = []
    tokens = 0
    for start in range(0, len(order), size):
        vectors, used = embedder.embed_batch([texts[i] for i in order[start : start + size]])
        rows.append(vectors)
        tokens += used
    sorted_vectors = np.concatenate(rows)
    result = np.empty_like(sorted_vectors)
    result[order] = sorted_vectors
    return result, tokens


def _finite(vectors: NDArray[np.float32]) -> bool:
    """One product tells, unless it overflows: then every element is looked at."""
    flat = vectors.ravel()
    return math.isfinite(flat.dot(flat)) or bool(np.isfinite(flat).all())


def _rows(inputs: Mapping[str, Tensor]) -> int:
    first = next(iter(inputs.values()), None)
    shape = np.shape(first) if first is not None else ()
    return int(shape[0]) if shape else 0
