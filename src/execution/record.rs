//! What an execution looks like in the store: from its parts to a record, and back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::archive::Project;
use crate::execution::content::Content;
use crate::execution::id::{ExecutionId, Tenant};
use crate::execution::spec::{Dependencies, ExecutionSpec, KeyShare, Stdin};
use crate::execution::state::{Execution, Finished, Output, Status};
use crate::limits::Limits;
use crate::runtime::{Catalogue, Command};
use crate::store::{ContentHash, Kept, Pin, Store, StoreError, Unfinished, verify};

/// A project or an output of at most this many bytes is kept in its record; more is a file beside it.
pub(super) const INLINE: usize = 64 << 10;

/// What was asked for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) language: String,
    pub(super) version: String,
    pub(super) labels: BTreeMap<String, String>,
    /// What is needed to run it again; only where that may happen.
    pub(super) work: Option<Work>,
}

/// A spec without its stdin and its project.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Work {
    command: Command,
    limits: Limits,
    artifacts: Option<Vec<String>>,
    notices: Vec<String>,
    #[serde(default)]
    beside: Vec<String>,
    project_bytes: u64,
    #[serde(default)]
    project_count: u64,
    /// SHA-256 of the frames, where they are a file.
    project_file: Option<String>,
    /// The same of standard input.
    #[serde(default)]
    stdin_file: Option<String>,
    #[serde(default)]
    share: Option<KeyShare>,
    #[serde(default)]
    dependencies: Option<Dependencies>,
    #[serde(default)]
    image: Option<String>,
}

/// What of an execution is kept as a file beside its record.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// The project's frames.
    pub(super) project: Option<Pin>,
    /// Standard input.
    pub(super) stdin: Option<Pin>,
}

/// How it ended.
#[derive(Debug, Serialize, Deserialize)]
struct Ended {
    status: Status,
    started_at: Option<Timestamp>,
    finished: Finished,
    /// Bytes of each stream, in the order in which they follow one another.
    output: [usize; 4],
    /// SHA-256 of the output, where it is a file.
    output_file: Option<String>,
}

/// A record that this binary does not understand.
fn unreadable(what: &str, error: &dyn std::fmt::Display) -> StoreError {
    std::io::Error::other(format!("{what}: {error}")).into()
}

impl Request {
    pub(super) fn new(spec: &ExecutionSpec, work: Option<Work>) -> Self {
        Self {
            language: spec.runtime.name.clone(),
            version: spec.runtime.version.clone(),
            labels: spec.labels.clone(),
            work,
        }
    }

    pub(super) fn to_json(&self) -> Result<String, StoreError> {
        serde_json::to_string(self).map_err(|error| unreadable("request", &error))
    }

    pub(super) fn read(json: &str) -> Result<Self, StoreError> {
        serde_json::from_str(json).map_err(|error| unreadable("the record of a request", &error))
    }
}

impl Work {
    pub(super) fn new(spec: &ExecutionSpec, files: &Files) -> Self {
        let name = |pin: &Option<Pin>| pin.as_ref().map(|pin| pin.hash().to_string());
        Self {
            command: spec.command.clone(),
            limits: spec.limits,
            artifacts: spec.artifacts.clone(),
            notices: spec.notices.clone(),
            beside: spec.beside.clone(),
            project_bytes: spec.project.bytes(),
            project_count: spec.project.count(),
            project_file: name(&files.project),
            stdin_file: name(&files.stdin),
            share: spec.share.clone(),
            dependencies: spec.dependencies.clone(),
            image: spec.image.clone(),
        }
    }
}

/// The spec of an execution that is to run again.
///
/// The first error is for the caller: it can't be run, and will not be. The second is our own.
pub(super) fn spec(
    left: &Unfinished,
    request: Request,
    catalogue: &Catalogue,
    store: &Store,
    spool: &Path,
) -> Result<Result<ExecutionSpec, String>, StoreError> {
    let Some(work) = request.work else {
        return Ok(Err("the server was restarted, and nothing was kept to run it again".into()));
    };
    let language = format!("{}@{}", request.language, request.version);
    let runtime = match catalogue.resolve(&language) {
        Ok(runtime) => runtime,
        Err(error) => return Ok(Err(format!("the server was restarted without its language: {error}"))),
    };
    let project = match &work.project_file {
        None => Project::restored(&left.project, work.project_bytes, spool)?,
        Some(hash) => {
            let hash = kept("a project", hash)?;
            Project::kept(store.path_of(hash), hash.0, work.project_count, work.project_bytes)
        }
    };
    let stdin = match &work.stdin_file {
        None => Stdin::Bytes(left.stdin.clone().into()),
        Some(hash) => {
            let hash = kept("standard input", hash)?;
            Stdin::Kept(store.path_of(hash), hash.0)
        }
    };
    Ok(Ok(ExecutionSpec {
        tenant: Tenant::named(&left.tenant),
        share: work.share,
        runtime,
        project,
        command: work.command,
        stdin,
        limits: work.limits,
        artifacts: work.artifacts,
        dependencies: work.dependencies,
        image: work.image,
        labels: request.labels,
        notices: work.notices,
        beside: work.beside,
        memory: None,
    }))
}

