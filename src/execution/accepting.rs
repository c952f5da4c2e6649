//! What is kept of an execution before it counts as accepted.

use crate::archive::{Frames, Project};
use crate::execution::entry::Entry;
use crate::execution::idempotency::IdempotencyKey;
use crate::execution::record::{INLINE, Request, Work};
use crate::execution::service::Mode;
use crate::execution::spec::{ExecutionSpec, Stdin};
use crate::store::{Acceptance, Pin, Store, StoreError};

/// Makes the record. Of an execution that may have to run again, the project is in it, or on the disk beside it.
pub(super) async fn prepare(
    store: &Store,
    mut spec: ExecutionSpec,
    mode: Mode,
    key: Option<IdempotencyKey>,
) -> Result<(Entry, Acceptance), StoreError> {
    let detached = mode == Mode::Async;
    let (project, files) =
        if detached { keep_project(store, &mut spec).await? } else { (Vec::new(), Vec::new()) };
    let work = detached.then(|| Work::new(&spec, files.first().map(Pin::hash)));
    let request = Request::new(&spec, work).to_json()?;
    let stdin = match &spec.stdin {
        Stdin::Bytes(bytes) if detached => bytes.to_vec(),
        Stdin::Bytes(_) | Stdin::Live(_) => Vec::new(),
    };
    let entry = Entry::new(spec, detached);
    let acceptance = Acceptance {
        id: entry.id.into(),
        tenant: entry.tenant.to_string(),
        detached,
        created_at_ms: entry.created_at.as_millisecond(),
        request,
        stdin,
        project,
        files,
        idempotency: key.map(|key| (key.key, key.request)),
    };
    Ok((entry, acceptance))
}

/// Its frames when they are few, else the file that now holds them.
async fn keep_project(store: &Store, spec: &mut ExecutionSpec) -> Result<(Vec<u8>, Vec<Pin>), StoreError> {
    let spool = match spec.project.frames() {
        Frames::Memory(bytes) => return Ok((bytes.to_vec(), Vec::new())),
        Frames::File(path) => path.to_owned(),
    };
    let length = tokio::fs::metadata(&spool).await?.len();
    if length <= INLINE as u64 {
        return Ok((tokio::fs::read(&spool).await?, Vec::new()));
    }
    let pin = store.take_file(spool, None, true).await?;
    spec.project = Project::kept(pin.path(), pin.hash().0, spec.project.count(), spec.project.bytes());
    Ok((Vec::new(), vec![pin]))
}
