//! The folders that runtimes are read from: those in the binary, and the operator's own on disk.

use std::collections::BTreeMap;
use std::path::Path;

use crate::runtime::CatalogueError;

/// Files by their path in the folder, with `/` between components.
pub(super) type Files = BTreeMap<String, Vec<u8>>;
/// Folders by name.
pub(super) type Folders = BTreeMap<String, Files>;

/// Its files are added to each build context, under [`BUILD_PREFIX`].
const BUILD_FOLDER: &str = "_build";
pub(super) const BUILD_PREFIX: &str = ".execbox/";
/// A build context is sent to the Engine from memory.
const MAX_FOLDER_BYTES: usize = 64 << 20;

#[derive(rust_embed::Embed)]
#[folder = "images/"]
#[exclude = "**/__pycache__/*"]
struct BuiltIn;

/// All runtime folders: the built-in ones, each replaced as a whole by the one of the same name in `folder`.
pub(super) fn read(folder: Option<&Path>) -> Result<Folders, CatalogueError> {
    let mut folders = built_in();
    if let Some(folder) = folder {
        folders.extend(on_disk(folder)?);
    }
    let build = folders.remove(BUILD_FOLDER).unwrap_or_default();
    folders.retain(|name, _| !name.starts_with(['_', '.']));
    for files in folders.values_mut() {
        files.extend(build.iter().map(|(path, content)| (format!("{BUILD_PREFIX}{path}"), content.clone())));
    }
    Ok(folders)
}

fn built_in() -> Folders {
    let mut folders = Folders::new();
    for path in BuiltIn::iter() {
        let Some((folder, file)) = path.split_once('/') else { continue };
        let Some(content) = BuiltIn::get(&path) else { continue };
        folders.entry(folder.to_owned()).or_default().insert(file.to_owned(), content.data.into_owned());
    }
    folders
}

fn on_disk(folder: &Path) -> Result<Folders, CatalogueError> {
    let mut folders = Folders::new();
    for name in children(folder)? {
        let path = folder.join(&name);
        if path.is_dir() {
            let (mut files, mut bytes) = (Files::new(), 0);
            collect(&path, "", &mut files, &mut bytes)?;
            folders.insert(name, files);
        }
    }
    Ok(folders)
}

/// Reads a folder and those in it. Links are followed: the folder is the operator's.
fn collect(folder: &Path, prefix: &str, files: &mut Files, bytes: &mut usize) -> Result<(), CatalogueError> {
    for name in children(folder)? {
        let path = folder.join(&name);
        if path.is_dir() {
            collect(&path, &format!("{prefix}{name}/"), files, bytes)?;
            continue;
        }
        let content = std::fs::read(&path).map_err(|error| CatalogueError::new(&path, error))?;
        *bytes += content.len();
        if *bytes > MAX_FOLDER_BYTES {
            let message = format!("with it the runtime's files are over {MAX_FOLDER_BYTES} bytes");
            return Err(CatalogueError::new(&path, message));
        }
        files.insert(format!("{prefix}{name}"), content);
    }
    Ok(())
}

fn children(folder: &Path) -> Result<Vec<String>, CatalogueError> {
    let failed = |error| CatalogueError::new(folder, error);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let name = name.into_string().map_err(|name| {
            CatalogueError::new(&folder.join(name), "a file name in a runtime's folder must be UTF-8")
        })?;
        names.push(name);
    }
    Ok(names)
}
