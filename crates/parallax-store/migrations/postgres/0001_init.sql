-- Ids are text, times are microseconds since 1970, JSON is text, truth is 0 or 1.
-- Every table of a tenant's has tenant_id first in its key. What is sorted or paged by is
-- COLLATE "C", so that both databases agree on the order.

-- SQLite keeps these two in a table.
CREATE SEQUENCE event_cursor AS BIGINT;
CREATE SEQUENCE instance_epoch AS BIGINT;

CREATE TABLE meta (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE tenants (
    tenant_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL,
    -- Events up to this cursor may have been pruned.
    events_pruned_to BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX tenants_name ON tenants (name);

CREATE TABLE keys (
    tenant_id TEXT COLLATE "C" NOT NULL,
    key_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    hash BYTEA NOT NULL,
    scopes TEXT NOT NULL,
    groups_json TEXT NOT NULL,
    host_id TEXT COLLATE "C",
    single_use BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    last_used_at BIGINT,
    PRIMARY KEY (tenant_id, key_id)
);
CREATE UNIQUE INDEX keys_id ON keys (key_id);
-- A revoked key gives its name back, so that a key can be replaced under its name.
CREATE UNIQUE INDEX keys_name ON keys (tenant_id, name) WHERE revoked_at IS NULL;

CREATE TABLE agents (
    tenant_id TEXT COLLATE "C" NOT NULL,
    agent_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    managed_by TEXT NOT NULL,
    generation BIGINT NOT NULL,
    replicas BIGINT NOT NULL,
    revision_id TEXT COLLATE "C",
    suspended BIGINT NOT NULL,
    delete_asked_at BIGINT,
    drain_until BIGINT,
    phase TEXT NOT NULL,
    status_json TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, agent_id)
);
CREATE UNIQUE INDEX agents_name ON agents (tenant_id, name);

CREATE TABLE revisions (
    tenant_id TEXT COLLATE "C" NOT NULL,
    revision_id TEXT COLLATE "C" NOT NULL,
    agent_id TEXT COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    spec_json TEXT NOT NULL,
    source_digest TEXT COLLATE "C" NOT NULL,
    source_bytes BIGINT NOT NULL,
    build_key TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    PRIMARY KEY (tenant_id, revision_id)
);
CREATE UNIQUE INDEX revisions_number ON revisions (tenant_id, agent_id, number);
CREATE INDEX revisions_source ON revisions (tenant_id, source_digest);

CREATE TABLE builds (
    tenant_id TEXT COLLATE "C" NOT NULL,
    build_id TEXT COLLATE "C" NOT NULL,
    agent_id TEXT COLLATE "C" NOT NULL,
    agent_name TEXT COLLATE "C" NOT NULL,
    host_id TEXT COLLATE "C" NOT NULL,
    build_key TEXT COLLATE "C" NOT NULL,
    -- SHA-256 of build_key, which is longer than an index takes.
    key_digest TEXT COLLATE "C" NOT NULL,
    source_digest TEXT COLLATE "C" NOT NULL,
    source_bytes BIGINT NOT NULL,
    spec_json TEXT NOT NULL,
    phase TEXT NOT NULL,
    reason TEXT,
    message TEXT NOT NULL,
    plan_json TEXT,
    cached BIGINT NOT NULL,
    cancel_requested BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    ended_at BIGINT,
    PRIMARY KEY (tenant_id, build_id)
);
CREATE UNIQUE INDEX builds_key ON builds (tenant_id, host_id, key_digest);
CREATE INDEX builds_agent ON builds (tenant_id, agent_id, build_id);
CREATE INDEX builds_host ON builds (host_id);

CREATE TABLE replicas (
    tenant_id TEXT COLLATE "C" NOT NULL,
    replica_id TEXT COLLATE "C" NOT NULL,
    agent_id TEXT COLLATE "C" NOT NULL,
    revision_id TEXT COLLATE "C" NOT NULL,
    revision_number BIGINT NOT NULL,
    host_id TEXT COLLATE "C" NOT NULL,
    build_id TEXT COLLATE "C" NOT NULL,
    want TEXT NOT NULL,
    phase TEXT NOT NULL,
    reason TEXT,
    message TEXT NOT NULL,
    incarnation BIGINT NOT NULL,
    restarts BIGINT NOT NULL,
    exit_json TEXT,
    probe_ok BIGINT,
    isolation TEXT NOT NULL,
    pid BIGINT,
    started_at BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, replica_id)
);
CREATE INDEX replicas_agent ON replicas (tenant_id, agent_id, replica_id);
CREATE INDEX replicas_host ON replicas (host_id);

