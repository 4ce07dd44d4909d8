"""The gateway's tables, for both dialects.

Two kinds. *Read models* are projected from public topics and may be dropped and rebuilt at any time. *Own records*
(`api_keys`, `idempotency`) cannot be rebuilt and belong into every backup; `rate_limits` may be emptied at any time.
Personal values stand sealed, in the binary columns.
"""

from __future__ import annotations

from itertools import chain

from api_gateway.counting import COUNTED, statements
from kernel import health_rows
from kernel.sql.port import Dialect, Migration

_READ_MODELS = """
CREATE TABLE projection_positions (
  topic TEXT NOT NULL, partition BIGINT NOT NULL, topic_id TEXT NOT NULL, next_offset BIGINT NOT NULL,
  PRIMARY KEY (topic, partition));
CREATE TABLE projected_streams (
  topic TEXT NOT NULL, stream TEXT NOT NULL, sequence BIGINT NOT NULL, PRIMARY KEY (topic, stream)) {keyed};
CREATE TABLE workflows (
  id TEXT PRIMARY KEY, organization_id TEXT NOT NULL, name TEXT NOT NULL, provider TEXT NOT NULL, type TEXT NOT NULL,
  document TEXT NOT NULL, document_blob TEXT NOT NULL, document_size BIGINT NOT NULL, revision BIGINT NOT NULL,
  status TEXT NOT NULL, created_ms BIGINT NOT NULL, updated_ms BIGINT NOT NULL, created_by TEXT NOT NULL,
  updated_by TEXT NOT NULL, deleted_ms BIGINT NOT NULL DEFAULT 0);
CREATE INDEX workflows_newest ON workflows (organization_id, created_ms DESC, id DESC);
CREATE TABLE workflow_revisions (
  workflow_id TEXT NOT NULL, revision BIGINT NOT NULL, document TEXT NOT NULL, document_blob TEXT NOT NULL,
  document_size BIGINT NOT NULL, created_ms BIGINT NOT NULL, created_by TEXT NOT NULL,
  PRIMARY KEY (workflow_id, revision));
CREATE TABLE jobs (
  id TEXT PRIMARY KEY, organization_id TEXT NOT NULL, name TEXT NOT NULL, provider TEXT NOT NULL,
  workflow_ids TEXT NOT NULL, created_ms BIGINT NOT NULL, updated_ms BIGINT NOT NULL, created_by TEXT NOT NULL,
  updated_by TEXT NOT NULL);
CREATE INDEX jobs_newest ON jobs (organization_id, created_ms DESC, id DESC);
CREATE TABLE providers (
  organization_id TEXT NOT NULL, slug TEXT NOT NULL, display_name TEXT NOT NULL, login_url TEXT NOT NULL,
  allowed_domains TEXT NOT NULL, updated_ms BIGINT NOT NULL, PRIMARY KEY (organization_id, slug));
CREATE TABLE connections (
  id TEXT PRIMARY KEY, organization_id TEXT NOT NULL, subject_id TEXT NOT NULL, external_id {blob} NOT NULL,
  provider TEXT NOT NULL, health TEXT NOT NULL, failed_attempts BIGINT NOT NULL DEFAULT 0,
  last_login_ms BIGINT NOT NULL DEFAULT 0, last_checked_ms BIGINT NOT NULL DEFAULT 0, created_ms BIGINT NOT NULL);
CREATE INDEX connections_newest ON connections (organization_id, created_ms DESC, id DESC);
CREATE TABLE job_runs (
  id TEXT PRIMARY KEY, organization_id TEXT NOT NULL, job_id TEXT NOT NULL, status TEXT NOT NULL,
  workflow_ids TEXT NOT NULL, workflow_revisions TEXT NOT NULL, subject_id TEXT NOT NULL, external_id {blob} NOT NULL,
  test_mode BIGINT NOT NULL, created_by TEXT NOT NULL, retry_of TEXT NOT NULL, created_ms BIGINT NOT NULL,
  updated_ms BIGINT NOT NULL, started_ms BIGINT NOT NULL DEFAULT 0, completed_ms BIGINT NOT NULL DEFAULT 0,
  error_code TEXT NOT NULL DEFAULT '', error_message {blob}, failed_step_id TEXT NOT NULL DEFAULT '',
  failed_step_name TEXT NOT NULL DEFAULT '', failed_workflow_run_id TEXT NOT NULL DEFAULT '');
CREATE INDEX job_runs_newest ON job_runs (organization_id, created_ms DESC, id DESC);
CREATE TABLE workflow_runs (
  id TEXT PRIMARY KEY, root_run_id TEXT NOT NULL, organization_id TEXT NOT NULL, job_run_id TEXT NOT NULL,
  workflow_id TEXT NOT NULL, revision BIGINT NOT NULL, provider TEXT NOT NULL, status TEXT NOT NULL,
  subject_id TEXT NOT NULL, external_id {blob} NOT NULL, test_mode BIGINT NOT NULL, created_by TEXT NOT NULL,
  retry_of TEXT NOT NULL, position BIGINT NOT NULL, created_ms BIGINT NOT NULL, updated_ms BIGINT NOT NULL,
  completed_ms BIGINT NOT NULL DEFAULT 0, attempt BIGINT NOT NULL DEFAULT 0, current_name TEXT NOT NULL DEFAULT '',
  input_request_id TEXT NOT NULL DEFAULT '', error_code TEXT NOT NULL DEFAULT '', error_message {blob},
  failed_step_id TEXT NOT NULL DEFAULT '', failed_step_name TEXT NOT NULL DEFAULT '');
CREATE INDEX workflow_runs_newest ON workflow_runs (organization_id, created_ms DESC, id DESC);
CREATE INDEX workflow_runs_of_job_run ON workflow_runs (job_run_id, position) WHERE job_run_id <> '';
CREATE TABLE steps (
  workflow_run_id TEXT NOT NULL, attempt BIGINT NOT NULL, path TEXT NOT NULL, step_id TEXT NOT NULL,
  name TEXT NOT NULL, kind TEXT NOT NULL DEFAULT '', effect TEXT NOT NULL, status TEXT NOT NULL DEFAULT '',
  tries BIGINT NOT NULL DEFAULT 0, started_ms BIGINT NOT NULL, finished_ms BIGINT NOT NULL DEFAULT 0,
  error_code TEXT NOT NULL DEFAULT '', error_message {blob}, screenshot_artifact_id TEXT NOT NULL DEFAULT '',
  sequence BIGINT NOT NULL, PRIMARY KEY (workflow_run_id, attempt, path)) {keyed};
CREATE TABLE run_events (
  root_run_id TEXT NOT NULL, sequence BIGINT NOT NULL, about TEXT NOT NULL, wire TEXT NOT NULL, time_ms BIGINT NOT NULL,
  value {blob} NOT NULL, PRIMARY KEY (root_run_id, sequence)) {keyed};
CREATE TABLE artifacts (
  id TEXT PRIMARY KEY, organization_id TEXT NOT NULL, workflow_id TEXT NOT NULL, workflow_run_id TEXT NOT NULL,
  job_run_id TEXT NOT NULL, subject_id TEXT NOT NULL, step_id TEXT NOT NULL, type TEXT NOT NULL,
  display_name {blob} NOT NULL, mime_type TEXT NOT NULL, size BIGINT NOT NULL, sha256 TEXT NOT NULL,
  created_ms BIGINT NOT NULL);
CREATE INDEX artifacts_newest ON artifacts (organization_id, created_ms DESC, id DESC);
CREATE INDEX artifacts_of_run ON artifacts (workflow_run_id, created_ms DESC, id DESC);
CREATE TABLE input_requests (
  id TEXT PRIMARY KEY, root_run_id TEXT NOT NULL, organization_id TEXT NOT NULL, workflow_run_id TEXT NOT NULL,
  job_run_id TEXT NOT NULL, subject_id TEXT NOT NULL, external_id {blob} NOT NULL, step_id TEXT NOT NULL,
  kind TEXT NOT NULL, prompt {blob} NOT NULL, fields TEXT NOT NULL, status TEXT NOT NULL, attempt BIGINT NOT NULL,
  created_ms BIGINT NOT NULL, expires_ms BIGINT NOT NULL, closed_ms BIGINT NOT NULL DEFAULT 0);
CREATE INDEX input_requests_newest ON input_requests (organization_id, created_ms DESC, id DESC);
CREATE INDEX input_requests_of_run ON input_requests (workflow_run_id);
CREATE TABLE request_outcomes (
  request_id TEXT PRIMARY KEY, stream TEXT NOT NULL, sequence BIGINT NOT NULL, wire TEXT NOT NULL,
  time_ms BIGINT NOT NULL, value {blob} NOT NULL);
CREATE INDEX request_outcomes_oldest ON request_outcomes (time_ms)
"""

