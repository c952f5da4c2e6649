//! Artifacts on their way in: each checked as if a stranger had sent it, and written under a name of our own.

use std::collections::HashSet;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;

use crate::archive;
use crate::failpoint;
use crate::runner::message::{ArtifactSpec, FileHead};
use crate::sandbox::{Artifact, SandboxError};

/// Depth of an artifact's path: what the runner's own walk allows.
const MAX_DEPTH: usize = 32;

pub(super) struct Incoming {
    folder: PathBuf,
    bytes_left: u64,
    count_left: u64,
    paths: HashSet<String>,
    done: Vec<Artifact>,
    current: Option<Current>,
}

struct Current {
    path: String,
    size: u64,
    left: u64,
    hash: Sha256,
    name: PathBuf,
    file: File,
}

impl Incoming {
    /// They go into this folder, which is made for the first.
    pub(super) fn new(folder: PathBuf, caps: &ArtifactSpec) -> Self {
        Self {
            folder,
            bytes_left: caps.max_bytes,
            count_left: caps.max_count,
            paths: HashSet::new(),
            done: Vec::new(),
            current: None,
        }
    }

    pub(super) async fn begin(&mut self, head: FileHead) -> Result<(), SandboxError> {
        self.finish()?;
        let path = archive::check_path(head.path.as_bytes(), MAX_DEPTH)
            .map_err(|error| SandboxError::Lost(format!("an artifact: {error}")))?;
        if self.count_left == 0 || head.size > self.bytes_left {
            return Err(lost("more artifacts than the caps allow"));
        }
        if !self.paths.insert(path.clone()) {
            return Err(lost("two artifacts of one name"));
        }
        (self.count_left, self.bytes_left) = (self.count_left - 1, self.bytes_left - head.size);
        if self.done.is_empty() {
            tokio::fs::create_dir_all(&self.folder).await?;
            failpoint::pass("attempt.folder");
        }
        let name = self.folder.join(self.done.len().to_string());
        let file = File::create_new(&name).await?;
        failpoint::pass("artifact.created");
        self.current =
            Some(Current { path, size: head.size, left: head.size, hash: Sha256::new(), name, file });
        if head.size == 0 { self.complete().await } else { Ok(()) }
    }

    pub(super) async fn data(&mut self, bytes: &[u8]) -> Result<(), SandboxError> {
        let Some(current) = &mut self.current else { return Err(lost("data without an artifact")) };
        current.left = current
            .left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| lost("an artifact is longer than announced"))?;
        current.hash.update(bytes);
        current.file.write_all(bytes).await?;
        if current.left == 0 { self.complete().await } else { Ok(()) }
    }

    async fn complete(&mut self) -> Result<(), SandboxError> {
        if let Some(mut current) = self.current.take() {
            current.file.flush().await?;
            failpoint::pass("artifact.written");
            let sha256 = current.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            let Current { path, size, name, .. } = current;
            self.done.push(Artifact { path, size, sha256, file: name });
        }
        Ok(())
    }

    /// Nothing may be half here.
    pub(super) fn finish(&self) -> Result<(), SandboxError> {
        if self.current.is_some() { Err(lost("an artifact is shorter than announced")) } else { Ok(()) }
    }

    /// Those that are whole.
    pub(super) fn into_artifacts(self) -> Vec<Artifact> {
        self.done
    }
}

fn lost(what: &str) -> SandboxError {
    SandboxError::Lost(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incoming(folder: &tempfile::TempDir) -> Incoming {
        let caps = ArtifactSpec { globs: None, max_bytes: 10, max_count: 2, max_entries: 100 };
        Incoming::new(folder.path().to_owned(), &caps)
    }

    fn head(path: &str, size: u64) -> FileHead {
        FileHead { path: path.into(), size, executable: false }
    }

    #[tokio::test]
    async fn a_file_comes_in_with_its_hash() {
        let folder = tempfile::tempdir().unwrap();
        let mut incoming = incoming(&folder);
        incoming.begin(head("a/b.txt", 3)).await.unwrap();
        incoming.data(b"a").await.unwrap();
        incoming.data(b"bc").await.unwrap();
        incoming.begin(head("empty", 0)).await.unwrap();
        incoming.finish().unwrap();
        let artifacts = incoming.into_artifacts();
        assert_eq!(artifacts[0].sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(std::fs::read(&artifacts[0].file).unwrap(), b"abc");
        assert_eq!((artifacts[1].path.as_str(), artifacts[1].size), ("empty", 0));
    }

    #[tokio::test]
    async fn a_lying_runner_is_caught() {
        let folder = tempfile::tempdir().unwrap();
        for bad in ["../x", "/etc/passwd", "a\0b", "", "a//b", ".."] {
            assert!(incoming(&folder).begin(head(bad, 1)).await.is_err(), "{bad:?}");
        }
        assert!(incoming(&folder).begin(head("big", 11)).await.is_err());
        assert!(incoming(&folder).data(b"x").await.is_err());

        let mut twice = incoming(&tempfile::tempdir().unwrap());
        twice.folder = folder.path().to_owned();
        twice.begin(head("x", 0)).await.unwrap();
        assert!(twice.begin(head("x", 0)).await.is_err());

        let other = tempfile::tempdir().unwrap();
        let mut long = incoming(&other);
        long.begin(head("x", 2)).await.unwrap();
        assert!(long.data(b"abc").await.is_err());

        let third = tempfile::tempdir().unwrap();
        let mut short = incoming(&third);
        short.begin(head("x", 2)).await.unwrap();
        assert!(short.finish().is_err());
    }
}
