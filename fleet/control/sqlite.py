"""The registry in one SQLite file: write-ahead log, one writer, durable on commit."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeward.errors import FleetError

from ..protocol.documents import Online, Reported, Stats
from . import rows
from .problems import ConflictError, FullError
from .records import (
    DesiredRecord,
    DeviceRecord,
    Event,
    MemberRecord,
    ReleaseRecord,
    RolloutRecord,
)
from .sqlite_jobs import SqliteJobs
from .sqlite_schema import prepare
from .stats import Totals, read_delta, total
from .store import Store

BUCKET_SECONDS = 300
MAX_BUCKETS = 288
MAX_BUNDLES_PER_DEVICE = 32
MAX_EVENTS = 20_000


class SqliteStore(SqliteJobs, Store):
    """One connection behind one lock: the controller's work is small and ordered."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA busy_timeout=5000")
            with self.transaction():
                prepare(self._db, path)
        except sqlite3.Error as error:
            raise FleetError(
                f"The registry {path} cannot be opened",
                why=str(error),
                next="restore it from a copy, or start with another --home",
            ) from None

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; a block inside another belongs to it."""
        with self._lock:
            outermost = self._depth == 0
            if outermost:
                self._execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
            except BaseException:
                if outermost and self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            else:
                if outermost:
                    self._execute("COMMIT")
            finally:
                self._depth -= 1

    def save_reported(self, reported: Reported, now: float) -> bool:
        """Keep a report unless the same or a later one is there."""
        with self.transaction():
            self._meet(reported.device, now)
            changed = self._execute(
                "UPDATE devices SET reported = ?, reported_boot = ?, reported_sequence = ?"
                " WHERE id = ? AND (reported_boot, reported_sequence) < (?, ?)",
                rows.dump(reported),
                reported.boot,
                reported.sequence,
                reported.device,
                reported.boot,
                reported.sequence,
            )
        return changed.rowcount > 0

    def save_online(self, online: Online, now: float) -> bool:
        """Keep a birth or a will; a connection that ended does not come back to life."""
        at = (online.boot, online.connection)
        with self.transaction():
            self._meet(online.device, now)
            changed = self._execute(
                "UPDATE devices SET online = ?, online_boot = ?, online_connection = ?"
                " WHERE id = ? AND ((online_boot, online_connection) < (?, ?)"
                " OR ((online_boot, online_connection) = (?, ?) AND online > ?))",
                int(online.online),
                *at,
                online.device,
                *at,
                *at,
                int(online.online),
            )
        return changed.rowcount > 0

    def save_stats(self, stats: Stats, totals: Totals, now: float) -> bool:
        """Merge an interval into its bucket of the controller's time, once."""
        with self.transaction():
            self._meet(stats.device, now)
            changed = self._execute(
                "UPDATE devices SET stats_boot = ?, stats_sequence = ?"
                " WHERE id = ? AND (stats_boot, stats_sequence) < (?, ?)",
                stats.boot,
                stats.sequence,
                stats.device,
                stats.boot,
                stats.sequence,
            )
            if changed.rowcount > 0:
                self._merge(stats.device, stats.bundle, int(now // BUCKET_SECONDS), totals)
        return changed.rowcount > 0

    def device(self, device: str) -> DeviceRecord | None:
        """Return one device."""
        found = self._devices("WHERE id = ?", device)
        return found[0] if found else None

    def devices(self) -> list[DeviceRecord]:
        """Return all devices by id."""
        return self._devices("ORDER BY id")

    def forget_device(self, device: str) -> bool:
        """Drop what is known of a device."""
        with self.transaction():
            for table in ("labels", "desired", "stats", "jobs"):
                self._execute(f"DELETE FROM {table} WHERE device = ?", device)  # noqa: S608 - names are the literals above
            return self._execute("DELETE FROM devices WHERE id = ?", device).rowcount > 0

    def set_labels(self, device: str, add: Sequence[str], remove: Sequence[str]) -> None:
        """Change a device's labels."""
        with self.transaction():
            for label in remove:
                self._execute("DELETE FROM labels WHERE device = ? AND label = ?", device, label)
            for label in add:
                self._execute("INSERT OR IGNORE INTO labels VALUES (?, ?)", device, label)

    def desired(self, device: str) -> DesiredRecord | None:
        """Return what a device should run."""
        row = self._one("SELECT * FROM desired WHERE device = ?", device)
        return rows.desired(row) if row else None

    def all_desired(self) -> list[DesiredRecord]:
        """Return what every device should run."""
        return [rows.desired(row) for row in self._all("SELECT * FROM desired ORDER BY device")]

    def save_desired(self, record: DesiredRecord) -> None:
        """Keep a desired document; its generation never goes back."""
        document = record.document
        changed = self._execute(
            "INSERT INTO desired VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (device) DO UPDATE SET"
            " generation = excluded.generation, release = excluded.release,"
            " rollout = excluded.rollout, expires_at = excluded.expires_at,"
            " document = excluded.document, envelope = excluded.envelope"
            " WHERE excluded.generation >= desired.generation",
            document.device,
            document.generation,
            document.release.digest if document.release else None,
            document.rollout,
            document.expires_at,
            rows.dump(document),
            record.envelope,
        )
        if not changed.rowcount:
            raise FleetError(
                f"Generation {document.generation} of {document.device} would go back",
                why="a later one is in the registry: is another controller at work?",
            )

    def add_release(self, record: ReleaseRecord) -> None:
        """Keep a release."""
        release = record.release
        try:
            self._execute(
                "INSERT INTO releases VALUES (?, ?, ?, ?, ?, ?, ?)",
                record.digest,
                release.model,
                release.version,
                release.sequence,
                release.created_at,
                rows.dump(release),
                record.envelope,
            )
        except sqlite3.IntegrityError:
            raise ConflictError(
                f"{release.model} {release.version} (sequence {release.sequence}) cannot be added",
                why="the model has another release of this version or sequence",
                next="edgeward release list",
            ) from None

    def release(self, digest: str) -> ReleaseRecord | None:
        """Return a release."""
        row = self._one("SELECT * FROM releases WHERE digest = ?", digest)
        return rows.release(row) if row else None

    def releases(self) -> list[ReleaseRecord]:
        """Return all releases by model and sequence."""
        found = self._all("SELECT * FROM releases ORDER BY model, sequence")
        return [rows.release(row) for row in found]

    def save_rollout(self, record: RolloutRecord) -> None:
        """Add or replace a rollout."""
        self._execute(
            "INSERT INTO rollouts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET phase = excluded.phase, wave = excluded.wave,"
            " opened_at = excluded.opened_at, ended_at = excluded.ended_at,"
            " reason = excluded.reason, base_requests = excluded.base_requests,"
            " base_errors = excluded.base_errors",
            *rows.rollout_values(record),
        )

    def rollout(self, rollout: str) -> RolloutRecord | None:
        """Return one rollout."""
        row = self._one("SELECT * FROM rollouts WHERE id = ?", rollout)
        return rows.rollout(row) if row else None

    def rollouts(self) -> list[RolloutRecord]:
        """Return all rollouts, oldest first."""
        return [
            rows.rollout(r) for r in self._all("SELECT * FROM rollouts ORDER BY created_at, id")
        ]

    def save_members(self, records: Sequence[MemberRecord]) -> None:
        """Add or replace members."""
        with self.transaction():
            for record in records:
                self._execute(
                    "INSERT OR REPLACE INTO members VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    *rows.member_values(record),
                )

    def members(self, rollout: str) -> list[MemberRecord]:
        """Return a rollout's members by wave and device."""
        query = "SELECT * FROM members WHERE rollout = ? ORDER BY wave, device"
        return [rows.member(row) for row in self._all(query, rollout)]

    def memberships(self, device: str) -> list[MemberRecord]:
        """Return a device's part in every rollout."""
        query = "SELECT * FROM members WHERE device = ? ORDER BY rollout"
        return [rows.member(row) for row in self._all(query, device)]

    def add_event(self, event: Event) -> None:
        """Write a line of the timeline."""
        with self.transaction():
            added = self._execute(
                "INSERT INTO events (at, kind, rollout, device, text) VALUES (?, ?, ?, ?, ?)",
                event.at,
                event.kind,
                event.rollout,
                event.device,
                event.text,
            )
            oldest = (added.lastrowid or 0) - MAX_EVENTS
            self._execute("DELETE FROM events WHERE id <= ?", oldest)

    def events(self, rollout: str | None = None, limit: int = 200) -> list[Event]:
        """Return the latest lines, oldest first."""
        query = "SELECT * FROM events WHERE ? IS NULL OR rollout = ? ORDER BY id DESC LIMIT ?"
        return [rows.event(row) for row in reversed(self._all(query, rollout, rollout, limit))]

    def stats(
        self, *, since: float = 0.0, bundles: Sequence[str] | None = None
    ) -> list[tuple[str, str, Totals]]:
        """Return the totals of each device and bundle."""
        first = int(since // BUCKET_SECONDS)
        query = "SELECT * FROM stats WHERE bucket >= ? ORDER BY device, bundle, bucket"
        merged: dict[tuple[str, str], list[Totals]] = {}
        for row in self._all(query, first):
            if bundles is None or row["bundle"] in bundles:
                part = read_delta(json.loads(row["totals"]))
                merged.setdefault((row["device"], row["bundle"]), []).append(part)
        return [(device, bundle, total(parts)) for (device, bundle), parts in merged.items()]

    def traffic(self, rollout: str, bundles: Sequence[str]) -> tuple[int, int]:
        """Return the requests and errors that a rollout's members counted on `bundles`."""
        found = self._all(
            "SELECT s.bundle, total(s.requests) AS requests, total(s.errors) AS errors"
            " FROM stats s JOIN members m ON m.device = s.device WHERE m.rollout = ?"
            " GROUP BY s.bundle",
            rollout,
        )
        counted = [row for row in found if row["bundle"] in bundles]
        requests, errors = ([row[name] for row in counted] for name in ("requests", "errors"))
        return int(sum(requests)), int(sum(errors))

    def _merge(self, device: str, bundle: str, bucket: int, totals: Totals) -> None:
        key = (device, bundle, bucket)
        where = "WHERE device = ? AND bundle = ? AND bucket = ?"
        row = self._one(f"SELECT totals FROM stats {where}", *key)  # noqa: S608 - `where` is the literal above
        so_far = read_delta(json.loads(row["totals"])) if row else Totals()
        so_far.merge(totals)
        text = json.dumps(so_far.to_json())
        counts = (so_far.requests, so_far.failed)
        self._execute("INSERT OR REPLACE INTO stats VALUES (?, ?, ?, ?, ?, ?)", *key, *counts, text)
        if row is None:
            self._prune(device, bucket)

    def _prune(self, device: str, bucket: int) -> None:
        self._execute(
            "DELETE FROM stats WHERE device = ? AND bucket <= ?", device, bucket - MAX_BUCKETS
        )
        self._execute(
            "DELETE FROM stats WHERE device = ? AND bundle NOT IN (SELECT bundle FROM stats"
            " WHERE device = ? GROUP BY bundle ORDER BY max(bucket) DESC, max(rowid) DESC LIMIT ?)",
            device,
            device,
            MAX_BUNDLES_PER_DEVICE,
        )

    def _meet(self, device: str, now: float) -> None:
        self._execute(
            "INSERT INTO devices (id, first_seen, last_seen) VALUES (?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET last_seen = excluded.last_seen",
            device,
            now,
            now,
        )

    def _devices(self, clause: str, *values: Any) -> list[DeviceRecord]:
        with self._lock:
            found = self._all(f"SELECT * FROM devices {clause}", *values)  # noqa: S608 - clauses are literals of this file
            labels: dict[str, list[str]] = {}
            for row in self._all("SELECT * FROM labels ORDER BY device, label"):
                labels.setdefault(row["device"], []).append(row["label"])
        return [rows.device(row, tuple(labels.get(row["id"], ()))) for row in found]

    def _one(self, query: str, *values: Any) -> sqlite3.Row | None:
        found = self._all(query, *values)
        return found[0] if found else None

    def _all(self, query: str, *values: Any) -> list[sqlite3.Row]:
        with self._lock:
            return self._execute(query, *values).fetchall()

    def _execute(self, query: str, *values: Any) -> sqlite3.Cursor:
        try:
            with self._lock:
                return self._db.execute(query, values)
        except sqlite3.OperationalError as error:
            if "full" in str(error):
                raise FullError("The registry cannot be written", why=str(error)) from None
            raise
