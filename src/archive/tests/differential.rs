//! A25: whatever we accept, other readers list the same way.

use std::collections::HashMap;
use std::io::Read;
use std::process::Command;

use proptest::prelude::*;

use super::*;

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
    ]
}

/// What the `tar` crate sees, in our terms.
fn listed_by_tar_crate(archive: &[u8]) -> std::io::Result<Vec<Got>> {
    let mut all = Vec::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = name.strip_prefix("./").unwrap_or(&name).trim_end_matches('/').to_owned();
        let kind = entry.header().entry_type();
        if kind == tar::EntryType::XGlobalHeader {
            continue;
        }
        let is_dir = kind.is_dir() || entry.header().as_ustar().is_none() && name.ends_with('/');
        assert!(is_dir || kind.is_file(), "{kind:?}");
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        // This crate alone has no number for a blank mode; the others take it for 0, as we do.
        let executable = !is_dir && entry.header().mode().is_ok_and(|mode| mode & 0o100 != 0);
        all.push(Got { path, content: (!is_dir).then_some(content), executable });
    }
    Ok(all)
}

/// Folders may come twice and the root may come at all; neither is an entry of ours.
fn canonical(mut all: Vec<Got>) -> Vec<Got> {
    all.retain(|entry| !entry.path.is_empty());
    all.sort();
    all.dedup_by(|a, b| a.content.is_none() && a == b);
    all
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
    for seed in seeds() {
        assert_eq!(canonical(read(&seed).unwrap()), canonical(listed_by_tar_crate(&seed).unwrap()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a25_mutated_archives_are_refused_or_listed_alike(
        seed in prop::sample::select(seeds()),
        mutations in prop::collection::vec(mutation(), 0..4),
    ) {
        let mut archive = seed;
        for mutation in &mutations {
            mutate(&mut archive, mutation);
        }
        if let Ok(ours) = read(&archive) {
            let theirs = listed_by_tar_crate(&archive);
            prop_assert!(theirs.is_ok(), "ours {ours:?}, the tar crate {theirs:?}");
            prop_assert_eq!(canonical(ours), canonical(theirs.unwrap()));
        }
    }
}

/// Lists every archive of a folder, as JSON.
const LIST_WITH_PYTHON: &str = "
import json, os, sys, tarfile
os.chdir(sys.argv[1])
def lists(path):
    with tarfile.open(path, 'r:') as tar:
        return [[e.name, None if e.isdir() else tar.extractfile(e).read().hex(), bool(e.mode & 0o100)] for e in tar]
json.dump({path: lists(path) for path in os.listdir('.')}, sys.stdout)";

type PythonList = Vec<(String, Option<String>, bool)>;

fn listed_by_python(archives: &[Vec<u8>]) -> Vec<Vec<Got>> {
    let folder = tempfile::tempdir().unwrap();
    for (n, archive) in archives.iter().enumerate() {
        std::fs::write(folder.path().join(n.to_string()), archive).unwrap();
    }
    let list =
        output_of(Command::new("python3").args(["-c", LIST_WITH_PYTHON]).arg(folder.path()), "python3");
    let mut lists: HashMap<String, PythonList> = serde_json::from_slice(&list).unwrap();
    (0..archives.len()).map(|n| from_python(lists.remove(&n.to_string()).unwrap())).collect()
}

fn from_python(list: PythonList) -> Vec<Got> {
    let bytes = |hex: &String| {
        let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect::<Vec<u8>>()
    };
    list.into_iter()
        .map(|(name, hex, executable)| Got {
            path: name.strip_prefix("./").unwrap_or(if name == "." { "" } else { &name }).to_owned(),
            executable: executable && hex.is_some(),
            content: hex.as_ref().map(bytes),
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 50, ..ProptestConfig::with_cases(4) })]

    #[test]
    fn a25_python_lists_alike_what_is_accepted(
        tries in prop::collection::vec(
            (prop::sample::select(seeds()), prop::collection::vec(mutation(), 1..3)), 1000),
    ) {
        let mutated = tries.into_iter().map(|(mut archive, mutations)| {
            mutations.iter().for_each(|mutation| mutate(&mut archive, mutation));
            archive
        });
        let accepted: Vec<_> = mutated.filter_map(|archive| Some((read(&archive).ok()?, archive))).collect();
        let (ours, archives): (Vec<_>, Vec<_>) = accepted.into_iter().unzip();
        for (ours, theirs) in ours.into_iter().zip(listed_by_python(&archives)) {
            prop_assert_eq!(canonical(ours), canonical(theirs));
        }
    }
}
