//! The probe execution: in a container with the exact profile, the runner starts our own binary, which tries what
//! must be refused. It needs no language's image, for the binary is static.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::models::ContainerCreateBody;
use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::archive::{ArchiveLimits, ProjectWriter};
use crate::execution::id::{ExecutionId, Tenant};
use crate::execution::spec::{ExecutionSpec, Stdin};
use crate::limits::{Limits, MIB};
use crate::runner::message::Phase;
use crate::runner::probe::{ARGUMENT, Outcome, Promises, Row};
use crate::runtime::{Command, Lint, Runtime, Signs, SourceRules, Template};
use crate::sandbox::docker::image::Image;
use crate::sandbox::docker::keeper::{Kind, Warm};
use crate::sandbox::docker::reuse::Reuse;
use crate::sandbox::docker::runner_volume::EMPTY_IMAGE;
use crate::sandbox::docker::{DockerSandbox, Inner, profile, session};
use crate::sandbox::{Events, Job, Reason, SandboxError};

/// What the probe may take; it takes a tenth of a second.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Room for its rows.
const OUTPUT_BYTES: u64 = MIB;
/// A volume or container that another server's start took away is put back in the next attempt.
const ATTEMPTS: u32 = 3;

/// What the probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeReport {
    /// Every attempt.
    pub rows: Vec<Row>,
}

impl ProbeReport {
    /// Attempts that came to this.
    pub fn that(&self, outcome: Outcome) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.outcome == outcome)
    }

    /// Fails closed.
    ///
    /// # Errors
    /// Something that must be refused worked: a sentence with all of it, and what to do.
    pub fn require(&self) -> Result<(), String> {
        let worked: Vec<_> =
            self.that(Outcome::Worked).map(|row| format!("{} ({})", row.name, row.detail)).collect();
        if worked.is_empty() {
            return Ok(());
        }
        Err(format!(
            "containers of this Engine do not hold what execbox promises: a probe in one could do what must be \
             refused: {}. Update the Engine, its OCI runtime and the kernel, look for settings of the Engine (`docker info`) \
             or of execbox (--uid-base, --oci-runtime) that loosen containers, and see SECURITY.md",
            worked.join("; ")
        ))
    }
}

/// Its standard output.
#[derive(Default)]
struct Document(Mutex<Vec<u8>>);

impl Events for Document {
    fn progress(&self, _: &str) {}
    fn phase(&self, _: Phase) {}
    fn stdout(&self, bytes: Bytes) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&bytes);
    }
    fn stderr(&self, _: Bytes) {}
}

impl DockerSandbox {
    /// Tries, in a container with the profile that these limits give, what must be refused. Where containers serve
    /// several executions, it is the second one: what the first leaves behind counts.
    ///
    /// # Errors
    /// The probe could not be run to its end, which is no better than one that found something.
    pub async fn probe(&self, limits: &Limits, reuse: Reuse) -> Result<ProbeReport, SandboxError> {
        let mut attempt = 1;
        loop {
            match self.probe_altered(limits, reuse, |body| body).await {
                Err(error) if error.is_transient() && attempt < ATTEMPTS => attempt += 1,
                other => return other,
            }
        }
    }

    /// One attempt at a probe of another profile than ours: shows, in `tests/docker`, that each field matters.
    ///
    /// # Errors
    /// As for [`Self::probe`].
    #[doc(hidden)]
    pub async fn probe_altered(
        &self,
        limits: &Limits,
        reuse: Reuse,
        alter: impl FnOnce(ContainerCreateBody) -> ContainerCreateBody,
    ) -> Result<ProbeReport, SandboxError> {
        let inner = &self.0;
        inner.ensure_runner().await?;
        let limits = Limits { output_bytes: OUTPUT_BYTES, ..*limits };
        let image =
            Image { name: EMPTY_IMAGE.to_owned(), id: inner.engine.image_id(EMPTY_IMAGE).await?, size: 0 };
        let kind = Kind {
            runtime: Arc::new(runtime()?),
            own_image: None,
            image,
            class: inner.class(&limits, reuse),
            dependencies: None,
        };
        let mut warm = inner.make_from(&kind, alter).await?;
        if reuse == Reuse::Tenant {
            inner.probe_once(&mut warm, &kind, limits).await?;
            warm.streams.settle(TIMEOUT).await?;
        }
        inner.probe_once(&mut warm, &kind, limits).await
    }
}

