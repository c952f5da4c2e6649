//! The validated input of an execution. If an [`ExecutionSpec`] exists, it is valid: it was checked once, at the door.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tempfile::{NamedTempFile, TempPath};

use crate::archive::Project;
use crate::execution::budget::Reserved;
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
    /// The paths and globs of the language's hints that fit files of the project.
    pub beside: Vec<String>,
    /// The server's memory for this, where it is counted.
    pub memory: Option<Reserved>,
}

/// What a text takes beside its bytes.
const TEXT_BYTES: usize = 48;
/// Bytes of each execution that are not counted: what a short program takes, which the length of the queue bounds.
const UNCOUNTED: usize = 8 << 10;

impl ExecutionSpec {
    /// Bytes of memory that it holds while it waits, beyond what every execution does.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let Self { project, command, stdin, artifacts, image, dependencies, labels, notices, .. } = self;
        let text = |text: &String| text.len() + TEXT_BYTES;
        let list = |texts: &[String]| texts.iter().map(text).sum::<usize>();
        let map = |map: &BTreeMap<String, String>| {
            map.iter().map(|(key, value)| text(key) + text(value)).sum::<usize>()
        };
        let env = command.env.iter().map(|(name, value)| text(name) + text(value)).sum::<usize>();
        let commands = command.compile.iter().chain([&command.run]).map(|words| list(words)).sum::<usize>();
        let needs = dependencies.as_ref().map_or(0, |needs| map(&needs.files) + list(&needs.pre_commands));
        let stdin = if let Stdin::Bytes(bytes) = stdin { bytes.len() } else { 0 };
        let results = artifacts.as_deref().map_or(0, list) + list(notices);
        // A wait has its own copy of the labels.
        let about = 2 * map(labels) + image.as_ref().map_or(0, text);
        (project.memory_bytes() + env + commands + needs + stdin + results + about).saturating_sub(UNCOUNTED)
    }
}

impl ExecutionSpec {
    /// Bytes of the project and of standard input, as far as they are known.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        let stdin = match &self.stdin {
            Stdin::Bytes(bytes) => bytes.len() as u64,
            other => other.file().and_then(|file| file.metadata().ok()).map_or(0, |file| file.len()),
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

/// Bytes of standard input that stay in memory while an execution waits: as many as of a project's frames.
pub const STDIN_IN_MEMORY: usize = 4 << 10;

/// Where standard input comes from.
#[derive(Debug)]
pub enum Stdin {
    /// All of it is here; may be empty.
    Bytes(bytes::Bytes),
    /// All of it is in this file, which goes when this is dropped.
    Scratch(TempPath),
    /// All of it is in this file, which somebody else keeps, with the SHA-256 of its content.
    Kept(PathBuf, [u8; 32]),
    /// It comes while the program runs. A second attempt can't read again what a first has taken: the attempt that
    /// takes the receiver is the last.
    Live(std::sync::Mutex<Option<tokio::sync::mpsc::Receiver<bytes::Bytes>>>),
}

impl Stdin {
    /// All of it, in a new file in this folder where it is long.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn new(bytes: Vec<u8>, folder: &Path) -> io::Result<Self> {
        if bytes.len() <= STDIN_IN_MEMORY {
            return Ok(Self::Bytes(bytes.into()));
        }
        let mut file = NamedTempFile::new_in(folder)?;
        file.write_all(&bytes)?;
        Ok(Self::Scratch(file.into_temp_path()))
    }

    /// The file that it is in.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Scratch(path) => Some(path),
            Self::Kept(path, _) => Some(path),
            Self::Bytes(_) | Self::Live(_) => None,
        }
    }

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
