//! The table of executions: what is written when one is accepted, begun and finished, and what is read back.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::store::blobs::{ContentHash, Pin};

/// Bytes of a check: enough to see damage, which is no attacker.
const CHECK: usize = 16;
/// A key without an execution is remembered this long.
const KEY_KEPT_MS: i64 = 24 * 60 * 60 * 1000;
/// Keys that are remembered; the oldest go first. 200 bytes or so each.
const MAX_KEYS: i64 = 100_000;

/// What is kept of an execution when it is accepted.
#[derive(Debug)]
pub struct Acceptance {
    /// Its name.
    pub id: Uuid,
    /// Its owner.
    pub tenant: String,
    /// Its caller has an id for it and does not wait: it is run again after a crash.
    pub detached: bool,
    /// By the wall clock.
    pub created_at_ms: i64,
    /// What was asked for, as JSON.
    pub request: String,
    /// Standard input.
    pub stdin: Vec<u8>,
    /// The project, where it is small.
    pub project: Vec<u8>,
    /// Files that `request` names.
    pub files: Vec<Pin>,
    /// The caller's key for it, and the hash of what it names.
    pub idempotency: Option<(String, [u8; 32])>,
}

/// What became of an [`Acceptance`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It is kept.
    New,
    /// Its key named the same request before, which became this execution.
    Known(Uuid),
    /// Its key names another request.
    KeyReused,
}

/// What is kept of an execution when it has finished.
#[derive(Debug)]
pub struct Ending {
    /// Its name.
    pub id: Uuid,
    /// The attempt that ended; another one's end is not taken.
    pub attempt: u32,
    /// By the wall clock.
    pub finished_at_ms: i64,
    /// How it ended, as JSON.
    pub result: String,
    /// The output, where it is small.
    pub output: Vec<u8>,
    /// Files that `result` names.
    pub files: Vec<Pin>,
    /// What keeping it costs, in bytes.
    pub bytes: u64,
}

/// An execution that has finished.
#[derive(Debug, PartialEq, Eq)]
pub struct Kept {
    /// See [`Acceptance`].
    pub created_at_ms: i64,
    /// The last attempt.
    pub attempt: u32,
    /// See [`Acceptance`].
    pub request: String,
    /// See [`Ending`].
    pub finished_at_ms: i64,
    /// See [`Ending`].
    pub result: String,
    /// See [`Ending`].
    pub output: Vec<u8>,
}

/// An execution that a server left before its end.
#[derive(Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// See [`Acceptance`].
    pub id: Uuid,
    /// See [`Acceptance`].
    pub tenant: String,
    /// See [`Acceptance`].
    pub detached: bool,
    /// See [`Acceptance`].
    pub created_at_ms: i64,
    /// Attempts that were begun.
    pub attempt: u32,
    /// The last of them was under way.
    pub running: bool,
    /// See [`Acceptance`].
    pub request: String,
    /// See [`Acceptance`].
    pub stdin: Vec<u8>,
    /// See [`Acceptance`].
    pub project: Vec<u8>,
}

/// Of everything that must come back as it was written. The lengths keep one field's end from being another's start.
fn check(id: Uuid, tenant: &str, request: &str, more: [&[u8]; 2]) -> [u8; CHECK] {
    let mut hash = Sha256::new();
    hash.update(id.as_bytes());
    for field in [tenant.as_bytes(), request.as_bytes(), more[0], more[1]] {
        hash.update((field.len() as u64).to_le_bytes());
        hash.update(field);
    }
    let mut check = [0; CHECK];
    check.copy_from_slice(&hash.finalize()[..CHECK]);
    check
}

/// A row that is not what was written.
fn damaged(id: Uuid) -> rusqlite::Error {
    let what = format!("the record of exe_{id} is not what was written");
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Blob, what.into())
}

