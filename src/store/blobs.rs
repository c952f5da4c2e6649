//! Files named by the SHA-256 of their content: projects, artifacts, large output. A file is whole from the moment it
//! has its name, and goes when no record names it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

use crate::failpoint;

/// Bytes that are hashed at a time.
const PIECE: usize = 64 << 10;

/// SHA-256 of a file's content.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentHash(pub [u8; 32]);

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ContentHash {
    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// From 64 hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).ok().map(|()| Self(hash))
    }

    pub(super) fn of_file(file: &mut File) -> io::Result<Self> {
        let mut hash = Sha256::new();
        let mut piece = vec![0; PIECE];
        loop {
            match file.read(&mut piece)? {
                0 => return Ok(Self(hash.finalize().into())),
                count => hash.update(&piece[..count]),
            }
        }
    }
}

/// The folder of these files, and what is on its way into the records.
#[derive(Debug)]
pub(super) struct Blobs {
    root: PathBuf,
    trash: PathBuf,
    /// Files that a record is about to name, or somebody reads, by how many.
    pins: Mutex<HashMap<ContentHash, usize>>,
    /// What no record named while it was pinned. It is looked at again.
    spared: Mutex<HashSet<ContentHash>>,
}

/// Keeps a file from being collected until the record that names it is committed, or its reader is done.
#[derive(Debug)]
pub struct Pin {
    blobs: Arc<Blobs>,
    hash: ContentHash,
}

impl Pin {
    /// What it holds.
    #[must_use]
    pub fn hash(&self) -> ContentHash {
        self.hash
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.blobs.path(self.hash)
    }
}

/// Files that are all there, and stay while they are read. No descriptor is open for that.
#[derive(Debug)]
pub struct Hold {
    _pins: Vec<Pin>,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = self.blobs.pins();
        if let Some(count) = pins.get_mut(&self.hash) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&self.hash);
            }
        }
    }
}

impl Blobs {
    /// `trash` is on the same file system, and is emptied by others.
    pub(super) fn open(root: PathBuf, trash: PathBuf) -> io::Result<Self> {
        for first in 0..=u8::MAX {
            fs::create_dir_all(root.join(format!("{first:02x}")))?;
        }
        fs::create_dir_all(&trash)?;
        Ok(Self { root, trash, pins: Mutex::default(), spared: Mutex::default() })
    }

