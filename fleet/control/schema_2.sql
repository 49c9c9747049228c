-- From schema 1: jobs.
CREATE TABLE jobs (
  id TEXT PRIMARY KEY,
  device TEXT NOT NULL,
  document TEXT NOT NULL,
  envelope BLOB NOT NULL,
  issued_at REAL NOT NULL,
  expires_at REAL NOT NULL,
  state TEXT,
  report TEXT,
  ended_at REAL
);
CREATE INDEX jobs_by_device ON jobs (device, state, issued_at);