CREATE TABLE hosts (
    tenant_id TEXT COLLATE "C" NOT NULL,
    host_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    facts_json TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, host_id)
);
CREATE UNIQUE INDEX hosts_name ON hosts (tenant_id, name);

CREATE TABLE instances (
    tenant_id TEXT COLLATE "C" NOT NULL,
    instance_uuid TEXT COLLATE "C" NOT NULL,
    epoch BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, instance_uuid)
);
CREATE INDEX instances_seen ON instances (last_seen_at);

CREATE TABLE tasks (
    tenant_id TEXT COLLATE "C" NOT NULL,
    task_id TEXT COLLATE "C" NOT NULL,
    agent_name TEXT COLLATE "C" NOT NULL,
    agent_id TEXT COLLATE "C",
    capability TEXT NOT NULL,
    -- One of the two is set.
    input_json BYTEA,
    input_blob_json TEXT,
    idempotency_key TEXT COLLATE "C",
    request_hash BYTEA NOT NULL,
    state TEXT NOT NULL,
    cancel TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    instance_uuid TEXT COLLATE "C",
    context_json TEXT NOT NULL,
    outcome_json TEXT,
    caller TEXT NOT NULL,
    deadline BIGINT,
    not_before BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, task_id)
);
CREATE UNIQUE INDEX tasks_idempotency ON tasks (tenant_id, idempotency_key);
CREATE INDEX tasks_agent ON tasks (tenant_id, agent_name, task_id);
CREATE INDEX tasks_queued ON tasks (task_id) WHERE state = 'queued';
CREATE INDEX tasks_leased ON tasks (task_id) WHERE state IN ('dispatched', 'running', 'suspect');
CREATE INDEX tasks_ended ON tasks (updated_at) WHERE state IN ('succeeded', 'failed', 'cancelled', 'expired', 'lost');

CREATE TABLE events (
    tenant_id TEXT COLLATE "C" NOT NULL,
    cursor BIGINT NOT NULL,
    happened_at BIGINT NOT NULL,
    subject TEXT NOT NULL,
    subject_id TEXT COLLATE "C" NOT NULL,
    kind TEXT NOT NULL,
    message TEXT NOT NULL,
    data_json TEXT NOT NULL,
    PRIMARY KEY (tenant_id, cursor)
);
CREATE INDEX events_subject ON events (tenant_id, subject_id, cursor);
CREATE INDEX events_time ON events (happened_at);

CREATE TABLE idempotency (
    tenant_id TEXT COLLATE "C" NOT NULL,
    idempotency_key TEXT COLLATE "C" NOT NULL,
    -- Method and path: the same key may serve two different requests.
    route TEXT COLLATE "C" NOT NULL,
    request_hash BYTEA NOT NULL,
    status BIGINT NOT NULL,
    content_type TEXT NOT NULL,
    body BYTEA NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, idempotency_key, route)
);
CREATE INDEX idempotency_expiry ON idempotency (expires_at);

CREATE TABLE sources (
    tenant_id TEXT COLLATE "C" NOT NULL,
    digest TEXT COLLATE "C" NOT NULL,
    size_bytes BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, digest)
);

-- plx_app sees one tenant: the one that the transaction names in plx.tenant. plx_system, which
-- sign-in and the server's own jobs use, sees all of them. Neither may bypass row-level security,
-- and the owner of the tables is subject to it as well.
GRANT USAGE ON SCHEMA public TO plx_app, plx_system;
GRANT USAGE ON SEQUENCE event_cursor, instance_epoch TO plx_app, plx_system;
GRANT SELECT ON schema_version TO plx_app, plx_system;
GRANT SELECT, INSERT, UPDATE, DELETE ON meta TO plx_system;

DO $$
DECLARE
    tenant_table TEXT;
BEGIN
    FOREACH tenant_table IN ARRAY ARRAY[
        'tenants', 'keys', 'agents', 'revisions', 'builds', 'replicas', 'hosts', 'instances',
        'tasks', 'events', 'idempotency', 'sources'
    ] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tenant_table);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', tenant_table);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO plx_app, plx_system', tenant_table);
        EXECUTE format(
            'CREATE POLICY own_tenant ON %I TO plx_app
                 USING (tenant_id = current_setting(''plx.tenant'', true))
                 WITH CHECK (tenant_id = current_setting(''plx.tenant'', true))',
            tenant_table);
        EXECUTE format(
            'CREATE POLICY every_tenant ON %I TO plx_system USING (true) WITH CHECK (true)',
            tenant_table);
    END LOOP;
END
$$;
