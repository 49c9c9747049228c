"""GATE: the golden inputs, on this device, before anything is activated."""

from __future__ import annotations

from edgeward.runtimes.child import run_limited

from ...protocol.documents import State
from .. import gate
from ..machine import Event
from ..work import Result, Step, Work


class Gate(Step):
    """Runs the self-test as a limited child; whatever it does, the agent goes on."""

    state = State.GATE

    def run(self, work: Work) -> Result | None:
        """Judge what the self-test measured against the target's limits."""
        bundle = work.store.open(work.variant.bundle, "sizes")
        limits = work.device.limits(work.variant.target)
        ended = run_limited(
            [*work.commands.selftest, str(bundle.path)],
            seconds=work.update.policy.gate_timeout_seconds,
            memory_bytes=limits.max_memory_bytes or work.device.memory_bytes,
            clock=work.clock,
            between=work.between,
            environment=work.store.home.environment,
        )
        heat = work.device.temperature_c()
        judged = gate.judge(bundle.digest, bundle.manifest, ended, limits, heat)
        if judged.problem is None:
            return Result(Event.DONE, {"gate": judged.report})
        return Result(Event.UNFIT, {"gate": judged.report, "problem": judged.problem})
