CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);

CREATE TABLE devices (
  id TEXT PRIMARY KEY,
  first_seen REAL NOT NULL,
  last_seen REAL NOT NULL,
  online INTEGER NOT NULL DEFAULT 0,
  online_boot INTEGER NOT NULL DEFAULT -1,
  online_connection INTEGER NOT NULL DEFAULT -1,
  reported_boot INTEGER NOT NULL DEFAULT -1,
  reported_sequence INTEGER NOT NULL DEFAULT -1,
  reported TEXT,
  stats_boot INTEGER NOT NULL DEFAULT -1,
  stats_sequence INTEGER NOT NULL DEFAULT -1
);

CREATE TABLE labels (
  device TEXT NOT NULL,
  label TEXT NOT NULL,
  PRIMARY KEY (device, label)
);

CREATE TABLE desired (
  device TEXT PRIMARY KEY,
  generation INTEGER NOT NULL,
  release TEXT,
  rollout TEXT,
  expires_at REAL NOT NULL,
  document TEXT NOT NULL,
  envelope BLOB NOT NULL
);

CREATE TABLE releases (
  digest TEXT PRIMARY KEY,
  model TEXT NOT NULL,
  version TEXT NOT NULL,
  sequence INTEGER NOT NULL,
  created_at REAL NOT NULL,
  document TEXT NOT NULL,
  envelope BLOB NOT NULL,
  UNIQUE (model, version),
  UNIQUE (model, sequence)
);

CREATE TABLE rollouts (
  id TEXT PRIMARY KEY,
  release TEXT NOT NULL REFERENCES releases (digest),
  addressed TEXT NOT NULL,
  rules TEXT NOT NULL,
  policy TEXT NOT NULL,
  phase TEXT NOT NULL,
  wave INTEGER NOT NULL,
  opened_at REAL NOT NULL,
  created_at REAL NOT NULL,
  ended_at REAL,
  reason TEXT NOT NULL DEFAULT '',
  base_requests INTEGER NOT NULL DEFAULT 0,
  base_errors INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE members (
  rollout TEXT NOT NULL REFERENCES rollouts (id),
  device TEXT NOT NULL,
  wave INTEGER NOT NULL,
  state TEXT NOT NULL,
  generation INTEGER NOT NULL DEFAULT 0,
  offered_at REAL NOT NULL DEFAULT 0,
  forgiven INTEGER NOT NULL DEFAULT 0,
  previous TEXT,
  PRIMARY KEY (rollout, device)
);
CREATE INDEX members_by_device ON members (device);

CREATE TABLE events (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  at REAL NOT NULL,
  kind TEXT NOT NULL,
  rollout TEXT,
  device TEXT,
  text TEXT NOT NULL
);
CREATE INDEX events_by_rollout ON events (rollout, id);

CREATE TABLE stats (
  device TEXT NOT NULL,
  bundle TEXT NOT NULL,
  bucket INTEGER NOT NULL,
  requests INTEGER NOT NULL,
  errors INTEGER NOT NULL,
  totals TEXT NOT NULL,
  PRIMARY KEY (device, bundle, bucket)
);