/// Keeps a new execution, unless its key is known.
pub(super) fn accept(connection: &Connection, new: &Acceptance) -> rusqlite::Result<Accepted> {
    if let Some((key, request)) = &new.idempotency {
        match look_up_key(connection, &new.tenant, key, new.created_at_ms)? {
            Some((id, known)) if known == *request => return Ok(Accepted::Known(id)),
            Some(_) => return Ok(Accepted::KeyReused),
            None => {}
        }
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO idempotency_keys (tenant, key, request_sha256, execution_id, created_at_ms) \
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![new.tenant, key, request, new.id.as_bytes(), new.created_at_ms])?;
    }
    let check = check(new.id, &new.tenant, &new.request, [&new.stdin, &new.project]);
    connection
        .prepare_cached(
            "INSERT INTO executions (id, tenant, detached, created_at_ms, request, stdin, project, request_check) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            new.id.as_bytes(),
            new.tenant,
            new.detached,
            new.created_at_ms,
            new.request,
            new.stdin,
            new.project,
            check,
        ])?;
    name_files(connection, connection.last_insert_rowid(), &new.files)?;
    Ok(Accepted::New)
}

fn name_files(connection: &Connection, seq: i64, files: &[Pin]) -> rusqlite::Result<()> {
    let mut insert =
        connection.prepare_cached("INSERT OR IGNORE INTO execution_blobs (seq, sha256) VALUES (?1, ?2)")?;
    files.iter().try_for_each(|file| insert.execute(params![seq, file.hash().0]).map(drop))
}

/// The execution and the request that a tenant's key names, for as long as it is remembered.
pub(super) fn look_up_key(
    connection: &Connection,
    tenant: &str,
    key: &str,
    now_ms: i64,
) -> rusqlite::Result<Option<(Uuid, [u8; 32])>> {
    connection
        .prepare_cached(
            "SELECT execution_id, request_sha256 FROM idempotency_keys \
             WHERE tenant = ?1 AND key = ?2 AND created_at_ms > ?3",
        )?
        .query_row(params![tenant, key, now_ms - KEY_KEPT_MS], |row| {
            Ok((Uuid::from_bytes(row.get(0)?), row.get(1)?))
        })
        .optional()
}

/// An attempt begins.
pub(super) fn begin(connection: &Connection, id: Uuid, attempt: u32) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE executions SET state = 1, attempt = ?2 WHERE id = ?1 AND state < 2")?
        .execute(params![id.as_bytes(), attempt])
        .map(drop)
}

/// It waits again; its attempts so far are `attempt`.
pub(super) fn put_back(connection: &Connection, id: Uuid, attempt: u32) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE executions SET state = 0, attempt = ?2 WHERE id = ?1 AND state < 2")?
        .execute(params![id.as_bytes(), attempt])
        .map(drop)
}

/// It has finished, in this attempt. False when it had finished before, or is at another attempt: then nothing changes.
/// Gives the files that it does not name any more.
pub(super) fn finish(connection: &Connection, end: &Ending) -> rusqlite::Result<Option<Vec<ContentHash>>> {
    let unfinished =
        "SELECT seq, tenant, request FROM executions WHERE id = ?1 AND state < 2 AND attempt = ?2";
    let found = connection
        .prepare_cached(unfinished)?
        .query_row(params![end.id.as_bytes(), end.attempt], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
        })
        .optional()?;
    let Some((seq, tenant, request)) = found else { return Ok(None) };
    let check = check(end.id, &tenant, &request, [end.result.as_bytes(), &end.output]);
    let freed = files_of(connection, seq)?;
    connection.prepare_cached("DELETE FROM execution_blobs WHERE seq = ?1")?.execute([seq])?;
    connection
        .prepare_cached(
            "UPDATE executions SET state = 2, stdin = NULL, project = NULL, finished_at_ms = ?2, result = ?3, \
             output = ?4, result_check = ?5, bytes = ?6, \
             finished_seq = (SELECT coalesce(max(finished_seq), 0) + 1 FROM executions) WHERE seq = ?1",
        )?
        .execute(params![
            seq,
            end.finished_at_ms,
            end.result,
            end.output,
            check,
            i64::try_from(end.bytes).unwrap_or(i64::MAX)
        ])?;
    name_files(connection, seq, &end.files)?;
    Ok(Some(freed))
}

