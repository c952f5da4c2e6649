//! Archives made byte by byte, and what becomes of them. Tests carry the number of their case.

mod compression;
mod differential;
mod fuzz_targets;
mod hostile;
mod links;
mod metadata;
mod paths;
mod readers;
mod real;
mod shape;
mod top;
mod types;
mod writer;

use std::cell::RefCell;
use std::ops::Range;
use std::process::Command;

use super::header::BLOCK;
use super::{ArchiveError, ArchiveLimits, ArchiveReader, EntryKind, Project, RefusalCode};
use crate::runner::frame::{DATA_CHUNK, Decoder, Kind};
use crate::runner::message::{FileHead, LinkHead};

const LIMITS: ArchiveLimits = ArchiveLimits { bytes: 1 << 20, entries: 1000, depth: 32 };
const SIZE: Range<usize> = 124..136;
const PREFIX: Range<usize> = 345..500;
const MAGIC: Range<usize> = 257..265;

/// A header with what follows it, any byte of it free to be wrong.
#[derive(Clone)]
struct Member {
    header: [u8; BLOCK],
    content: Vec<u8>,
}

impl Member {
    fn new(kind: u8, name: &[u8], content: &[u8]) -> Self {
        let mut header = [0; BLOCK];
        header[..name.len()].copy_from_slice(name);
        header[100..124].copy_from_slice(b"0000644\x000000000\x000000000\0");
        header[136..148].copy_from_slice(b"00000000000\0");
        header[156] = kind;
        header[MAGIC].copy_from_slice(b"ustar\x0000");
        Self { header, content: content.to_vec() }.size(format!("{:011o}\0", content.len()).as_bytes())
    }

    fn size(self, field: &[u8]) -> Self {
        self.field(SIZE, field)
    }

    fn field(mut self, range: Range<usize>, value: &[u8]) -> Self {
        self.header[range.clone()].fill(0);
        self.header[range.start..range.start + value.len()].copy_from_slice(value);
        self
    }

    fn gnu(self) -> Self {
        self.field(MAGIC, b"ustar  \0")
    }

