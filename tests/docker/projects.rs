//! Projects from the repository's folders, as archives.

use std::path::{Path, PathBuf};

/// A folder of this repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The folder as a tar archive.
pub fn tar(folder: &Path) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all(".", folder).unwrap();
    builder.into_inner().unwrap()
}

/// A tar archive of these files.
pub fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append_data(&mut header, path, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// An entry of an archive.
pub enum Packed<'a> {
    Dir(&'a str),
    File(&'a str, &'a [u8]),
    /// A symbolic link, with its target.
    Link(&'a str, &'a str),
    /// A hard link, with its target.
    Copy(&'a str, &'a str),
}

/// An archive as Go's writer makes it where a client puts `fs.FileMode` into the header: its bits for folders and links do
/// not fit seven octal digits, so the mode is a binary number and the layout GNU's.
pub fn go_tar(entries: &[Packed<'_>]) -> Vec<u8> {
    const BLOCK: usize = 512;
    let mut archive = Vec::new();
    for entry in entries {
        let (kind, name, target, content, mode) = match *entry {
            Packed::Dir(name) => (b'5', name, "", &b""[..], 1 << 31 | 0o755_u64),
            Packed::File(name, content) => (b'0', name, "", content, 0o644),
            Packed::Link(name, target) => (b'2', name, target, &b""[..], 1 << 27 | 0o777),
            Packed::Copy(name, target) => (b'1', name, target, &b""[..], 0o644),
        };
        let mut header = [0; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, name.as_bytes());
        let binary = (mode | 1 << 63).to_be_bytes();
        put(100, if mode < 1 << 21 { b"0000644\0" } else { &binary });
        put(108, b"0001750\x000001750\0");
        put(124, format!("{:011o}\x0014725363501\0        ", content.len()).as_bytes());
        put(156, &[kind]);
        put(157, target.as_bytes());
        put(257, b"ustar  \0user");
        put(297, b"user");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend_from_slice(&header);
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    archive.resize(archive.len() + 2 * BLOCK, 0);
    archive
}

/// The `.toml` files of a folder, by name without the ending, in order.
pub fn described(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(repository(folder)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// Reads a description.
pub fn describe<T: serde::de::DeserializeOwned>(path: &str) -> T {
    let text = std::fs::read_to_string(repository(path)).unwrap();
    toml::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A runtime's folder under `images/`.
#[derive(serde::Deserialize)]
pub struct Folder {
    /// The folder's own name.
    #[serde(skip)]
    pub folder: String,
    /// The folder of its language under `examples/` and `tests/fixtures/runtimes/`: versions share it.
    #[serde(skip)]
    pub language: String,
    pub name: String,
    pub version: String,
}

/// Every runtime's folder, in order.
pub fn runtime_folders() -> Vec<Folder> {
    let entries = std::fs::read_dir(repository("images")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.starts_with('_'));
    names.sort();
    let read = |folder: String| {
        let runtime: Folder = describe(&format!("images/{folder}/runtime.toml"));
        let language = folder.strip_suffix(&format!("-{}", runtime.version)).unwrap_or(&folder).to_owned();
        Folder { folder, language, ..runtime }
    };
    names.into_iter().map(read).collect()
}
