//! A25: whatever we accept, other readers list the same way. `make fuzz` does it for longer.

use std::cell::Cell;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};

use super::readers::{canonical, listed_by_gnu_tar, listed_by_python, listed_by_tar_crate};
use super::*;

/// How long to go on, in seconds; without it, [`BATCHES`] are enough.
const SECONDS: &str = "EXECBOX_TEST_SECONDS";
const BATCHES: usize = 4;
/// Archives that are made before the other readers are asked.
const BATCH: usize = 1000;

fn seeds() -> Vec<Vec<u8>> {
    vec![
        tar_of(&[file("main.py", b"print(1)"), dir("lib/"), file("lib/a", &[7; 600])]),
        tar_of(&[dir("./"), long_name("some/long/name"), file("x", b"1").gnu(), file("y", b"").gnu()]),
        tar_of(&[pax(&[("path", "naïve".as_bytes()), ("size", b"3"), ("mtime", b"1.5")]), file("x", b"abc")]),
        tar_of(&[
            pax_of(b'g', &[("comment", b"git")]),
            file("a/b", b"1").v7(),
            Member::new(0, b"d/", b"").v7(),
        ]),
        tar_of(&[file("x", &[1; 512]).field(PREFIX, b"pre/fix").field(100..108, b"0000755\0")]),
        tar_of(&[file("blank-mode", b"1").field(100..108, b"")]),
        tar_of(&[
            dir("go/").field(100..108, b"\x80\0\0\0\x80\0\x01\xed").gnu(),
            file("go/x", b"1").field(100..108, b"\x80\0\0\0\x04\0\x01\xed").gnu(),
        ]),
    ]
}

#[derive(Clone, Debug)]
enum Mutation {
    Byte { at: usize, value: u8 },
    Header { block: usize, at: usize, value: u8 },
    Swap { from: usize, to: usize },
    Repeat { block: usize },
    Remove { block: usize },
    Cut { at: usize },
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let interesting = prop_oneof![any::<u8>(), prop::sample::select(&b"\0 /.0157xgLKSD\n\x80\xff"[..])];
    // Where a header's meaning is: name, mode, size, type, magic, prefix.
    let meaning =
        prop_oneof![0..12_usize, 100..108_usize, 124..136_usize, Just(156), 257..265_usize, 345..350_usize];
    prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(at, value)| Mutation::Byte { at, value }),
        (0..9_usize, meaning, interesting).prop_map(|(block, at, value)| Mutation::Header {
            block,
            at,
            value
        }),
        (0..9_usize, 0..9_usize).prop_map(|(from, to)| Mutation::Swap { from, to }),
        (0..9_usize).prop_map(|block| Mutation::Repeat { block }),
        (0..9_usize).prop_map(|block| Mutation::Remove { block }),
        any::<usize>().prop_map(|at| Mutation::Cut { at }),
    ]
}

fn mutate(archive: &mut Vec<u8>, mutation: &Mutation) {
    let blocks = archive.len() / BLOCK;
    if blocks == 0 {
        return;
    }
    let range = |block: usize| (block % blocks) * BLOCK..(block % blocks + 1) * BLOCK;
    match *mutation {
        Mutation::Byte { at, value } => {
            let at = at % archive.len();
            archive[at] = value;
        }
        Mutation::Header { block, at, value } => {
            let header = &mut archive[range(block)];
            header[at] = value;
            sign(header);
        }
        Mutation::Swap { from, to } => {
            let (a, b) = (archive[range(from)].to_vec(), archive[range(to)].to_vec());
            archive[range(from)].copy_from_slice(&b);
            archive[range(to)].copy_from_slice(&a);
        }
        Mutation::Repeat { block } => {
            let copy = archive[range(block)].to_vec();
            archive.splice(range(block).start..range(block).start, copy);
        }
        Mutation::Remove { block } => drop(archive.drain(range(block))),
        Mutation::Cut { at } => archive.truncate(at % archive.len()),
    }
}

