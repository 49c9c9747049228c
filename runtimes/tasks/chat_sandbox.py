"""Jinja2's sandbox for chat templates, and the count of what a template does.

The sandbox keeps a template from the program; the budget keeps it from the machine's time and
memory: loops, calls, operators, and every value that a template writes or grows are priced.
"""

from __future__ import annotations

import datetime
import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from edgeward.errors import EngineError

_SAFE_JINJA2 = (3, 1, 6)
_INSTALL = "pip install 'edgeward[onnx]'"
MAX_STEPS = 500_000
MAX_CHARACTERS = 1 << 22
_LARGEST_WIDTH = 10_000
_LARGEST_POWER = 1000
_LARGEST_FACTOR = 10**18
_WIDE_FIELD = re.compile(r"\d{5}|\*")
_SIZED = (str, bytes, list, tuple)
_COMPOUND = (*_SIZED, dict)
_GROWING_FILTERS = ("batch", "center", "format", "indent", "join", "slice", "sum", "wordwrap")


class TemplateRefusedError(Exception):
    """A template asked for more than a chat needs."""


class MessagesRefusedError(Exception):
    """The template itself refuses the messages."""


class Budget:
    """Counts what one rendering does."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Forget the rendering before."""
        self._steps, self._characters = MAX_STEPS, MAX_CHARACTERS

    def step(self) -> None:
        """One turn of a loop, one call, one operator."""
        self._steps -= 1
        if self._steps < 0:
            raise TemplateRefusedError(f"it takes more than {MAX_STEPS} steps")

    def each(self, items: Iterable[Any], written: int) -> Iterator[Any]:
        """Pass the items of a loop, each of which writes `written` characters of fixed text."""
        for item in items:
            self.step()
            self._write(written)
            yield item

    def shown(self, value: Any) -> str:
        """Return a value as the text that is written for it."""
        text = str(value)
        self._write(len(text))
        return text

    def joined(self, parts: Sequence[Any]) -> str:
        """Return texts put together."""
        return "".join([self.shown(part) for part in parts])

    def sized(self, value: Any) -> Any:
        """Return a value that has not grown out of measure, in all of its parts together."""
        if isinstance(value, (list, tuple, dict)):
            self._write(_weight(value))
        elif isinstance(value, (str, bytes)) and len(value) > MAX_CHARACTERS:
            raise TemplateRefusedError(f"it grows a value beyond {MAX_CHARACTERS} characters")
        return value

    def operands(self, operator: str, left: Any, right: Any) -> None:
        """Refuse an operator before it makes something huge."""
        self.step()
        lengths = [len(v) for v in (left, right) if isinstance(v, _SIZED)]
        largest = max((abs(v) for v in (left, right) if isinstance(v, (int, float))), default=0)
        size = sum(lengths) * (max(largest, 1) if operator == "*" else 1)
        huge = largest > (_LARGEST_POWER if operator == "**" else _LARGEST_FACTOR)
        if huge or size > MAX_CHARACTERS or (operator == "%" and _wide(left)):
            raise TemplateRefusedError("it computes with values too large for a chat")

    def arguments(self, values: Iterable[Any]) -> None:
        """Refuse to pad or repeat a text without measure."""
        for value in values:
            if isinstance(value, int) and abs(value) > _LARGEST_WIDTH:
                raise TemplateRefusedError(f"it asks for {value} of something")

    def method(self, function: Any, given: Sequence[Any], named: Mapping[str, Any]) -> None:
        """Check a call of a text's or a list's own method."""
        self.step()
        owner = getattr(getattr(function, "__wrapped__", function), "__self__", None)
        if isinstance(owner, _SIZED):
            self.arguments((*given, *named.values()))
            name = getattr(function, "__name__", "")
            if name in ("format", "format_map") and _wide(owner):
                raise TemplateRefusedError("it pads a text without measure")
            if name in ("replace", "join") and given:
                self.growth(owner, given)

    def replaced(self, text: Any, old: str, new: str, count: int = -1) -> str:
        """Do what jinja2's `replace` filter does, priced first."""
        given = str(text)
        self.growth(given, (old, new))
        return given.replace(old, new, -1 if count is None else count)

    def growth(self, owner: Any, given: Sequence[Any]) -> None:
        """Price `owner.join(parts)` and `owner.replace(old, new)` before they are made."""
        if len(given) == 1:
            self._write(len(owner) * len(given[0]) + _weight(given[0]))
        elif all(isinstance(part, str) for part in given[:2]):
            self._write(owner.count(given[0]) * len(given[1]))

    def guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a filter that pads, joins or repeats, with its arguments checked."""

        @functools.wraps(function)
        def run(*given: Any, **named: Any) -> Any:
            values = (*given, *named.values())
            self.step()
            self.arguments(values)
            if any(_wide(value) for value in values):
                raise TemplateRefusedError("it pads a text without measure")
            self._write(sum(_weight(value) for value in values))
            return self.sized(function(*given, **named))

        return run

    def _write(self, characters: int) -> None:
        self._characters -= characters
        if self._characters < 0:
            raise TemplateRefusedError(f"it writes more than {MAX_CHARACTERS} characters")


def _weight(value: Any) -> int:
    """Characters and parts of a value, as if written out; counted no further than matters."""
    weight, waiting = 0, [value]
    while waiting and weight <= MAX_CHARACTERS:
        part = waiting.pop()
        if isinstance(part, Mapping):
            waiting += [*part.keys(), *part.values()]
        elif isinstance(part, (list, tuple)):
            waiting += part
        weight += len(part) if isinstance(part, _COMPOUND) else 1
    return weight


def _wide(value: Any) -> bool:
    """A format that asks for a field wider than any text of a chat."""
    return isinstance(value, str) and bool(_WIDE_FIELD.search(value))


def sandboxed(budget: Budget) -> Any:
    """Jinja2's immutable sandbox with transformers' extras, every loop and call counted."""
    try:
        import jinja2
        from jinja2 import ext, nodes, sandbox, visitor
    except ImportError as error:
        raise EngineError("jinja2 is not installed", why=str(error), next=_INSTALL) from None
    if _version(jinja2.__version__) < _SAFE_JINJA2:
        raise EngineError(
            f"jinja2 {jinja2.__version__} is too old",
            why="templates escape from its sandbox",
            next=_INSTALL,
        )

    class Generation(ext.Extension):
        """`{% generation %}` marks what the assistant says; only training reads the marks."""

        tags = {"generation"}  # noqa: RUF012  jinja2 declares it so

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body).set_lineno(line)

    class Counting(visitor.NodeTransformer):
        """Puts the budget's filters where a template loops and writes."""

        def visit_For(self, node: Any) -> Any:  # noqa: N802  jinja2 names it so
            self.generic_visit(node)
            written = sum(len(text.data) for text in node.find_all(nodes.TemplateData))
            node.iter = _through("_each", node.iter, nodes.Const(written))
            return node

        def visit_Output(self, node: Any) -> Any:  # noqa: N802
            self.generic_visit(node)
            node.nodes = [
                part if isinstance(part, nodes.TemplateData) else _through("_shown", part)
                for part in node.nodes
            ]
            return node

        def visit_Concat(self, node: Any) -> Any:  # noqa: N802
            self.generic_visit(node)
            return _through("_joined", nodes.List(node.nodes, lineno=node.lineno))

        def visit_List(self, node: Any) -> Any:  # noqa: N802
            self.generic_visit(node)
            return _through("_built", node)

        visit_Dict = visit_List  # noqa: N815

        def visit_Tuple(self, node: Any) -> Any:  # noqa: N802
            self.generic_visit(node)
            return _through("_built", node) if node.ctx == "load" else node

    def _through(name: str, value: Any, *more: Any) -> Any:
        return nodes.Filter(value, name, list(more), [], None, None, lineno=value.lineno)

    class Counted(sandbox.ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset(["+", "-", "*", "**", "%", "//", "/"])

        def _parse(self, *given: Any) -> nodes.Template:
            tree: nodes.Template = Counting().visit(super()._parse(*given))
            return tree

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            budget.operands(operator, left, right)
            return super().call_binop(context, operator, left, right)

        def call(self, context: Any, function: Any, /, *given: Any, **named: Any) -> Any:
            budget.method(function, given, named)
            return budget.sized(super().call(context, function, *given, **named))

    environment = Counted(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, ext.loopcontrols]
    )
    for name in _GROWING_FILTERS:
        environment.filters[name] = budget.guarded(environment.filters[name])
    environment.filters.update(
        tojson=_to_json,
        replace=budget.replaced,
        _each=budget.each,
        _shown=budget.shown,
        _joined=budget.joined,
        _built=budget.sized,
    )
    del environment.globals["lipsum"]
    environment.globals.update(
        raise_exception=_refuse, strftime_now=_now, namespace=_namespace_class()
    )
    return environment


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def _namespace_class() -> type:
    """A namespace that stores nothing under a name of Python's own, as transformers has it."""
    from jinja2.exceptions import SecurityError
    from jinja2.utils import Namespace

    class PlainNamespace(Namespace):
        def __init__(*given: Any, **named: Any) -> None:
            for name in dict(*given[1:], **named):
                _refuse_private(name)
            Namespace.__init__(given[0], *given[1:], **named)

        def __setitem__(self, name: str, value: Any) -> None:
            _refuse_private(name)
            super().__setitem__(name, value)

    def _refuse_private(name: str) -> None:
        if name.startswith("_"):
            raise SecurityError(f"it stores {name!r} in a namespace")

    return PlainNamespace


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Transformers' own `tojson`: jinja2's would escape what HTML escapes."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _refuse(message: object) -> None:
    raise MessagesRefusedError(str(message)[:500])


def _now(form: str) -> str:
    return datetime.datetime.now().astimezone().strftime(form)
