"""What a network does to a picture, step by step: one walk gives its tensors, work and memory.

Each operator of a walk says its weights, the operations of one picture and the numbers that stand
in memory while it runs. Sizes differ from stage to stage, so no single width tells them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from edgeward.errors import SourceError

from .config import MOST_LAYERS, Config
from .facts import Tensor

# A map of channels is freed when it was read for the last time; what has another form keeps its
# memory for others of its very shape, until the last of them. ONNX Runtime plans memory so: it
# knows no shapes of maps whose channels it blocks.
MAP, ROWS, SEQUENCE, HEADS, SCORES = "map", "rows", "sequence", "heads", "scores"
# What is read of the caller's own memory.
GIVEN = "given"
Held = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Step:
    """An operator: its weights, its operations with weights and among activations.

    `stands` are the tensors that it reads and writes, `waits` those that others read later: the
    form of each and how many numbers it holds.
    """

    tensors: tuple[Tensor, ...] = ()
    weighed: int = 0
    compared: int = 0
    stands: tuple[Held, ...] = ()
    waits: tuple[Held, ...] = ()

    @property
    def convolved(self) -> int:
        """The operations of a convolution, nothing where it is none."""
        return self.weighed if any(one.is_convolution for one in self.tensors) else 0

    @property
    def kept(self) -> tuple[Held, ...]:
        """The tensors that the engine has memory for while it runs."""
        return tuple(held for held in self.stands + self.waits if held[0] != GIVEN)

    @property
    def moved(self) -> int:
        """The numbers that it reads and writes."""
        return sum(count for _, count in self.stands)


Steps = Iterator[Step]


def alive(steps: Sequence[Step]) -> int:
    """Return the numbers that stand in memory at once, where that is most.

    As many tensors of a shape are kept as stand at once anywhere, from the first to the last.
    """
    counts: Counter[Held] = Counter()
    grows: Counter[int] = Counter()
    first: dict[Held, int] = {}
    last: dict[Held, int] = {}
    for at, step in enumerate(steps):
        for held, count in Counter(step.kept).items():
            if held[0] == MAP:
                continue
            counts[held] = max(counts[held], count)
            first.setdefault(held, at)
            last[held] = at
    for held, count in counts.items():
        grows[first[held]] += count * held[1]
        grows[last[held] + 1] -= count * held[1]
    kept = most = 0
    for at, step in enumerate(steps):
        kept += grows[at]
        maps = sum(count for form, count in step.kept if form == MAP)
        most = max(most, kept + maps)
    return most


def of_a_picture(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return the steps with what the first operator reads given by the caller."""
    at = next((at for at, step in enumerate(steps) if step.stands), None)
    if at is None:
        return tuple(steps)
    (_, count), *written = steps[at].stands
    first = replace(steps[at], stands=((GIVEN, count), *written))
    return (*steps[:at], first, *steps[at + 1 :])


def beside(steps: Iterable[Step], waiting: int, form: str = MAP) -> Steps:
    """Give the steps while a tensor of so many numbers waits for what comes after them."""
    for step in steps:
        yield replace(step, waits=(*step.waits, (form, waiting)) if waiting else step.waits)