#[test]
fn a25_the_seeds_are_listed_alike() {
    let ours: Vec<_> = seeds().iter().map(|seed| canonical(read(seed).unwrap())).collect();
    compare(&ours, &seeds()).unwrap();
}

/// A seed with up to three changes.
fn archive() -> impl Strategy<Value = Vec<u8>> {
    let mutations = prop::collection::vec(mutation(), 0..4);
    (prop::sample::select(seeds()), mutations).prop_map(|(mut archive, mutations)| {
        mutations.iter().for_each(|mutation| mutate(&mut archive, mutation));
        archive
    })
}

#[test]
#[allow(clippy::disallowed_methods, reason = "`make fuzz` says how long")]
fn a25_mutated_archives_are_refused_or_listed_alike() {
    let seconds = std::env::var(SECONDS).ok().map(|text| Duration::from_secs(text.parse().unwrap()));
    let (started, tried, accepted) = (Instant::now(), Cell::new(0), Cell::new(0));
    while seconds.map_or(tried.get() < BATCHES * BATCH, |seconds| started.elapsed() < seconds) {
        // A runner of its own: one that has had its cases runs no more.
        let config = ProptestConfig {
            cases: 1,
            max_shrink_iters: 50,
            failure_persistence: None,
            ..Default::default()
        };
        let batch = TestRunner::new(config).run(&prop::collection::vec(archive(), BATCH), |archives| {
            tried.set(tried.get() + archives.len());
            let archives = archives.into_iter().filter(|archive| !has_links(archive));
            let taken = archives.filter_map(|archive| Some((canonical(read(&archive).ok()?), archive)));
            let (ours, archives): (Vec<_>, Vec<_>) = taken.unzip();
            accepted.set(accepted.get() + archives.len());
            compare(&ours, &archives)
        });
        batch.unwrap();
    }
    let (tried, accepted) = (tried.get(), accepted.get());
    println!("{tried} archives, {accepted} accepted; 0 listed differently, in {:.0?}", started.elapsed());
    assert!(accepted > tried / 20, "{accepted} of {tried}: nearly nothing was compared");
}

/// Copies are files to us and links to others.
fn has_links(archive: &[u8]) -> bool {
    let mut tar = tar::Archive::new(archive);
    let Ok(entries) = tar.entries() else { return false };
    entries.map_while(Result::ok).any(|entry| {
        let kind = entry.header().entry_type();
        kind.is_hard_link() || kind.is_symlink()
    })
}

/// Every other reader against ours. GNU tar takes processes for each archive, so it gets one in four.
fn compare(ours: &[Vec<Got>], archives: &[Vec<u8>]) -> Result<(), TestCaseError> {
    for (ours, archive) in ours.iter().zip(archives) {
        match listed_by_tar_crate(archive) {
            Ok(theirs) => same("the tar crate", archive, ours, theirs)?,
            Err(error) => prop_assert!(false, "ours {ours:?}, the tar crate {error}: {}", kept(archive)),
        }
    }
    for ((ours, archive), theirs) in ours.iter().zip(archives).zip(listed_by_python(archives)) {
        same("Python", archive, ours, theirs)?;
    }
    let few: Vec<_> = archives.iter().step_by(4).collect();
    for ((ours, archive), theirs) in ours.iter().zip(archives).step_by(4).zip(listed_by_gnu_tar(&few)) {
        same("GNU tar", archive, ours, theirs)?;
    }
    Ok(())
}

fn same(reader: &str, archive: &[u8], ours: &Vec<Got>, theirs: Vec<Got>) -> Result<(), TestCaseError> {
    let theirs = canonical(theirs);
    prop_assert!(*ours == theirs, "ours {ours:?}, {reader} {theirs:?}: {}", kept(archive));
    Ok(())
}

/// Where the archive is that readers disagree about.
fn kept(archive: &[u8]) -> String {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/artifacts");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("differential");
    std::fs::write(&path, archive).unwrap();
    path.display().to_string()
}