/// The hash that a record names.
fn kept(what: &str, hash: &str) -> Result<ContentHash, StoreError> {
    ContentHash::from_hex(hash).ok_or_else(|| unreadable(what, &"no such file"))
}

/// How it ended, as JSON.
pub(super) fn ended(
    status: Status,
    started_at: Option<Timestamp>,
    finished: &Finished,
    output: &Output,
    output_file: Option<ContentHash>,
) -> Result<String, StoreError> {
    let ended = Ended {
        status,
        started_at,
        finished: finished.clone(),
        output: output.streams().map(Bytes::len),
        output_file: output_file.map(|hash| hash.to_string()),
    };
    serde_json::to_string(&ended).map_err(|error| unreadable("result", &error))
}

/// A finished execution from its record.
pub(super) async fn read(
    store: &Store,
    id: ExecutionId,
    tenant: &Tenant,
    kept: Kept,
) -> Result<Execution, StoreError> {
    let request = Request::read(&kept.request)?;
    let ended: Ended =
        serde_json::from_str(&kept.result).map_err(|error| unreadable("the record of a result", &error))?;
    let output = match ended.output_file.as_deref().and_then(ContentHash::from_hex) {
        None => in_record(kept.output.into(), ended.output),
        Some(hash) => {
            let path = store.path_of(hash);
            check_file(path.clone(), ended.output, hash).await?;
            in_file(path, ended.output).await?
        }
    };
    let output = output
        .ok_or_else(|| unreadable("the record of an output", &"it has another length than was written"))?;
    let time = |millis: i64| Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH);
    Ok(Execution {
        id,
        tenant: tenant.clone(),
        status: ended.status,
        language: request.language.into(),
        version: request.version.into(),
        labels: Arc::new(request.labels),
        attempt: kept.attempt.max(1),
        created_at: time(kept.created_at_ms),
        started_at: ended.started_at,
        finished_at: Some(time(kept.finished_at_ms)),
        output,
        finished: Some(Arc::new(with_files(ended.finished, store))),
    })
}

/// Parts of one buffer; `None` where they are not all of it.
fn in_record(mut rest: Bytes, lengths: [usize; 4]) -> Option<Output<Content>> {
    if rest.len() != lengths.iter().sum::<usize>() {
        return None;
    }
    let [stdout, stderr, compile_stdout, compile_stderr] = lengths.map(|length| rest.split_to(length));
    Some(Output { stdout, stderr, compile_stdout, compile_stderr }.into())
}

/// Holds a file of output against its hash: it is read in parts later, which can't be.
async fn check_file(path: PathBuf, lengths: [usize; 4], hash: ContentHash) -> Result<(), StoreError> {
    let size = lengths.iter().sum::<usize>() as u64;
    let check = move || verify(&mut std::fs::File::open(path)?, size, hash);
    Ok(tokio::task::spawn_blocking(check).await.map_err(std::io::Error::other)??)
}

/// Parts of one file, to be read when somebody does; `None` where they are not all of it.
pub(super) async fn in_file(
    path: PathBuf,
    lengths: [usize; 4],
) -> Result<Option<Output<Content>>, StoreError> {
    let file = tokio::fs::File::open(path).await?;
    let whole = file.metadata().await?.len() == lengths.iter().sum::<usize>() as u64;
    let file = file.into_std().await;
    Ok(whole.then(|| Output::in_file(file, lengths)))
}

/// Where the artifacts lie on this node.
fn with_files(mut finished: Finished, store: &Store) -> Finished {
    for artifact in &mut finished.artifacts {
        if let Some(hash) = ContentHash::from_hex(&artifact.sha256) {
            artifact.file = store.path_of(hash);
        }
    }
    finished
}
