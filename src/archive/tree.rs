//! Which paths a project has so far, to find names that collide.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::{BuildHasher, Hasher};

/// The paths so far, as hashes under a random key. Names can be 4 KiB long and imply 32 folders each; the hashes keep
/// the memory at a few bytes each. Two paths of one hash can only refuse a good project, never let a bad one pass, and
/// with 64 bits they don't meet.
#[derive(Debug, Default)]
pub(super) struct Tree {
    key: RandomState,
    nodes: HashMap<u64, Node>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    /// With the place of its frames.
    File(u64),
    /// A link, whether it is made or left out.
    Link,
    Dir,
    /// A folder that a path went through, without an entry of its own so far.
    ImpliedDir,
}

/// What adding a path did.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Added {
    /// Folders on the way that nothing had named before.
    pub(super) implied_dirs: u64,
    /// The folder had an entry before.
    pub(super) repeated: bool,
}

/// Why a path can't be added.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Conflict {
    /// A file has this path already.
    FileTwice,
    /// The path is a folder in one entry and a file in another.
    FileAndDir,
    /// A folder of the path is a link.
    ThroughLink,
}

impl Tree {
    /// Adds a file, with the place of its frames.
    pub(super) fn add_file(&mut self, path: &str, at: u64) -> Result<Added, Conflict> {
        self.add_leaf(path, Node::File(at))
    }

    /// Adds a link. Nothing can be beneath it.
    pub(super) fn add_link(&mut self, path: &str) -> Result<Added, Conflict> {
        self.add_leaf(path, Node::Link)
    }

    /// The place of a file's frames.
    pub(super) fn file_at(&self, path: &str) -> Option<u64> {
        let mut hasher = self.key.build_hasher();
        for (at, component) in path.split('/').enumerate() {
            if at > 0 {
                hasher.write(b"/");
            }
            hasher.write(component.as_bytes());
        }
        match self.nodes.get(&hasher.finish()) {
            Some(Node::File(at)) => Some(*at),
            _ => None,
        }
    }

    fn add_leaf(&mut self, path: &str, leaf: Node) -> Result<Added, Conflict> {
        let (implied_dirs, hash) = self.walk_to(path)?;
        match self.nodes.insert(hash, leaf) {
            None => Ok(Added { implied_dirs, repeated: false }),
            Some(Node::File(_) | Node::Link) => Err(Conflict::FileTwice),
            Some(Node::Dir | Node::ImpliedDir) => Err(Conflict::FileAndDir),
        }
    }

    /// Adds a folder; one path may be added many times.
    pub(super) fn add_dir(&mut self, path: &str) -> Result<Added, Conflict> {
        let (implied_dirs, hash) = self.walk_to(path)?;
        match self.nodes.insert(hash, Node::Dir) {
            Some(Node::File(_)) => Err(Conflict::FileAndDir),
            Some(Node::Link) => Err(Conflict::ThroughLink),
            before => Ok(Added { implied_dirs, repeated: before == Some(Node::Dir) }),
        }
    }

    /// Goes through the folders above `path`. Gives how many are new, and the hash of `path` itself.
    fn walk_to(&mut self, path: &str) -> Result<(u64, u64), Conflict> {
        let mut implied_dirs = 0;
        let mut hasher = self.key.build_hasher();
        let mut components = path.split('/').peekable();
        while let Some(component) = components.next() {
            hasher.write(component.as_bytes());
            if components.peek().is_none() {
                break;
            }
            match self.nodes.entry(hasher.finish()) {
                Entry::Vacant(place) => {
                    place.insert(Node::ImpliedDir);
                    implied_dirs += 1;
                }
                Entry::Occupied(place) => match place.get() {
                    Node::File(_) => return Err(Conflict::FileAndDir),
                    Node::Link => return Err(Conflict::ThroughLink),
                    Node::Dir | Node::ImpliedDir => {}
                },
            }
            hasher.write(b"/");
        }
        Ok((implied_dirs, hasher.finish()))
    }
}
