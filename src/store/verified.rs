//! Files that are given out only as they were written: the content is held against its hash while it goes.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};

use bytes::Bytes;
use futures::{Stream, stream};
use sha2::{Digest as _, Sha256};

use crate::store::blobs::ContentHash;

/// Bytes that are read at a time.
const PIECE: usize = 64 << 10;

/// The content of a file of this size and hash, piece by piece. A content that has changed on the disk never ends well: the
/// last piece is withheld, and an error comes in its place.
pub fn verified(file: File, size: u64, hash: ContentHash) -> impl Stream<Item = io::Result<Bytes>> + use<> {
    let reading = Reading { file, left: size, hash, seen: Sha256::new(), over: false };
    stream::unfold(reading, |reading| async {
        if reading.over {
            return None;
        }
        // A panic of the reading thread is an error, too.
        let read = tokio::task::spawn_blocking(move || reading.next()).await;
        match read {
            Ok((Ok(piece), reading)) => (!piece.is_empty()).then_some((Ok(piece), reading)),
            Ok((Err(error), reading)) => Some((Err(error), reading)),
            Err(_) => None,
        }
    })
}

/// Whether a file has this size and hash. The file is at its beginning afterwards.
///
/// # Errors
/// The disk is broken, or the content has changed.
pub fn verify(file: &mut File, size: u64, hash: ContentHash) -> io::Result<()> {
    if file.metadata()?.len() != size || ContentHash::of_file(file)? != hash {
        return Err(changed());
    }
    file.rewind()
}

fn changed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a file of the data folder has changed since it was written")
}

struct Reading {
    file: File,
    left: u64,
    hash: ContentHash,
    seen: Sha256,
    over: bool,
}

impl Reading {
    fn next(mut self) -> (io::Result<Bytes>, Self) {
        let piece = self.piece();
        self.over |= piece.is_err() || self.left == 0;
        (piece, self)
    }

    fn piece(&mut self) -> io::Result<Bytes> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(PIECE);
        let mut piece = vec![0; most];
        self.file.read_exact(&mut piece).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => changed(),
            _ => error,
        })?;
        self.left -= most as u64;
        self.seen.update(&piece);
        // What stands behind the end belongs to no content of this hash either.
        let more = self.left == 0 && self.file.read(&mut [0])? > 0;
        if self.left == 0 && (more || ContentHash(self.seen.clone().finalize().into()) != self.hash) {
            return Err(changed());
        }
        Ok(piece.into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use futures::TryStreamExt as _;

    use super::*;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file.rewind().unwrap();
        file
    }

    #[tokio::test]
    async fn what_was_written_comes_back_and_nothing_else() {
        for size in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
            let content: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let hash = ContentHash::of(&content);
            let whole = verified(file(&content), size as u64, hash).map_ok(|piece| piece.to_vec());
            assert_eq!(whole.try_concat().await.unwrap(), content, "{size}");
            verify(&mut file(&content), size as u64, hash).unwrap();
            let mut changes = vec![[&content[..], b"x"].concat()];
            for at in [0, size / 2, size.saturating_sub(1)] {
                let mut flipped = content.clone();
                flipped.get_mut(at).into_iter().for_each(|byte| *byte ^= 1);
                changes.push(flipped);
                changes.push(content[..at].to_vec());
            }
            for changed in changes.into_iter().filter(|changed| *changed != content) {
                let pieces = verified(file(&changed), size as u64, hash);
                let mut sent = 0;
                let ended = pieces.try_for_each(|piece| {
                    sent += piece.len();
                    futures::future::ready(Ok(()))
                });
                let error = ended.await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{size}");
                assert!(sent < size.max(1), "all of {size} bytes were given out");
                assert!(verify(&mut file(&changed), size as u64, hash).is_err());
            }
        }
    }
}
