-- API keys. Rows are never deleted: a revoked key stays, so that a server that once had keys is never open again.
CREATE TABLE keys (
    -- The public part of the key.
    id TEXT PRIMARY KEY NOT NULL,
    tenant TEXT NOT NULL,
    -- For people.
    name TEXT NOT NULL,
    -- SHA-256 of the secret part: 256 random bits need no slow hash.
    secret_sha256 BLOB NOT NULL CHECK (length(secret_sha256) = 32),
    -- Words of `run`, `read`, `admin`, with commas.
    scopes TEXT NOT NULL,
    -- Milliseconds since 1970, UTC.
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER,
    revoked_at_ms INTEGER,
    rate_per_minute INTEGER CHECK (rate_per_minute > 0),
    -- Ceilings that narrow the server's own; NULL leaves those.
    max_timeout_ms INTEGER CHECK (max_timeout_ms > 0),
    max_memory_bytes INTEGER CHECK (max_memory_bytes > 0),
    max_cpu_millis INTEGER CHECK (max_cpu_millis > 0)
) STRICT, WITHOUT ROWID;