    fn pins(&self) -> MutexGuard<'_, HashMap<ContentHash, usize>> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spared(&self) -> MutexGuard<'_, HashSet<ContentHash>> {
        self.spared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was spared for the sake of a pin that is gone by now.
    pub(super) fn released(&self) -> Vec<ContentHash> {
        let pins = self.pins();
        self.spared().extract_if(|hash| !pins.contains_key(hash)).collect()
    }

    /// Holds these files, of these sizes; `None` where one is gone.
    pub(super) fn hold(self: &Arc<Self>, files: &[(ContentHash, u64)]) -> io::Result<Option<Hold>> {
        // Pinned before it is looked at, so that what is there stays there.
        let pins: Vec<_> = files.iter().map(|(hash, _)| self.pin(*hash)).collect();
        for (pin, (_, size)) in pins.iter().zip(files) {
            match fs::symlink_metadata(pin.path()) {
                Ok(metadata) if metadata.is_file() && metadata.len() == *size => {}
                Ok(_) => return Err(io::Error::other("a file does not have the size that it came with")),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(Hold { _pins: pins }))
    }

    pub(super) fn path(&self, hash: ContentHash) -> PathBuf {
        let name = hash.to_string();
        self.root.join(&name[..2]).join(&name[2..])
    }

    /// Takes a file in, which goes from where it was. `hash`: of its content, where that is known. `durable`: it will be
    /// there after a loss of power.
    pub(super) fn take(
        self: &Arc<Self>,
        from: &Path,
        hash: Option<ContentHash>,
        durable: bool,
    ) -> io::Result<Pin> {
        failpoint::pass("blob.take");
        let mut file = File::open(from)?;
        let hash = hash.map_or_else(|| ContentHash::of_file(&mut file), Ok)?;
        let pin = self.pin(hash);
        let path = pin.path();
        if durable {
            file.sync_all()?;
            failpoint::pass("blob.synced");
        }
        fs::rename(from, &path)?;
        failpoint::pass("blob.renamed");
        if durable {
            sync_folder(&path)?;
            failpoint::pass("blob.durable");
        }
        Ok(pin)
    }

    /// Makes a file of these bytes.
    pub(super) fn put(self: &Arc<Self>, pieces: &[&[u8]], durable: bool) -> io::Result<Pin> {
        let mut file = tempfile::NamedTempFile::new_in(&self.trash)?;
        pieces.iter().try_for_each(|piece| file.write_all(piece))?;
        failpoint::pass("blob.written");
        let path = file.into_temp_path();
        let pin = self.take(&path, None, durable)?;
        // It has its new name.
        path.keep().map_err(io::Error::other)?;
        Ok(pin)
    }

    fn pin(self: &Arc<Self>, hash: ContentHash) -> Pin {
        *self.pins().entry(hash).or_default() += 1;
        Pin { blobs: Arc::clone(self), hash }
    }

    /// Moves a file that no record names out of the way, unless one is about to. Only for the thread that commits
    /// records: between its look at them and this nothing changes.
    pub(super) fn discard(&self, hash: ContentHash) -> io::Result<()> {
        let pins = self.pins();
        if pins.contains_key(&hash) {
            self.spared().insert(hash);
            return Ok(());
        }
        failpoint::pass("blob.discard");
        let discarded = fs::rename(self.path(hash), self.trash.join(uuid::Uuid::new_v4().to_string()));
        failpoint::pass("blob.discarded");
        match discarded {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            // A full disk has no room for the new name; this frees some, and may take a while.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => fs::remove_file(self.path(hash)),
            other => other,
        }
    }

    /// Every file that is here.
    pub(super) fn all(&self) -> io::Result<Vec<ContentHash>> {
        let mut all = Vec::new();
        for folder in fs::read_dir(&self.root)? {
            let folder = folder?;
            let first = folder.file_name().to_string_lossy().into_owned();
            for file in fs::read_dir(folder.path())? {
                let rest = file?.file_name().to_string_lossy().into_owned();
                all.extend(ContentHash::from_hex(&format!("{first}{rest}")));
            }
        }
        Ok(all)
    }

    /// Frees the disk of what was discarded. It may take long, and holds nobody up.
    pub(super) fn empty_trash(&self) -> io::Result<()> {
        for file in fs::read_dir(&self.trash)? {
            let path = file?.path();
            // A name without a dot is ours; the others are being written.
            let discarded = path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.'));
            if discarded {
                failpoint::pass("trash.empty");
                match fs::remove_file(path) {
                    // Another collection was here first.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    other => other?,
                }
                failpoint::pass("trash.emptied");
            }
        }
        Ok(())
    }
}

fn sync_folder(file: &Path) -> io::Result<()> {
    file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs() -> (tempfile::TempDir, Arc<Blobs>) {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path().join("blobs"), folder.path().join("trash")).unwrap();
        (folder, Arc::new(blobs))
    }

    #[test]
    fn a_file_is_named_by_its_content_and_there_once() {
        let (folder, blobs) = blobs();
        let file = folder.path().join("file");
        fs::write(&file, "content").unwrap();
        let first = blobs.take(&file, None, true).unwrap();
        let second = blobs.put(&[b"con", b"tent"], false).unwrap();
        assert!(!file.exists());
        assert_eq!((first.hash(), first.path()), (second.hash(), second.path()));
        assert_eq!(first.hash(), ContentHash::of(b"content"));
        assert_eq!(ContentHash::from_hex(&first.hash().to_string()), Some(first.hash()));
        assert_eq!(fs::read(first.path()).unwrap(), b"content");
        assert_eq!(blobs.all().unwrap(), [first.hash()]);
    }

    #[test]
    fn what_is_pinned_stays() {
        let (_folder, blobs) = blobs();
        let pin = blobs.put(&[b"x"], false).unwrap();
        let (hash, path) = (pin.hash(), pin.path());
        blobs.discard(hash).unwrap();
        assert!(path.exists());
        drop(pin);
        blobs.discard(hash).unwrap();
        blobs.discard(hash).unwrap();
        assert!(!path.exists());
        blobs.empty_trash().unwrap();
        assert_eq!(fs::read_dir(&blobs.trash).unwrap().count(), 0);
    }

    #[test]
    fn several_may_empty_the_trash_at_once() {
        let (_folder, blobs) = blobs();
        for number in 0..200 {
            fs::write(blobs.trash.join(number.to_string()), "x").unwrap();
        }
        let emptying: Vec<_> = (0..4)
            .map(|_| {
                let blobs = Arc::clone(&blobs);
                std::thread::spawn(move || blobs.empty_trash())
            })
            .collect();
        for one in emptying {
            one.join().unwrap().unwrap();
        }
        assert_eq!(fs::read_dir(&blobs.trash).unwrap().count(), 0);
    }

    #[test]
    fn what_was_spared_for_a_reader_is_looked_at_again() {
        let (_folder, blobs) = blobs();
        let hash = blobs.put(&[b"content"], false).unwrap().hash();
        let hold = blobs.hold(&[(hash, 7)]).unwrap().unwrap();
        blobs.discard(hash).unwrap();
        assert!(blobs.path(hash).exists());
        assert!(blobs.released().is_empty(), "it is still being read");
        drop(hold);
        assert_eq!(blobs.released(), [hash]);
        assert!(blobs.released().is_empty(), "once is enough");
        blobs.discard(hash).unwrap();
        assert!(blobs.hold(&[(hash, 7)]).unwrap().is_none(), "it is gone");
        let other = blobs.put(&[b"other"], false).unwrap();
        assert!(blobs.hold(&[(other.hash(), 6)]).is_err(), "it was cut");
    }

    #[test]
    fn other_texts_are_no_hash() {
        for text in ["", "00", &"g".repeat(64), &"0".repeat(63), &"0".repeat(66)] {
            assert_eq!(ContentHash::from_hex(text), None, "{text:?}");
        }
    }
}