impl Inner {
    async fn probe_once(
        &self,
        warm: &mut Warm,
        kind: &Kind,
        limits: Limits,
    ) -> Result<ProbeReport, SandboxError> {
        let began = Instant::now();
        let scratch = tempfile::tempdir()?;
        let uid = warm.container.uid().unwrap_or_default();
        let job = job(kind, profile::promises(uid, &limits, &kind.class), limits, &scratch)?;
        let mut start = self.start_message(&job);
        start.run.timeout_ms = u64::try_from(TIMEOUT.as_millis()).unwrap_or(u64::MAX);
        let (document, cancel) = (Document::default(), CancellationToken::new());
        let conversation = session::converse(&mut warm.streams, &start, &job, &document, &cancel).await?;
        let report = self.report(&warm.container, &job, began, &conversation).await?;
        if (report.outcome.reason, report.outcome.exit_code) != (Reason::Exited, 0) {
            let how =
                report.outcome.error.unwrap_or_else(|| format!("exit code {}", report.outcome.exit_code));
            return Err(SandboxError::Lost(format!(
                "the probe of the container profile did not end well: {how}"
            )));
        }
        let document = document.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let rows = serde_json::from_slice(&document)
            .map_err(|error| SandboxError::Lost(format!("the probe's rows can't be read: {error}")))?;
        Ok(ProbeReport { rows })
    }
}

fn job(
    kind: &Kind,
    promises: Promises,
    limits: Limits,
    scratch: &tempfile::TempDir,
) -> Result<Job, SandboxError> {
    let promises = serde_json::to_string(&promises).map_err(std::io::Error::from)?;
    let run = vec![profile::RUNNER.to_owned(), ARGUMENT.to_owned(), promises];
    let nothing = ArchiveLimits { bytes: 0, entries: 0, depth: 1 };
    let project = ProjectWriter::new(scratch.path(), nothing)
        .and_then(ProjectWriter::finish)
        .map_err(|error| SandboxError::Storage(std::io::Error::other(error)))?;
    let spec = ExecutionSpec {
        tenant: Tenant::local(),
        share: None,
        runtime: Arc::clone(&kind.runtime),
        project,
        command: Command { compile: None, run, env: Vec::new() },
        stdin: Stdin::empty(),
        limits,
        artifacts: Some(Vec::new()),
        dependencies: None,
        image: None,
        labels: BTreeMap::new(),
        notices: Vec::new(),
        beside: Vec::new(),
        memory: None,
    };
    let artifact_dir = scratch.path().to_owned();
    let slot = Arc::new(CancellationToken::new().drop_guard());
    Ok(Job { id: ExecutionId::random(), attempt: 1, spec: Arc::new(spec), artifact_dir, slot })
}

/// A language that is none: the probe is started by its own argv.
fn runtime() -> Result<Runtime, SandboxError> {
    Ok(Runtime {
        name: "probe".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        base: None,
        aliases: Vec::new(),
        extensions: Vec::new(),
        entrypoints: Vec::new(),
        compile: None,
        run: Template::parse(&[profile::RUNNER.to_owned()]).map_err(SandboxError::Engine)?,
        starts: Vec::new(),
        eval: None,
        script: None,
        call: None,
        plots: false,
        env: BTreeMap::new(),
        writable: Vec::new(),
        errors: Vec::new(),
        full_heap: Vec::new(),
        hints: Vec::new(),
        signs: Signs::default(),
        sources: SourceRules::default(),
        lint: Lint::default(),
        install: None,
        packages: Vec::new(),
        context: Arc::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(outcomes: &[Outcome]) -> ProbeReport {
        let row = |outcome: &Outcome| Row {
            class: "kernel".into(),
            name: "bpf".into(),
            outcome: *outcome,
            detail: "EFAULT".into(),
        };
        ProbeReport { rows: outcomes.iter().map(row).collect() }
    }

    #[test]
    fn one_thing_that_worked_is_enough_and_is_named() {
        assert_eq!(report(&[Outcome::Refused, Outcome::Unknown]).require(), Ok(()));
        let refusal = report(&[Outcome::Refused, Outcome::Worked]).require().unwrap_err();
        assert!(refusal.contains("bpf (EFAULT)") && refusal.contains("Update the Engine"), "{refusal}");
    }
}
