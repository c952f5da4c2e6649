//! The strict reader: bytes of one large file, and entries of many small ones.

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use execbox::archive::{ArchiveLimits, ArchiveReader, Project};

/// Bytes that come at once, as from a request.
const PIECE: usize = 128 << 10;
const LIMITS: ArchiveLimits = ArchiveLimits { bytes: 1 << 30, entries: 200_000, depth: 32 };

fn tar(files: usize, bytes: usize) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let content = vec![b'x'; bytes];
    for file in 0..files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("folder{}/file{file}.py", file % 50), &*content).unwrap();
    }
    tar.into_inner().unwrap()
}

fn read(spool: &std::path::Path, archive: &[u8]) -> Project {
    let mut reader = ArchiveReader::new(spool, LIMITS).unwrap();
    archive.chunks(PIECE).try_for_each(|piece| reader.push(piece)).unwrap();
    reader.finish().unwrap()
}

#[divan::bench]
fn one_file_of_64_mib(bencher: Bencher<'_, '_>) {
    let (spool, archive) = (tempfile::tempdir().unwrap(), tar(1, 64 << 20));
    bencher.counter(BytesCount::new(archive.len())).bench(|| read(spool.path(), &archive));
}

#[divan::bench]
fn ten_thousand_files_of_100_bytes(bencher: Bencher<'_, '_>) {
    let (spool, archive) = (tempfile::tempdir().unwrap(), tar(10_000, 100));
    bencher.counter(ItemsCount::new(10_000_usize)).bench(|| read(spool.path(), &archive));
}

#[divan::bench]
fn one_small_project(bencher: Bencher<'_, '_>) {
    let (spool, archive) = (tempfile::tempdir().unwrap(), tar(1, 40));
    bencher.counter(ItemsCount::new(1_usize)).bench(|| read(spool.path(), &archive));
}
