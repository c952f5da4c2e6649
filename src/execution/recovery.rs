//! What an earlier server left is taken up: what nobody waits for runs again, what somebody waited for is over.

use std::sync::Arc;

use futures::future::join_all;
use jiff::Timestamp;
use tracing::info;

use crate::execution::entry::Entry;
use crate::execution::finishing::no_run;
use crate::execution::record::{self, Request};
use crate::execution::service::Inner;
use crate::execution::state::{Output, Status};
use crate::execution::worker::MAX_ATTEMPTS;
use crate::failpoint;
use crate::runtime::Catalogue;
use crate::sandbox::Reason;
use crate::store::{Ending, StoreError, Unfinished};

/// Before the workers start.
pub(super) async fn take_up(inner: &Arc<Inner>, catalogue: &Catalogue) -> Result<(), StoreError> {
    let left = inner.store.unfinished().await?;
    failpoint::pass("recovery.read");
    let (mut again, mut ended) = (0, Vec::new());
    for left in left {
        match runnable(inner, catalogue, &left)? {
            Ok(entry) => {
                again += 1;
                let entry = Arc::new(entry);
                if let Some(spec) = entry.spec() {
                    entry.count(inner.backlog.take(&entry.tenant, spec.held_bytes()));
                }
                inner.add(&entry);
                inner.queue.restore(&entry.tenant, entry.share.clone(), entry.clone());
            }
            Err(end) => ended.push((left, end)),
        }
    }
    failpoint::pass("recovery.restored");
    let over = ended.len();
    // Together, so that they share commits.
    let ends = ended.into_iter().map(|(left, end)| write_end(inner, left, end));
    join_all(ends).await.into_iter().collect::<Result<(), StoreError>>()?;
    failpoint::pass("recovery.ended");
    if again + over > 0 {
        info!(again, over, "took up what an earlier server left");
    }
    Ok(())
}

/// How an execution ends that does not run again.
struct End {
    status: Status,
    reason: Reason,
    why: String,
}

fn runnable(
    inner: &Inner,
    catalogue: &Catalogue,
    left: &Unfinished,
) -> Result<Result<Entry, End>, StoreError> {
    let internal = |why: String| End { status: Status::Failed, reason: Reason::Internal, why };
    if !left.detached {
        let why = "the server ended before it did, and nobody waits for it any more".to_owned();
        return Ok(Err(End { status: Status::Killed, reason: Reason::Killed, why }));
    }
    if left.running && left.attempt >= MAX_ATTEMPTS {
        let why = format!("the server failed in each of {MAX_ATTEMPTS} attempts to run it");
        return Ok(Err(internal(why)));
    }
    let (request, spool) = (Request::read(&left.request)?, inner.store.data().spool());
    Ok(match record::spec(left, request, catalogue, &inner.store, &spool)? {
        Ok(spec) => {
            let created_at = time(left.created_at_ms);
            Ok(Entry::again(left.id.into(), spec, true, created_at, left.attempt))
        }
        Err(why) => Err(internal(why)),
    })
}

async fn write_end(inner: &Inner, left: Unfinished, end: End) -> Result<(), StoreError> {
    if !left.detached {
        // Its caller got no answer, so the same request under the same key may run.
        inner.store.forget_key(left.id).await?;
    }
    let finished = no_run(end.reason, end.why.clone(), 0, 0, vec![end.why]);
    let ending = Ending {
        id: left.id,
        attempt: left.attempt,
        finished_at_ms: Timestamp::now().as_millisecond(),
        result: record::ended(end.status, None, &finished, &Output::default(), None)?,
        output: Vec::new(),
        files: Vec::new(),
        bytes: 0,
    };
    inner.store.finish(Arc::new(ending), left.detached).await.map(drop)
}

fn time(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
}
