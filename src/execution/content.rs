//! What a stream of a program wrote: in memory while that is little or new, else a part of a file. A reader that takes
//! its time reads the file a piece at a time, and so holds a piece of it, whatever its length.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;

use crate::execution::state::Output;

/// Bytes that do not change any more. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Content(Place);

#[derive(Debug, Clone)]
enum Place {
    Memory(Bytes),
    /// The file stays readable when its name goes.
    File {
        file: Arc<File>,
        from: usize,
        length: usize,
    },
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        Self(Place::Memory(bytes))
    }
}

impl Content {
    /// This part of a file that has it.
    pub(super) fn in_file(file: Arc<File>, from: usize, length: usize) -> Self {
        Self(Place::File { file, from, length })
    }

    /// Bytes in all.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Place::Memory(bytes) => bytes.len(),
            Place::File { length, .. } => *length,
        }
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of it, where it is in memory.
    #[must_use]
    pub fn in_memory(&self) -> Option<&Bytes> {
        match &self.0 {
            Place::Memory(bytes) => Some(bytes),
            Place::File { .. } => None,
        }
    }

    /// At most `most` bytes from `at` on; fewer only where it ends.
    ///
    /// # Errors
    /// The disk is broken.
    pub async fn piece(&self, at: usize, most: usize) -> io::Result<Bytes> {
        let most = most.min(self.len().saturating_sub(at));
        match &self.0 {
            Place::Memory(bytes) => Ok(bytes.slice(at..at + most)),
            Place::File { file, from, .. } => {
                let (file, from) = (Arc::clone(file), (from + at) as u64);
                let read = move || {
                    let mut piece = vec![0; most];
                    file.read_exact_at(&mut piece, from).map(|()| Bytes::from(piece))
                };
                tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
            }
        }
    }
}

impl Output<Content> {
    /// All of it, where all of it is in memory.
    #[must_use]
    pub fn in_memory(&self) -> Option<Output> {
        Some(Output {
            stdout: self.stdout.in_memory()?.clone(),
            stderr: self.stderr.in_memory()?.clone(),
            compile_stdout: self.compile_stdout.in_memory()?.clone(),
            compile_stderr: self.compile_stderr.in_memory()?.clone(),
        })
    }

    /// A file in which the streams follow one another in the order of [`Output::streams`].
    pub(super) fn in_file(file: File, lengths: [usize; 4]) -> Self {
        let (file, mut from) = (Arc::new(file), 0);
        let [stdout, stderr, compile_stdout, compile_stderr] = lengths.map(|length| {
            from += length;
            Content::in_file(Arc::clone(&file), from - length, length)
        });
        Self { stdout, stderr, compile_stdout, compile_stderr }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn a_file_is_read_as_memory_is() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abcdefghij").unwrap();
        let kept = Output::in_file(file, [4, 0, 5, 1]);
        let parts = [&b"abcd"[..], b"", b"efghi", b"j"];
        for (content, bytes) in kept.streams().into_iter().zip(parts) {
            let memory = Content::from(Bytes::from_static(bytes));
            assert_eq!((content.len(), content.is_empty()), (memory.len(), memory.is_empty()));
            for at in 0..=bytes.len() {
                for most in 0..=bytes.len() + 1 {
                    let piece = content.piece(at, most).await.unwrap();
                    assert_eq!(piece, memory.piece(at, most).await.unwrap());
                    assert_eq!(piece, bytes[at..bytes.len().min(at + most)]);
                }
            }
            assert!(content.in_memory().is_none());
            assert_eq!(memory.in_memory().map(AsRef::as_ref), Some(bytes));
        }
        assert!(kept.in_memory().is_none());
    }
}
