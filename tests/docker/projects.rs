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
