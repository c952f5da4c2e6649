//! Which finished executions are still kept: by age, and for each tenant by count and bytes, the oldest going first.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Statement, params};
use uuid::Uuid;

use crate::store::blobs::ContentHash;
use crate::store::records::files_of;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Age at which an execution goes.
    pub age: Duration,
    /// Number that are kept of each tenant.
    pub count: usize,
    /// Bytes of output and artifacts that are kept of each tenant.
    pub bytes: u64,
}

/// Executions that go in one transaction; others that write wait no longer than for these.
const BATCH: i64 = 200;

/// What went.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) count: usize,
    /// Files that may not be named any more.
    pub(super) files: Vec<ContentHash>,
}

impl Gone {
    /// There may be more to forget.
    pub(super) fn is_full(&self) -> bool {
        self.count as u64 >= BATCH.unsigned_abs()
    }

    fn remove(&mut self, connection: &Connection, seqs: &[i64]) -> rusqlite::Result<()> {
        let mut delete = connection.prepare_cached("DELETE FROM executions WHERE seq = ?1 AND state = 2")?;
        for seq in seqs {
            let files = files_of(connection, *seq)?;
            if delete.execute([seq])? > 0 {
                self.count += 1;
                self.files.extend(files);
            }
        }
        Ok(())
    }
}

/// Forgets what is too old, whosever it is.
pub(super) fn expire_by_age(
    connection: &Connection,
    policy: &RetentionPolicy,
    now_ms: i64,
) -> rusqlite::Result<Gone> {
    let age = i64::try_from(policy.age.as_millis()).unwrap_or(i64::MAX);
    let mut select = connection.prepare_cached(
        "SELECT seq FROM executions WHERE state = 2 AND finished_at_ms <= ?1 ORDER BY finished_at_ms LIMIT ?2",
    )?;
    let old = seqs(&mut select, params![now_ms.saturating_sub(age), BATCH])?;
    let mut gone = Gone::default();
    gone.remove(connection, &old)?;
    Ok(gone)
}

/// Forgets what is too much of this tenant's. The newest always stays, however big: somebody is about to read it.
pub(super) fn expire_of_tenant(
    connection: &Connection,
    policy: &RetentionPolicy,
    tenant: &str,
) -> rusqlite::Result<Gone> {
    let count = i64::try_from(policy.count.max(1)).unwrap_or(i64::MAX);
    let bytes = i64::try_from(policy.bytes).unwrap_or(i64::MAX);
    let mut select = connection.prepare_cached(
        "SELECT seq FROM (SELECT seq, finished_seq, row_number() OVER newest AS place, sum(bytes) OVER newest AS total \
         FROM executions WHERE tenant = ?1 AND state = 2 WINDOW newest AS (ORDER BY finished_seq DESC)) \
         WHERE place > ?2 OR (total > ?3 AND place > 1) ORDER BY finished_seq LIMIT ?4",
    )?;
    let much = seqs(&mut select, params![tenant, count, bytes, BATCH])?;
    let mut gone = Gone::default();
    gone.remove(connection, &much)?;
    Ok(gone)
}

/// Forgets one that has finished, on request.
pub(super) fn purge(connection: &Connection, tenant: &str, id: Uuid) -> rusqlite::Result<Gone> {
    let seq: Option<i64> = connection
        .prepare_cached("SELECT seq FROM executions WHERE id = ?1 AND tenant = ?2")?
        .query_row(params![id.as_bytes(), tenant], |row| row.get(0))
        .optional()?;
    let mut gone = Gone::default();
    gone.remove(connection, seq.as_slice())?;
    Ok(gone)
}

fn seqs(statement: &mut Statement<'_>, values: &[&dyn rusqlite::ToSql]) -> rusqlite::Result<Vec<i64>> {
    statement.query_map(values, |row| row.get(0))?.collect()
}
