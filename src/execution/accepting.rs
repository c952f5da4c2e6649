//! What is kept of an execution before it counts as accepted.

use crate::archive::{Frames, Project};
use crate::execution::entry::Entry;
use crate::execution::idempotency::IdempotencyKey;
use crate::execution::record::{Files, INLINE, Request, Work};
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
    let (project, stdin, kept) =
        if detached { keep(store, &mut spec).await? } else { (Vec::new(), Vec::new(), Files::default()) };
    let work = detached.then(|| Work::new(&spec, &kept));
    let request = Request::new(&spec, work).to_json()?;
    let files = kept.project.into_iter().chain(kept.stdin).collect();
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

/// What has to be there to run it again: its frames and its input when they are short, else the files that now hold them.
async fn keep(store: &Store, spec: &mut ExecutionSpec) -> Result<(Vec<u8>, Vec<u8>, Files), StoreError> {
    let (project, project_file) = keep_project(store, spec).await?;
    let stdin_file = match spec.stdin.file() {
        Some(spool) => Some(store.take_file(spool.to_owned(), None, true).await?),
        None => None,
    };
    if let Some(pin) = &stdin_file {
        spec.stdin = Stdin::Kept(pin.path(), pin.hash().0);
    }
    let stdin = if let Stdin::Bytes(bytes) = &spec.stdin { bytes.to_vec() } else { Vec::new() };
    Ok((project, stdin, Files { project: project_file, stdin: stdin_file }))
}

async fn keep_project(store: &Store, spec: &mut ExecutionSpec) -> Result<(Vec<u8>, Option<Pin>), StoreError> {
    let spool = match spec.project.frames() {
        Frames::Memory(bytes) => return Ok((bytes.to_vec(), None)),
        Frames::File(path) => path.to_owned(),
    };
    let length = tokio::fs::metadata(&spool).await?.len();
    if length <= INLINE as u64 {
        return Ok((tokio::fs::read(&spool).await?, None));
    }
    let pin = store.take_file(spool, None, true).await?;
    spec.project = Project::kept(pin.path(), pin.hash().0, spec.project.count(), spec.project.bytes());
    Ok((Vec::new(), Some(pin)))
}
