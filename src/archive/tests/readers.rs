//! What other readers of tar archives see, in our terms.

use std::collections::HashMap;
use std::io::Read;
use std::process::Command;

use super::*;

/// What the `tar` crate sees, in our terms.
pub(super) fn listed_by_tar_crate(archive: &[u8]) -> std::io::Result<Vec<Got>> {
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
        // This crate alone has no number for a mode that is blank, which the others take for 0, or binary.
        let field = entry.header().as_old().mode;
        let mode = if field[0] == 0x80 { Ok(field[7].into()) } else { entry.header().mode() };
        let executable = !is_dir && mode.is_ok_and(|mode| mode & 0o100 != 0);
        all.push(Got { path, content: (!is_dir).then_some(content), executable });
    }
    Ok(all)
}

/// Folders may come twice and the root may come at all; neither is an entry of ours.
pub(super) fn canonical(mut all: Vec<Got>) -> Vec<Got> {
    all.retain(|entry| !entry.path.is_empty());
    all.sort();
    all.dedup_by(|a, b| a.content.is_none() && a == b);
    all
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

pub(super) fn listed_by_python(archives: &[Vec<u8>]) -> Vec<Vec<Got>> {
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

/// Lists every archive of a folder: for each its names, its long list, and the bytes of its files, each ended by an empty
/// line of its own. Nothing is unpacked.
const LIST_WITH_TAR: &str = r#"cd "$1" && for n in $(seq 0 $(($2 - 1))); do
    tar --quoting-style=literal -tf "$n" >"$n.names" && tar --numeric-owner -tvf "$n" >"$n.long" && tar -xOf "$n" >"$n.bytes" || exit
done"#;

pub(super) fn listed_by_gnu_tar(archives: &[&Vec<u8>]) -> Vec<Vec<Got>> {
    let folder = tempfile::tempdir().unwrap();
    for (n, archive) in archives.iter().enumerate() {
        std::fs::write(folder.path().join(n.to_string()), archive).unwrap();
    }
    let mut list = Command::new("sh");
    list.args(["-c", LIST_WITH_TAR, "sh"]).arg(folder.path()).arg(archives.len().to_string());
    output_of(list.env("LC_ALL", "C"), "tar");
    let text = |n: usize, kind| {
        let bytes = std::fs::read(folder.path().join(format!("{n}.{kind}"))).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let bytes = |n: usize| std::fs::read(folder.path().join(format!("{n}.bytes"))).unwrap();
    (0..archives.len()).map(|n| from_gnu_tar(&text(n, "names"), &text(n, "long"), &bytes(n))).collect()
}

/// A line of the long list starts with mode, owner and size; the contents stand one after the other.
fn from_gnu_tar(names: &str, long: &str, mut bytes: &[u8]) -> Vec<Got> {
    assert_eq!(names.lines().count(), long.lines().count());
    let entry = |(name, line): (&str, &str)| {
        let fields: Vec<_> = line.split_whitespace().take(3).collect();
        let (mode, size): (&str, usize) = (fields[0], fields[2].parse().unwrap());
        let is_dir = mode.starts_with('d');
        assert!(is_dir || mode.starts_with('-'), "{line}");
        let content = (!is_dir).then(|| {
            let (content, rest) = bytes.split_at(size);
            bytes = rest;
            content.to_vec()
        });
        let executable = !is_dir && mode.as_bytes()[3].is_ascii_lowercase();
        Got {
            path: name.strip_prefix("./").unwrap_or(name).trim_end_matches('/').to_owned(),
            content,
            executable,
        }
    };
    let got = names.lines().zip(long.lines()).map(entry).collect();
    assert!(bytes.is_empty(), "{} bytes more than the sizes say", bytes.len());
    got
}