_OWN_RECORDS = """
CREATE TABLE api_keys (
  public_id TEXT PRIMARY KEY, organization_id TEXT NOT NULL, user_id TEXT NOT NULL, level TEXT NOT NULL,
  description TEXT NOT NULL, hash {blob} NOT NULL, created_ms BIGINT NOT NULL, expires_ms BIGINT NOT NULL DEFAULT 0,
  revoked_ms BIGINT NOT NULL DEFAULT 0, last_used_ms BIGINT NOT NULL DEFAULT 0);
CREATE INDEX api_keys_of_organization ON api_keys (organization_id);
CREATE TABLE idempotency (
  organization_id TEXT NOT NULL, route TEXT NOT NULL, key TEXT NOT NULL, fingerprint {blob} NOT NULL,
  status BIGINT NOT NULL, body {blob} NOT NULL, created_ms BIGINT NOT NULL, taken_ms BIGINT NOT NULL,
  PRIMARY KEY (organization_id, route, key));
CREATE INDEX idempotency_oldest ON idempotency (created_ms)
"""

_DEFINITIONS = """
ALTER TABLE jobs ADD COLUMN deleted_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE providers ADD COLUMN logo_url TEXT NOT NULL DEFAULT '';
ALTER TABLE providers ADD COLUMN default_job_id TEXT NOT NULL DEFAULT '';
ALTER TABLE providers ADD COLUMN concurrency BIGINT NOT NULL DEFAULT 0;
ALTER TABLE providers ADD COLUMN created_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE providers ADD COLUMN deleted_ms BIGINT NOT NULL DEFAULT 0;
UPDATE providers SET created_ms = updated_ms;
ALTER TABLE workflows ADD COLUMN name_folded TEXT NOT NULL DEFAULT '';
UPDATE workflows SET name_folded = lower(name);
ALTER TABLE workflows ADD COLUMN version BIGINT NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN version BIGINT NOT NULL DEFAULT 0;
ALTER TABLE providers ADD COLUMN version BIGINT NOT NULL DEFAULT 0;
UPDATE workflows SET version = coalesce(
  (SELECT sequence FROM projected_streams WHERE topic = 'definitions' AND stream = id), 0);
UPDATE jobs SET version = coalesce(
  (SELECT sequence FROM projected_streams WHERE topic = 'definitions' AND stream = id), 0);
UPDATE providers SET version = coalesce(
  (SELECT sequence FROM projected_streams WHERE topic = 'definitions' AND stream = organization_id || '/' || slug), 0)
"""