def convolution(
    name: str,
    outputs: int,
    inputs: int,
    kernel: int,
    side: int,
    *,
    stride: int = 1,
    groups: int = 1,
    bias: bool = False,
    norm: bool = True,
) -> Steps:
    """Give a convolution whose output is `side` wide and high, and the norm folded into it."""
    shape = (outputs, inputs // groups, kernel, kernel)
    tensors = [Tensor(f"{name}.convolution.weight", shape)]
    if bias:
        tensors.append(Tensor(f"{name}.convolution.bias", (outputs,)))
    if norm:
        tensors.append(Tensor(f"{name}.normalization.weight", (outputs,)))
        tensors.append(Tensor(f"{name}.normalization.bias", (outputs,)))
    places = side**2
    read = inputs * (side * stride) ** 2
    stands = ((MAP, read), (MAP, outputs * places))
    yield Step(tuple(tensors), 2 * tensors[0].count * places, 0, stands)


def upwards(name: str, width: int, factor: int, side: int) -> Steps:
    """Give a transposed convolution that makes squares of `factor` of places; `side` is read."""
    count, grown = width * side**2, factor**2
    tensors = (
        Tensor(f"{name}.weight", (width, width, factor, factor)),
        Tensor(f"{name}.bias", (width,)),
    )
    yield Step(tensors, 2 * width * count * grown, 0, ((MAP, count), (MAP, count * grown)))


def linear(name: str, rows: int, columns: int, places: int, *, bias: bool = True) -> Steps:
    """Give a matrix that each of `places` is multiplied with."""
    tensors = [Tensor(f"{name}.weight", (rows, columns))]
    if bias:
        tensors.append(Tensor(f"{name}.bias", (rows,)))
    stands = ((ROWS, places * columns), (ROWS, places * rows))
    yield Step(tuple(tensors), 2 * rows * columns * places, 0, stands)


def norm(name: str, width: int, places: int) -> Steps:
    """Give a norm with scale and shift."""
    tensors = (Tensor(f"{name}.norm.weight", (width,)), Tensor(f"{name}.norm.bias", (width,)))
    yield Step(tensors, stands=((SEQUENCE, width * places),) * 2)


def table(name: str, *shape: int) -> Step:
    """Give a parameter that multiplies nothing: positions, tokens, scales."""
    return Step((Tensor(name, shape),))


def passed(*counts: int, form: str = MAP) -> Step:
    """Give an operator without weights that reads and writes tensors of so many numbers."""
    return Step(stands=tuple((form, count) for count in counts))


def attention(
    base: str,
    width: int,
    places: int,
    heads: int,
    *,
    keys: int | None = None,
    groups: int = 1,
    biases: str = "qkvo",
    source: int | None = None,
    fused: bool = True,
) -> Steps:
    """Give attention in `groups` of places that see `keys` each: all places of a group unless told.

    `source` is how many places keys and values are made of where they are others. `biases` names
    the projections that have one. What is `fused` goes by blocks: no scores stand in memory, and
    heads are not put apart.
    """
    seen = places // groups if keys is None else keys
    given = places if source is None else source
    made: list[int] = []
    for letter, count in (("q", places), ("k", given), ("v", given)):
        name, biased = f"{base}.attention.{letter}_proj", letter in biases
        for step in linear(name, width, width, count, bias=biased):
            yield replace(step, waits=tuple((ROWS, one) for one in made) if fused else ())
        made.append(width * count)
    looked = 4 * places * seen * width
    if fused:
        yield Step((), 0, looked, tuple((ROWS, one) for one in (*made, width * places)))
    else:
        heads_apart = ((HEADS, made[0]), (HEADS, made[2]), ("turned", made[1]))
        scores = ((SCORES, heads * places * seen),) * 2
        yield Step((), 0, looked, (*heads_apart, *scores, ("together", width * places)))
    yield from linear(f"{base}.attention.o_proj", width, width, places, bias="o" in biases)


def feed_forward(base: str, width: int, size: int, places: int) -> Steps:
    """Give two matrices with an activation between them."""
    yield from linear(f"{base}.mlp.fc1", size, width, places)
    yield passed(size * places, size * places, form=ROWS)
    yield from linear(f"{base}.mlp.fc2", width, size, places)


def block(
    base: str,
    width: int,
    size: int,
    places: int,
    heads: int,
    biases: str = "qkvo",
    *,
    groups: int = 1,
    fused: bool = True,
) -> Steps:
    """Give a transformer layer over groups of places: norm, attention, norm, feed-forward."""
    waiting = width * places
    yield from norm(f"{base}.before", width, places)
    seen = attention(base, width, places, heads, groups=groups, biases=biases, fused=fused)
    yield from beside(seen, waiting, SEQUENCE)
    yield from norm(f"{base}.after", width, places)
    yield from beside(feed_forward(base, width, size, places), waiting, SEQUENCE)


def halved(side: int, stride: int = 2) -> int:
    """Return the side that a padded convolution of this stride leaves."""
    return -(-side // stride)


def numbers(config: Config, name: str, default: Sequence[int]) -> tuple[int, ...]:
    """Return an array of the configuration, its class's default where it is not there."""
    return config.numbers(name) or tuple(default)


def depths(config: Config, default: Sequence[int], widths: Sequence[int]) -> tuple[int, ...]:
    """Return the layers of each stage; SourceError where they do not match the stages' widths."""
    found = numbers(config, "depths", default)
    if len(found) != len(widths):
        raise SourceError(f"{config.where}: depths and widths must name the same stages")
    if sum(found) > MOST_LAYERS:
        raise SourceError(f"{config.where}: {sum(found)} layers are more than {MOST_LAYERS}")
    return found


def labels(config: Config) -> int:
    """Return how many classes the head tells apart."""
    named = config.section("id2label")
    return len(named.items()) if named else config.count("num_labels", default=2)


def head(config: Config) -> str:
    """Return what the model ends in, as in its class's name: `ImageClassification`."""
    return next(iter(config.words("architectures")), "").partition("For")[2]


def classifier(config: Config, width: int) -> Steps:
    """Give the matrix that names a picture's class where the class of the model has one."""
    if head(config) in ("ImageClassification", "AudioClassification"):
        yield from linear("classifier", labels(config), width, 1)


PICTURE = 224


def side_of(config: Config, default: int = PICTURE) -> int:
    """Return the side of the pictures: the largest where two are told."""
    sides = config.numbers("image_size") if not _is_one(config) else ()
    return max(1, *sides) if sides else config.count("image_size", default=default)


def _is_one(config: Config) -> bool:
    return isinstance(config.items().get("image_size"), int)
