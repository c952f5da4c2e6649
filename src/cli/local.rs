//! Executions without a server: the same service with one worker, and a data folder that goes with the command.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::archive::ArchiveLimits;
use crate::cli::failure::Failure;
use crate::config::Config;
use crate::execution::id::Tenant;
use crate::execution::intake::{self, AcceptError, Submission};
use crate::execution::service::{Service, ServiceConfig};
use crate::execution::spec::ExecutionSpec;
use crate::runtime::Catalogue;
use crate::sandbox::docker::DockerSandbox;
use crate::store::Store;

/// A place for one execution at a time.
pub(super) struct Local {
    config: Config,
    catalogue: Catalogue,
    scratch: tempfile::TempDir,
}

impl Local {
    pub(super) fn new(config: Config, catalogue: Catalogue) -> Result<Self, Failure> {
        let scratch = tempfile::Builder::new().prefix("execbox-").tempdir();
        let scratch =
            scratch.map_err(|error| Failure::ours(format!("no temporary folder can be made: {error}")))?;
        Ok(Self { config, catalogue, scratch })
    }

    pub(super) fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    pub(super) fn archive_limits(&self) -> ArchiveLimits {
        self.config.archive_limits()
    }

    /// Where a project can be spooled before the service runs.
    pub(super) fn spool(&self) -> PathBuf {
        self.scratch.path().to_owned()
    }

    /// Checks a submission at the same door as the server.
    pub(super) fn accept(&self, submission: Submission) -> Result<ExecutionSpec, Failure> {
        let policy = self.config.limit_policy();
        checked(intake::accept(&self.catalogue, &policy, &Tenant::local(), submission))
    }

    /// Starts the service on the current tokio runtime.
    pub(super) async fn start(&self, sandbox: DockerSandbox) -> Result<Service, Failure> {
        let store = Store::open(&self.scratch.path().join("data")).map_err(Failure::ours)?;
        let config = ServiceConfig {
            workers: 1,
            queue_length: 1,
            tenant_queue_length: 1,
            tenant_concurrency: 1,
            // One execution, whose archive has its own cap; whoever runs it sees a full disk at once.
            backlog_bytes: u64::MAX,
            tenant_backlog_bytes: u64::MAX,
            data_reserve_bytes: 0,
            retention: self.config.retention_policy(),
        };
        let service = Service::start(config, Arc::new(sandbox), store, &self.catalogue, Box::new(|_| {}));
        service.await.map_err(Failure::ours)
    }
}

/// What a door says, as this command fails.
pub(super) fn checked(spec: Result<ExecutionSpec, AcceptError>) -> Result<ExecutionSpec, Failure> {
    spec.map_err(|error| match error {
        AcceptError::Refused(error) => Failure::usage(error),
        storage @ AcceptError::Storage(_) => Failure::ours(storage),
    })
}

/// Ends the service of a command whose execution is over.
pub(super) async fn stop(service: &Service) {
    service.drain(Duration::ZERO).await;
}