_LISTS = """
DROP INDEX job_runs_newest;
CREATE INDEX job_runs_listed ON job_runs (organization_id, test_mode, status, created_ms DESC, id DESC);
CREATE INDEX job_runs_of_job ON job_runs (organization_id, job_id, test_mode, status, created_ms DESC, id DESC);
CREATE INDEX job_runs_of_customer ON job_runs (organization_id, subject_id, created_ms DESC, id DESC)
  WHERE length(external_id) > 0;
DROP INDEX workflow_runs_newest;
CREATE INDEX workflow_runs_listed ON workflow_runs (organization_id, test_mode, status, created_ms DESC, id DESC);
CREATE INDEX workflow_runs_of_workflow ON workflow_runs (
  organization_id, workflow_id, test_mode, status, created_ms DESC, id DESC);
CREATE INDEX workflow_runs_of_customer ON workflow_runs (organization_id, subject_id, created_ms DESC, id DESC)
  WHERE length(external_id) > 0;
DROP INDEX artifacts_newest;
CREATE INDEX artifacts_listed ON artifacts (organization_id, type, created_ms DESC, id DESC);
CREATE INDEX artifacts_of_workflow ON artifacts (organization_id, workflow_id, type, created_ms DESC, id DESC);
CREATE INDEX artifacts_of_job_run ON artifacts (job_run_id, created_ms DESC, id DESC) WHERE job_run_id <> '';
DROP INDEX input_requests_newest;
CREATE INDEX input_requests_listed ON input_requests (organization_id, status, created_ms DESC, id DESC)
"""
"""What each list is found and merged by; see `api_gateway.listing`."""