pub(super) fn files_of(connection: &Connection, seq: i64) -> rusqlite::Result<Vec<ContentHash>> {
    let mut select = connection.prepare_cached("SELECT sha256 FROM execution_blobs WHERE seq = ?1")?;
    select.query_map([seq], |row| Ok(ContentHash(row.get(0)?)))?.collect()
}

/// Whether a record names this file.
pub(super) fn is_named(connection: &Connection, file: ContentHash) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM execution_blobs WHERE sha256 = ?1)")?
        .query_row([file.0], |row| row.get(0))
}

/// A finished execution of this tenant.
pub(super) fn find(connection: &Connection, tenant: &str, id: Uuid) -> rusqlite::Result<Option<Kept>> {
    let select = "SELECT created_at_ms, attempt, request, finished_at_ms, result, coalesce(output, x''), result_check \
                  FROM executions WHERE id = ?1 AND tenant = ?2 AND state = 2";
    let read = |row: &Row<'_>| {
        let kept = Kept {
            created_at_ms: row.get(0)?,
            attempt: row.get(1)?,
            request: row.get(2)?,
            finished_at_ms: row.get(3)?,
            result: row.get(4)?,
            output: row.get(5)?,
        };
        let written: [u8; CHECK] = row.get(6)?;
        let found = check(id, tenant, &kept.request, [kept.result.as_bytes(), &kept.output]);
        if written == found { Ok(kept) } else { Err(damaged(id)) }
    };
    connection.prepare_cached(select)?.query_row(params![id.as_bytes(), tenant], read).optional()
}

/// What has not finished, in the order of acceptance.
pub(super) fn unfinished(connection: &Connection) -> rusqlite::Result<Vec<Unfinished>> {
    let mut select = connection.prepare(
        "SELECT id, tenant, detached, created_at_ms, attempt, state, request, coalesce(stdin, x''), \
         coalesce(project, x''), request_check FROM executions WHERE state < 2 ORDER BY seq",
    )?;
    let read = |row: &Row<'_>| {
        let found = Unfinished {
            id: Uuid::from_bytes(row.get(0)?),
            tenant: row.get(1)?,
            detached: row.get(2)?,
            created_at_ms: row.get(3)?,
            attempt: row.get(4)?,
            running: row.get::<_, i64>(5)? == 1,
            request: row.get(6)?,
            stdin: row.get(7)?,
            project: row.get(8)?,
        };
        let written: [u8; CHECK] = row.get(9)?;
        let check = check(found.id, &found.tenant, &found.request, [&found.stdin, &found.project]);
        if written == check { Ok(found) } else { Err(damaged(found.id)) }
    };
    select.query_map([], read)?.collect()
}

/// Forgets the key of an execution that nobody was told of, so that its caller can send it again.
pub(super) fn forget_key(connection: &Connection, id: Uuid) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM idempotency_keys WHERE execution_id = ?1")?
        .execute([id.as_bytes()])
        .map(drop)
}

/// Forgets the keys that are too old, and of too many those that came first. Clocks jump, so their times don't say which.
pub(super) fn expire_keys(connection: &Connection, now_ms: i64) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM idempotency_keys WHERE created_at_ms <= ?1", [now_ms - KEY_KEPT_MS])?;
    let count: i64 = connection.query_row("SELECT count(*) FROM idempotency_keys", [], |row| row.get(0))?;
    if count > MAX_KEYS {
        // The key of an execution that is forgotten has no place, and goes before all others.
        connection.execute(
            "DELETE FROM idempotency_keys WHERE (tenant, key) IN (SELECT idempotency_keys.tenant, key FROM idempotency_keys \
             LEFT JOIN executions ON id = execution_id \
             ORDER BY seq DESC LIMIT -1 OFFSET ?1)",
            [MAX_KEYS],
        )?;
    }
    Ok(())
}
