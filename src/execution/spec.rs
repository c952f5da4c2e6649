//! The validated input of an execution. If an [`ExecutionSpec`] exists, it is valid: it was checked once, at the door.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::archive::Project;
use crate::execution::id::Tenant;
use crate::limits::Limits;
use crate::runtime::{Command, Runtime};

/// Everything needed to run one project.
#[derive(Debug)]
pub struct ExecutionSpec {
    /// The owner.
    pub tenant: Tenant,
    /// Set where the key that brought it may not have as many running as its tenant.
    pub share: Option<KeyShare>,
    /// The language at its version.
    pub runtime: Arc<Runtime>,
    /// The files, checked and in canonical form.
    pub project: Project,
    /// What compiles and starts the project, and in which environment.
    pub command: Command,
    /// Standard input.
    pub stdin: Stdin,
    /// What it may use.
    pub limits: Limits,
    /// Globs of the files to return; `None` returns everything created or changed.
    pub artifacts: Option<Vec<String>>,
    /// Name of the image that it runs in instead of the runtime's.
    pub image: Option<String>,
    /// Packages that it needs beside what is in the runtime's image.
    pub dependencies: Option<Dependencies>,
    /// Kept with the record.
    pub labels: BTreeMap<String, String>,
    /// Sentences for the caller that were known before the start.
    pub notices: Vec<String>,
}

impl ExecutionSpec {
    /// Bytes of the project and of standard input, as far as they are known.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        let stdin = match &self.stdin {
            Stdin::Bytes(bytes) => bytes.len() as u64,
            Stdin::Live(_) => 0,
        };
        self.project.bytes().saturating_add(stdin)
    }
}

/// Packages to install before the program starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependencies {
    /// What the installer reads, in canonical form, by file name. Empty where only `pre_commands` make them.
    pub files: BTreeMap<String, String>,
    /// Lines of shell that run before the installer.
    pub pre_commands: Vec<String>,
    /// Packages may run code of their own while they are installed.
    pub code: bool,
}

/// What one key may have running at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyShare {
    /// The key's public part.
    pub key: String,
    /// Executions that it brought.
    pub concurrency: u16,
}

/// Where standard input comes from.
#[derive(Debug)]
pub enum Stdin {
    /// All of it is here; may be empty.
    Bytes(bytes::Bytes),
    /// It comes while the program runs. A second attempt can't read again what a first has taken: the attempt that
    /// takes the receiver is the last.
    Live(std::sync::Mutex<Option<tokio::sync::mpsc::Receiver<bytes::Bytes>>>),
}

impl Stdin {
    /// No input at all.
    #[must_use]
    pub fn empty() -> Self {
        Self::Bytes(bytes::Bytes::new())
    }

    /// It is known that there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Bytes(bytes) if bytes.is_empty())
    }
}
