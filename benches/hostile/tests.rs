//! The test binaries of this repository, and single tests of them.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::process::Command;

use crate::Result;
use crate::registry::repository;

/// No test takes so long.
const PATIENCE: Duration = Duration::from_secs(900);

/// The path of each test binary: `lib`, `it` and `docker`.
pub(crate) struct Binaries(BTreeMap<String, String>);

/// What became of one test.
pub(crate) struct Ran {
    pub(crate) passed: bool,
    pub(crate) took: Duration,
    /// All that it printed.
    pub(crate) said: String,
}

impl Binaries {
    /// Builds them, as the tests of `make test` are.
    pub(crate) async fn build() -> Result<Self> {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["test", "--locked", "--no-run", "--lib", "--test", "it", "--test", "docker"]);
        cargo.args(["--message-format", "json-render-diagnostics"]).current_dir(repository("."));
        let output = cargo.stderr(Stdio::inherit()).output().await?;
        if !output.status.success() {
            return Err("the tests could not be built".into());
        }
        let mut found = BTreeMap::new();
        for line in String::from_utf8(output.stdout)?.lines() {
            let message: Value = serde_json::from_str(line)?;
            let Some(path) = message["executable"].as_str() else { continue };
            if message["profile"]["test"] == true {
                let target = &message["target"];
                let library =
                    target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "lib"));
                let name = if library { "lib" } else { target["name"].as_str().unwrap_or_default() };
                found.insert(name.to_owned(), path.to_owned());
            }
        }
        Ok(Self(found))
    }

    /// Runs the test of this name. It has passed only if it is there and was run.
    pub(crate) async fn run(&self, name: &str) -> Result<Ran> {
        let (binary, test) = name.split_once("::").ok_or_else(|| format!("{name} names no test binary"))?;
        let path = self.0.get(binary).ok_or_else(|| format!("{name}: there is no test binary {binary}"))?;
        let mut command = Command::new(path);
        command.args(["--exact", test, "--nocapture"]).current_dir(repository(".")).stdin(Stdio::null());
        let began = Instant::now();
        let ended = tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output()).await;
        let took = began.elapsed();
        let Ok(output) = ended else {
            return Ok(Ran { passed: false, took, said: format!("it did not end within {PATIENCE:?}") });
        };
        let output = output?;
        let said =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        let passed =
            output.status.success() && said.contains("test result: ok. 1 passed; 0 failed; 0 ignored");
        Ok(Ran { passed, took, said })
    }
}
