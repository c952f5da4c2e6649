-- Executions from their acceptance to the end of their retention, the order of both, and the files that belong to them.
CREATE TABLE executions (
    -- The order of acceptance; clocks jump.
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    tenant TEXT NOT NULL,
    -- 0 accepted, 1 running, 2 finished.
    state INTEGER NOT NULL DEFAULT 0 CHECK (state BETWEEN 0 AND 2),
    -- Its caller has an id for it and does not wait: it survives the server.
    detached INTEGER NOT NULL CHECK (detached BETWEEN 0 AND 1),
    -- Attempts that were begun.
    attempt INTEGER NOT NULL DEFAULT 0,
    created_at_ms INTEGER NOT NULL,
    -- JSON.
    request TEXT NOT NULL,
    -- What is needed to run it again; gone once it has finished. A large project is a file.
    stdin BLOB,
    project BLOB,
    -- Of id, tenant, request, stdin and project.
    request_check BLOB NOT NULL,
    -- The order of the ends.
    finished_seq INTEGER UNIQUE,
    finished_at_ms INTEGER,
    -- JSON, and the output that is small; large output is a file.
    result TEXT,
    output BLOB,
    -- Of id, tenant, request, result and output.
    result_check BLOB,
    -- What keeping it costs: output and artifacts.
    bytes INTEGER NOT NULL DEFAULT 0,
    CHECK ((state = 2) = (finished_seq IS NOT NULL)),
    CHECK ((state = 2) = (result IS NOT NULL))
) STRICT;

CREATE INDEX executions_unfinished ON executions (seq) WHERE state < 2;
CREATE INDEX executions_kept ON executions (tenant, finished_seq, bytes) WHERE state = 2;
CREATE INDEX executions_by_age ON executions (finished_at_ms) WHERE state = 2;

-- Files by the SHA-256 of their content: project, large output, artifacts.
CREATE TABLE execution_blobs (
    seq INTEGER NOT NULL REFERENCES executions (seq) ON DELETE CASCADE,
    sha256 BLOB NOT NULL CHECK (length(sha256) = 32),
    PRIMARY KEY (seq, sha256)
) STRICT, WITHOUT ROWID;

CREATE INDEX execution_blobs_by_content ON execution_blobs (sha256);

CREATE TABLE idempotency_keys (
    tenant TEXT NOT NULL,
    key TEXT NOT NULL,
    request_sha256 BLOB NOT NULL CHECK (length(request_sha256) = 32),
    execution_id BLOB NOT NULL,
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at_ms);
CREATE INDEX idempotency_keys_by_execution ON idempotency_keys (execution_id);
