"""Conducts rollouts: opens waves, hears devices, halts, resumes; each step one transaction."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import replace

from ..protocol.documents import Policy, ReleaseRef, Reported
from . import rollout as rules_of
from .address import addressed
from .desired import Issuer
from .problems import ConflictError, NotThereError
from .records import Event, MemberRecord, ReleaseRecord, RolloutRecord
from .rollout import FAILURES, UNDER_WAY, Halt, Member, Pass, Phase, Progress, Rules
from .store import Store
from .timeline import said_by
from .waves import assign


class Conductor:
    """The rules of `rollout.py` applied to the registry."""

    def __init__(self, store: Store, issuer: Issuer, clock: Callable[[], float]) -> None:
        self.store = store
        self.issuer = issuer
        self.clock = clock

    def create(
        self, model: str, version: str, to: str, rules: Rules, policy: Policy
    ) -> RolloutRecord:
        """Fix who takes part and in which wave, and open the first wave.

        Raises NotThereError for an unknown release or device, ConflictError where a device
        takes part in another rollout that runs.
        """
        with self.store.transaction():
            release = self._release_named(model, version)
            devices = addressed(to, self.store.devices())
            self._refuse_busy(devices, but=None)
            now = self.clock()
            record = RolloutRecord(
                id=f"r{len(self.store.rollouts()) + 1}-{secrets.token_hex(3)}",
                release=release.digest,
                addressed=to,
                rules=rules,
                policy=policy,
                phase=Phase.RUNNING,
                wave=0,
                opened_at=now,
                created_at=now,
            )
            self.store.save_rollout(record)
            self._enlist(record, devices)
            record = self._rebase(record)
            self._say(record, "created", f"{model} {version} to {to}: {len(devices)} devices")
            self._open(record)
        return record

    def hear(self, reported: Reported) -> None:
        """Move the device on in the rollout that it reports on."""
        for member in self.store.memberships(reported.device):
            if (member.rollout, member.generation) == (reported.rollout, reported.generation):
                self._hear(member, reported)

    def tick(self) -> None:
        """Let every running rollout do what is due."""
        for record in self.store.rollouts():
            if record.phase is Phase.RUNNING:
                with self.store.transaction():
                    self._advance(record)

    def halt(self, rollout: str, reason: str) -> RolloutRecord:
        """Stop a running rollout; ConflictError where it does not run."""
        with self.store.transaction():
            record = self.find(rollout)
            if record.phase is not Phase.RUNNING:
                raise ConflictError(f"{rollout} is {record.phase.value}, so it cannot be halted")
            return self._halt(record, reason)

    def resume(self, rollout: str, retry_failed: bool = False) -> RolloutRecord:
        """Go on with a halted rollout.

        Devices that failed are passed over from now on, or offered the release once more with
        `retry_failed`; those that were stopped on the way are offered it again.
        """
        with self.store.transaction():
            record = self.find(rollout)
            if record.phase is not Phase.HALTED:
                raise ConflictError(f"{rollout} is {record.phase.value}, so it cannot be resumed")
            members = self.store.members(rollout)
            self._refuse_busy([member.device for member in members], but=rollout)
            record = replace(
                record, phase=Phase.RUNNING, opened_at=self.clock(), ended_at=None, reason=""
            )
            record = self._rebase(record)
            self._say(record, "resumed", "failed devices again" if retry_failed else "")
            failed = FAILURES | {Member.UNFIT}
            forgiven = [] if retry_failed else [m for m in members if m.state in failed]
            self.store.save_members([replace(member, forgiven=True) for member in forgiven])
            again = {Member.RETURNED, *(failed if retry_failed else ())}
            self._offer(record, [m for m in members if m.state in again])
        return record

    def find(self, rollout: str) -> RolloutRecord:
        """Return a rollout; NotThereError where there is none of this id."""
        record = self.store.rollout(rollout)
        if record is None:
            raise NotThereError(f"No rollout {rollout[:80]!r}", next="edgeward fleet rollout list")
        return record

    def progress(self, record: RolloutRecord, members: Iterable[MemberRecord]) -> Progress:
        """Return what the rules decide on."""
        requests, errors = self._traffic(record)
        return Progress(
            wave=record.wave,
            opened_at=record.opened_at,
            members=[member.standing for member in members],
            requests=max(0, requests - record.base_requests),
            errors=max(0, errors - record.base_errors),
        )

    def _advance(self, record: RolloutRecord) -> None:
        while record.phase is Phase.RUNNING:
            members = self.store.members(record.id)
            progress, now = self.progress(record, members), self.clock()
            decision = rules_of.decide(record.rules, progress, now)
            if isinstance(decision, rules_of.Wait):
                return
            late = set(rules_of.silent(record.rules, progress, now))
            self._mark_silent([member for member in members if member.device in late])
            if isinstance(decision, Halt):
                self._halt(record, decision.reason)
                return
            record = self._pass(record, decision)

    def _pass(self, record: RolloutRecord, decision: Pass) -> RolloutRecord:
        self._say(record, "wave-passed", f"wave {record.wave + 1} of {len(record.rules.waves)}")
        now = self.clock()
        if record.wave + 1 >= len(record.rules.waves):
            record = replace(record, phase=Phase.COMPLETE, ended_at=now)
            self.store.save_rollout(record)
            self._say(record, "complete", "")
            return record
        record = replace(record, wave=record.wave + 1, opened_at=now)
        self.store.save_rollout(record)
        self._open(record)
        return record

    def _open(self, record: RolloutRecord) -> None:
        wave = [m for m in self.store.members(record.id) if m.wave == record.wave]
        self._offer(record, wave)
        self._say(record, "wave-opened", f"wave {record.wave + 1}: {len(wave)} devices")

    def _offer(self, record: RolloutRecord, members: Iterable[MemberRecord]) -> None:
        release, now = self._ref(record.release), self.clock()
        offered = []
        for member in members:
            desired = self.issuer.issue(member.device, release, record.id, record.policy)
            offered.append(
                replace(
                    member,
                    state=Member.OFFERED,
                    generation=desired.generation,
                    offered_at=now,
                    forgiven=False,
                )
            )
        self.store.save_members(offered)

    def _halt(self, record: RolloutRecord, reason: str) -> RolloutRecord:
        record = replace(record, phase=Phase.HALTED, ended_at=self.clock(), reason=reason)
        self.store.save_rollout(record)
        self._say(record, "halted", reason)
        for member in self.store.members(record.id):
            if member.state in (Member.PENDING, Member.COMMITTED):
                continue
            self.issuer.issue(member.device, self._ref(member.previous), None, record.policy)
            if member.state in UNDER_WAY or member.state is Member.SILENT:
                self.store.save_members([replace(member, state=Member.RETURNED)])
        return record

    def _hear(self, member: MemberRecord, reported: Reported) -> None:
        state = rules_of.member_after(member.state, reported)
        if state is member.state:
            return
        self.store.save_members([replace(member, state=state)])
        record = self.find(member.rollout)
        self._say(record, state.value, said_by(reported), member.device)
        if member.state is Member.RETURNED and state is Member.COMMITTED:
            self.issuer.issue(member.device, self._ref(record.release), None, record.policy)

    def _mark_silent(self, members: Iterable[MemberRecord]) -> None:
        for member in members:
            self.store.save_members([replace(member, state=Member.SILENT)])
            self._say(self.find(member.rollout), "silent", "said nothing in time", member.device)

    def _enlist(self, record: RolloutRecord, devices: Iterable[str]) -> None:
        waves = assign(devices, record.id, record.rules.waves)
        self.store.save_members(
            [
                MemberRecord(record.id, device, wave, Member.PENDING, previous=self._now_on(device))
                for device, wave in waves.items()
            ]
        )

    def _now_on(self, device: str) -> str | None:
        desired = self.store.desired(device)
        if desired and desired.document.release:
            return desired.document.release.digest
        known = self.store.device(device)
        release = known.reported.release if known and known.reported else None
        return release.digest if release and self.store.release(release.digest) else None

    def _refuse_busy(self, devices: Iterable[str], but: str | None) -> None:
        wanted = set(devices)
        for record in self.store.rollouts():
            if record.phase is not Phase.RUNNING or record.id == but:
                continue
            busy = sorted(wanted & {member.device for member in self.store.members(record.id)})
            if busy:
                raise ConflictError(
                    f"{', '.join(busy[:5])} take part in rollout {record.id}, which runs",
                    next=f"edgeward fleet rollout halt {record.id}",
                )

    def _release_named(self, model: str, version: str) -> ReleaseRecord:
        for record in self.store.releases():
            if (record.release.model, record.release.version) == (model, version):
                return record
        raise NotThereError(f"No release {model} {version}", next="edgeward release list")

    def _ref(self, digest: str | None) -> ReleaseRef | None:
        record = self.store.release(digest) if digest else None
        return record.ref if record else None

    def _rebase(self, record: RolloutRecord) -> RolloutRecord:
        requests, errors = self._traffic(record)
        record = replace(record, base_requests=requests, base_errors=errors)
        self.store.save_rollout(record)
        return record

    def _traffic(self, record: RolloutRecord) -> tuple[int, int]:
        release = self.store.release(record.release)
        bundles = [variant.bundle for variant in release.release.variants] if release else []
        return self.store.traffic(record.id, bundles)

    def _say(self, record: RolloutRecord, kind: str, text: str, device: str | None = None) -> None:
        self.store.add_event(Event(self.clock(), kind, text[:500], record.id, device))