_ACCESS = """
ALTER TABLE api_keys ADD COLUMN id TEXT NOT NULL DEFAULT '';
ALTER TABLE api_keys ADD COLUMN created_by TEXT NOT NULL DEFAULT '';
UPDATE api_keys SET id = user_id, created_by = user_id;
CREATE UNIQUE INDEX api_keys_by_id ON api_keys (id);
CREATE TABLE rate_limits (
  name TEXT PRIMARY KEY, level BIGINT NOT NULL, at_ms BIGINT NOT NULL, epoch BIGINT NOT NULL, held BIGINT NOT NULL,
  version BIGINT NOT NULL, forget_ms BIGINT NOT NULL);
CREATE INDEX rate_limits_oldest ON rate_limits (forget_ms)
"""

_RETENTION = """
CREATE TABLE forgotten_runs (root_run_id TEXT PRIMARY KEY) {keyed};
CREATE INDEX job_runs_ended ON job_runs (completed_ms) WHERE completed_ms > 0;
CREATE INDEX workflow_runs_ended ON workflow_runs (completed_ms) WHERE job_run_id = '' AND completed_ms > 0
"""
"""See `api_gateway.retention`. The notes are no read model: a rebuild keeps them."""

_PROVIDER_HEALTH = """
CREATE TABLE provider_health (
  organization_id TEXT NOT NULL, slug TEXT NOT NULL, status TEXT NOT NULL, degraded_ms BIGINT NOT NULL,
  recovered_ms BIGINT NOT NULL, PRIMARY KEY (organization_id, slug))
"""

_HANDED = """
ALTER TABLE forgotten_runs ADD COLUMN handed BIGINT NOT NULL DEFAULT 0;
CREATE INDEX forgotten_runs_to_hand ON forgotten_runs (root_run_id) WHERE handed = 0
"""
"""Of which forgotten runs the artifact store has been told; see `api_gateway.retention.Forgetting`."""


_OLDEST = {"provider_health": 0, "handed": 0}
"""`Migration.oldest`, by name, where it is another than that of the migration itself."""


def migrations(dialect: Dialect) -> tuple[Migration, ...]:
    """What the gateway reads, for `kernel.sql.port.migrate`: its own component, and `health`."""
    texts = (
        ("read_models", _READ_MODELS),
        ("own_records", _OWN_RECORDS),
        ("definitions", _DEFINITIONS),
        ("lists", _LISTS),
        ("access", _ACCESS),
        ("list_counts", ";\n".join(chain.from_iterable(statements(counted, dialect) for counted in COUNTED))),
        ("retention", _RETENTION),
        ("provider_health", _PROVIDER_HEALTH),
        ("handed", _HANDED),
    )
    words = {"blob": "BLOB", "keyed": "WITHOUT ROWID"} if dialect == "sqlite" else {"blob": "BYTEA", "keyed": ""}
    own = tuple(
        Migration(
            "api_gateway",
            number,
            name,
            tuple(part.strip() for part in text.format(**words).split(";\n")),
            _OLDEST.get(name),
        )
        for number, (name, text) in enumerate(texts, start=1)
    )
    return (*own, *health_rows.migrations(dialect))
