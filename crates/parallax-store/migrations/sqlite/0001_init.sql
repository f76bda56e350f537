-- Ids are text, times are microseconds since 1970, JSON is text, truth is 0 or 1.
-- Every table of a tenant's has tenant_id first in its key.

-- The sequences of this database; PostgreSQL has its own.
CREATE TABLE counters (
    name TEXT NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;
INSERT INTO counters (name, value) VALUES ('event_cursor', 0), ('instance_epoch', 0);

CREATE TABLE meta (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE tenants (
    tenant_id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    -- Events up to this cursor may have been pruned.
    events_pruned_to INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX tenants_name ON tenants (name);

CREATE TABLE keys (
    tenant_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    name TEXT NOT NULL,
    hash BLOB NOT NULL,
    scopes TEXT NOT NULL,
    groups_json TEXT NOT NULL,
    host_id TEXT,
    single_use INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    last_used_at INTEGER,
    PRIMARY KEY (tenant_id, key_id)
) STRICT;
CREATE UNIQUE INDEX keys_id ON keys (key_id);
-- A revoked key gives its name back, so that a key can be replaced under its name.
CREATE UNIQUE INDEX keys_name ON keys (tenant_id, name) WHERE revoked_at IS NULL;

CREATE TABLE agents (
    tenant_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    name TEXT NOT NULL,
    managed_by TEXT NOT NULL,
    generation INTEGER NOT NULL,
    replicas INTEGER NOT NULL,
    revision_id TEXT,
    suspended INTEGER NOT NULL,
    delete_asked_at INTEGER,
    drain_until INTEGER,
    phase TEXT NOT NULL,
    status_json TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, agent_id)
) STRICT;
CREATE UNIQUE INDEX agents_name ON agents (tenant_id, name);

CREATE TABLE revisions (
    tenant_id TEXT NOT NULL,
    revision_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    spec_json TEXT NOT NULL,
    source_digest TEXT NOT NULL,
    source_bytes INTEGER NOT NULL,
    build_key TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    PRIMARY KEY (tenant_id, revision_id)
) STRICT;
CREATE UNIQUE INDEX revisions_number ON revisions (tenant_id, agent_id, number);
CREATE INDEX revisions_source ON revisions (tenant_id, source_digest);

CREATE TABLE builds (
    tenant_id TEXT NOT NULL,
    build_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    agent_name TEXT NOT NULL,
    host_id TEXT NOT NULL,
    build_key TEXT NOT NULL,
    -- SHA-256 of build_key, which is longer than an index takes.
    key_digest TEXT NOT NULL,
    source_digest TEXT NOT NULL,
    source_bytes INTEGER NOT NULL,
    spec_json TEXT NOT NULL,
    phase TEXT NOT NULL,
    reason TEXT,
    message TEXT NOT NULL,
    plan_json TEXT,
    cached INTEGER NOT NULL,
    cancel_requested INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    PRIMARY KEY (tenant_id, build_id)
) STRICT;
CREATE UNIQUE INDEX builds_key ON builds (tenant_id, host_id, key_digest);
CREATE INDEX builds_agent ON builds (tenant_id, agent_id, build_id);
CREATE INDEX builds_host ON builds (host_id);

CREATE TABLE replicas (
    tenant_id TEXT NOT NULL,
    replica_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    revision_id TEXT NOT NULL,
    revision_number INTEGER NOT NULL,
    host_id TEXT NOT NULL,
    build_id TEXT NOT NULL,
    want TEXT NOT NULL,
    phase TEXT NOT NULL,
    reason TEXT,
    message TEXT NOT NULL,
    incarnation INTEGER NOT NULL,
    restarts INTEGER NOT NULL,
    exit_json TEXT,
    probe_ok INTEGER,
    isolation TEXT NOT NULL,
    pid INTEGER,
    started_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, replica_id)
) STRICT;
CREATE INDEX replicas_agent ON replicas (tenant_id, agent_id, replica_id);
CREATE INDEX replicas_host ON replicas (host_id);

CREATE TABLE hosts (
    tenant_id TEXT NOT NULL,
    host_id TEXT NOT NULL,
    name TEXT NOT NULL,
    facts_json TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    last_seen_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, host_id)
) STRICT;
CREATE UNIQUE INDEX hosts_name ON hosts (tenant_id, name);

CREATE TABLE instances (
    tenant_id TEXT NOT NULL,
    instance_uuid TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    last_seen_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, instance_uuid)
) STRICT;
CREATE INDEX instances_seen ON instances (last_seen_at);

CREATE TABLE tasks (
    tenant_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    agent_name TEXT NOT NULL,
    agent_id TEXT,
    capability TEXT NOT NULL,
    -- One of the two is set.
    input_json BLOB,
    input_blob_json TEXT,
    idempotency_key TEXT,
    request_hash BLOB NOT NULL,
    state TEXT NOT NULL,
    cancel TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    instance_uuid TEXT,
    context_json TEXT NOT NULL,
    outcome_json TEXT,
    caller TEXT NOT NULL,
    deadline INTEGER,
    not_before INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, task_id)
) STRICT;
CREATE UNIQUE INDEX tasks_idempotency ON tasks (tenant_id, idempotency_key);
CREATE INDEX tasks_agent ON tasks (tenant_id, agent_name, task_id);
CREATE INDEX tasks_queued ON tasks (task_id) WHERE state = 'queued';
CREATE INDEX tasks_leased ON tasks (task_id) WHERE state IN ('dispatched', 'running', 'suspect');
CREATE INDEX tasks_ended ON tasks (updated_at) WHERE state IN ('succeeded', 'failed', 'cancelled', 'expired', 'lost');

CREATE TABLE events (
    tenant_id TEXT NOT NULL,
    cursor INTEGER NOT NULL,
    happened_at INTEGER NOT NULL,
    subject TEXT NOT NULL,
    subject_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    message TEXT NOT NULL,
    data_json TEXT NOT NULL,
    PRIMARY KEY (tenant_id, cursor)
) STRICT;
CREATE INDEX events_subject ON events (tenant_id, subject_id, cursor);
CREATE INDEX events_time ON events (happened_at);

CREATE TABLE idempotency (
    tenant_id TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    -- Method and path: the same key may serve two different requests.
    route TEXT NOT NULL,
    request_hash BLOB NOT NULL,
    status INTEGER NOT NULL,
    content_type TEXT NOT NULL,
    body BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, idempotency_key, route)
) STRICT;
CREATE INDEX idempotency_expiry ON idempotency (expires_at);

CREATE TABLE sources (
    tenant_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, digest)
) STRICT;
