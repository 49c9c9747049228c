"""Every combination, one child after the other; each finished record is kept at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeward.errors import EdgewardError
from edgeward.runtimes.bundle.read import Bundle

from .child import Limits, measure_alone
from .host import machine
from .predicted import Predictor
from .record import now, record_of
from .request import Request
from .store import Store

Say = Callable[[str], None]


@dataclass(slots=True)
class Sweeping:
    """A sweep on its way: `failures` are the combinations that could not be measured."""

    bundle: Bundle
    requests: Sequence[Request]
    limits: Limits
    store: Store
    predictor: Predictor
    say: Say
    failures: list[EdgewardError] = field(default_factory=list)
    _lost: EdgewardError | None = None

    def records(self) -> Iterator[dict[str, Any]]:
        """Give each record when it is measured and kept; a combination that fails is passed over.

        Raises the first failure where nothing could be measured at all.
        """
        # Later ones would count this sweep's own load.
        others = machine().load_average
        measured = 0
        for number, request in enumerate(self.requests, 1):
            self.say(f"[{number}/{len(self.requests)}] {request.words}")
            moment = now()
            try:
                told = measure_alone(request, self.limits)
            except EdgewardError as error:
                self.failures.append(error)
                if len(self.requests) > 1:
                    self.say(f"not measured: {error}")
                continue
            record = record_of(self.bundle, request, told, moment, others)
            record |= self.predictor.beside(record)
            if not measured and record["predicted_for"] is None:
                self.say(f"not predicted: {record['predicted_note']}")
            for warning in record["warnings"]:
                self.say(f"warning: too noisy: {warning}")
            if not record["valid"]:
                self.say(f"warning: not valid: {record['invalid_why']}")
            measured += 1
            yield self._kept(record)
            if self._lost is not None:
                raise self._lost
        if self.failures and not measured:
            raise self.failures[0]

    def _kept(self, record: dict[str, Any]) -> dict[str, Any]:
        """What cannot be kept is still told."""
        try:
            return {"id": self.store.append(record), **record}
        except EdgewardError as error:
            self._lost = error
            return record