    fn v7(self) -> Self {
        self.field(MAGIC, b"")
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header.to_vec();
        sign(&mut bytes);
        bytes.extend_from_slice(&self.content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }
}

/// Puts the right checksum into the header at the start of `block`.
fn sign(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block[..BLOCK].iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn file(name: impl AsRef<[u8]>, content: &[u8]) -> Member {
    Member::new(b'0', name.as_ref(), content)
}

fn link(kind: u8, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Member {
    Member::new(kind, name.as_ref(), b"").field(157..257, target.as_ref())
}

fn symbolic(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Member {
    link(b'2', name, target)
}

fn hard(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Member {
    link(b'1', name, target)
}

fn dir(name: impl AsRef<[u8]>) -> Member {
    Member::new(b'5', name.as_ref(), b"")
}

fn long_name(name: impl AsRef<[u8]>) -> Member {
    Member::new(b'L', b"././@LongLink", &[name.as_ref(), b"\0"].concat()).gnu()
}

fn pax(records: &[(&str, &[u8])]) -> Member {
    pax_of(b'x', records)
}

fn pax_of(kind: u8, records: &[(&str, &[u8])]) -> Member {
    let body: Vec<u8> = records.iter().flat_map(|(key, value)| pax_record(key, value)).collect();
    Member::new(kind, b"./PaxHeaders/entry", &body)
}

fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    // The length counts its own digits.
    let length = (1..).map(|digits| rest + digits).find(|all| all.to_string().len() == all - rest).unwrap();
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

fn open_tar(members: &[Member]) -> Vec<u8> {
    members.iter().flat_map(Member::bytes).collect()
}

fn tar_of(members: &[Member]) -> Vec<u8> {
    let mut archive = open_tar(members);
    archive.extend_from_slice(&[0; 2 * BLOCK]);
    archive
}

/// What a tool writes. A machine without it fails the test, for a test that did not run must not look passed.
#[track_caller]
fn output_of(tool: &mut Command, package: &str) -> Vec<u8> {
    let output = tool.output().unwrap_or_else(|error| {
        panic!("{:?}: {error}; install the Debian package {package}", tool.get_program())
    });
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "is it the one of the Debian package {package}? {errors}");
    output.stdout
}

/// An entry as the runner gets it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Got {
    path: String,
    /// `None` for a folder.
    content: Option<Vec<u8>>,
    executable: bool,
}

fn got_file(path: &str, content: &[u8]) -> Got {
    Got { path: path.into(), content: Some(content.into()), executable: false }
}

/// A symbolic link; they come after all files.
fn got_link(path: &str, target: &str) -> Got {
    got_dir(&format!("{path} -> {target}"))
}

fn got_dir(path: &str) -> Got {
    Got { path: path.into(), content: None, executable: false }
}

/// Reads with all defaults.
fn read(archive: &[u8]) -> Result<Vec<Got>, (RefusalCode, String)> {
    read_in_pieces(archive, archive.len().max(1), LIMITS)
}

fn read_in_pieces(
    archive: &[u8],
    piece: usize,
    limits: ArchiveLimits,
) -> Result<Vec<Got>, (RefusalCode, String)> {
    let spool = tempfile::tempdir().unwrap();
    let result = read_project(archive, piece, limits, spool.path()).map(|project| decode(&project));
    let left = std::fs::read_dir(spool.path()).unwrap().count();
    assert_eq!(left, 0, "spool files outlive their project");
    result.map_err(|error| match error {
        ArchiveError::Refused { code, message } => (code, message),
        ArchiveError::Spool(error) => panic!("spool: {error}"),
    })
}

fn read_project(
    archive: &[u8],
    piece: usize,
    limits: ArchiveLimits,
    spool: &std::path::Path,
) -> Result<Project, ArchiveError> {
    let mut reader = ArchiveReader::new(spool, limits)?;
    for bytes in archive.chunks(piece) {
        reader.push(bytes)?;
    }
    reader.finish()
}

/// What the spool file says, after checking that it agrees with the project's own list.
fn decode(project: &Project) -> Vec<Got> {
    let mut decoder = Decoder::default();
    decoder.push(&project.frames().read().unwrap());
    let (mut got, mut heads) = (Vec::<Got>::new(), Vec::<FileHead>::new());
    let mut links = Vec::new();
    while let Some(frame) = decoder.next_frame().unwrap() {
        if frame.kind == Kind::Data {
            assert!((1..=DATA_CHUNK).contains(&frame.payload.len()));
            got.last_mut().unwrap().content.as_mut().unwrap().extend_from_slice(frame.payload);
            continue;
        }
        if frame.kind == Kind::Link {
            let link: LinkHead = serde_json::from_slice(frame.payload).unwrap();
            links.push(got_link(&link.path, &link.target));
            continue;
        }
        let head: FileHead = serde_json::from_slice(frame.payload).unwrap();
        let content = match frame.kind {
            Kind::Dir => None,
            Kind::File => Some(Vec::new()),
            other => panic!("{other:?}"),
        };
        got.push(Got { path: head.path.clone(), content, executable: head.executable });
        heads.push(head);
    }
    assert_eq!(decoder.pending(), 0);
    check_list(project, &got, &heads);
    got.extend(links);
    got
}

fn check_list(project: &Project, got: &[Got], heads: &[FileHead]) {
    assert_eq!(project.entries().len(), got.len());
    let mut sum = 0;
    for ((entry, got), head) in project.entries().iter().zip(got).zip(heads) {
        assert_eq!(entry.path, got.path);
        let kind = match &got.content {
            None => EntryKind::Dir,
            Some(content) => {
                assert_eq!(head.size, content.len() as u64);
                EntryKind::File { size: head.size, executable: got.executable }
            }
        };
        assert_eq!(entry.kind, kind);
        sum += head.size;
    }
    assert_eq!(project.bytes(), sum);
}

thread_local! {
    /// Every archive that this thread has seen refused, while somebody wants to know.
    static REFUSED: RefCell<Option<Vec<Vec<u8>>>> = const { RefCell::new(None) };
}

/// The archives that a test asserts to be refused.
fn refused_in(test: fn()) -> Vec<Vec<u8>> {
    REFUSED.set(Some(Vec::new()));
    test();
    REFUSED.take().unwrap_or_default()
}

#[track_caller]
fn assert_refused(archive: &[u8], code: RefusalCode) -> String {
    REFUSED.with_borrow_mut(|refused| refused.as_mut().map(|all| all.push(archive.to_vec())));
    match read(archive) {
        Err((got, message)) => {
            assert_eq!(got, code, "{message}");
            assert!(!message.chars().any(char::is_control), "{message:?}");
            message
        }
        Ok(got) => panic!("accepted: {got:?}"),
    }
}

#[track_caller]
fn assert_accepted(archive: &[u8], expected: &[Got]) {
    assert_eq!(read(archive).as_deref(), Ok(expected));
}
