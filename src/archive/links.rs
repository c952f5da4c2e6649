//! Links of a project. A symbolic link that stays inside the project is made by the runner, after all files; a hard link is
//! a copy of the earlier file. What leads outside is left out, and the caller is told.

use std::io;

use super::path::quoted;
use super::spool::SpoolWriter;
use super::writer::duplicate;
use super::{ArchiveError, ProjectWriter};
use crate::runner::frame::{HEADER, Kind, parse_header};
use crate::runner::message::{FileHead, LinkHead};

/// Longest target, as on every Linux file system.
const MAX_TARGET: usize = 4095;
/// Links that are named to the caller.
const NAMED: usize = 16;

/// Links that were left out, as sentences for the caller.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    sentences: Vec<String>,
    more: u64,
}

impl LeftOut {
    pub(super) fn add(&mut self, sentence: String) {
        if self.sentences.len() < NAMED {
            self.sentences.push(sentence);
        } else {
            self.more += 1;
        }
    }

    pub(super) fn told(mut self) -> Vec<String> {
        if self.more > 0 {
            self.sentences.push(format!("{} more links were left out", self.more));
        }
        self.sentences
    }
}

/// Says that a link was left out because of where it leads.
pub(super) fn outside(path: &str, target: &[u8]) -> String {
    let (path, target) = (quoted(path.as_bytes()), quoted(target));
    format!("the link {path} was left out: {target} is not inside the project")
}

impl ProjectWriter {
    /// Adds a symbolic link. One that does not stay inside the project is left out, and is a notice of the project; nothing
    /// can be beneath either.
    ///
    /// # Errors
    /// The path, an entry of the same path, or the cap.
    pub fn link(&mut self, path: &str, target: &[u8]) -> Result<(), ArchiveError> {
        self.add_link(path.as_bytes(), target)
    }

    /// [`Self::link`] for a name that need not be text.
    pub(super) fn add_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), ArchiveError> {
        let path = self.take_link_path(path)?;
        let plain = std::str::from_utf8(target).ok().filter(|text| {
            text.len() <= MAX_TARGET && !text.chars().any(|letter| letter.is_control() || letter == '\\')
        });
        let link = plain.map(|plain| LinkHead { path: path.clone(), target: plain.to_owned() });
        let Some(link) = link.filter(LinkHead::leads_inside) else {
            self.left_out.add(outside(&path, target));
            return Ok(());
        };
        self.count_name(&link.path)?;
        self.count_name(&link.target)?;
        self.write_message(Kind::Link, &link)?;
        self.links.push(link);
        Ok(())
    }

    /// Adds a copy of the file that came under the name `target` before. Its bytes count like any file's. Without such a
    /// file it is left out.
    pub(super) fn add_hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), ArchiveError> {
        self.check_whole()?;
        let earlier = self.check_path(target).ok().and_then(|target| self.tree.file_at(&target));
        let Some(at) = earlier else {
            let path = self.take_link_path(path)?;
            let (path, target) = (quoted(path.as_bytes()), quoted(target));
            self.left_out.add(format!(
                "the hard link {path} was left out: {target} is no file that comes before it in the archive"
            ));
            return Ok(());
        };
        let (head, mut at) = head_at(&mut self.out, at)?;
        self.add_file(path, head.size, head.executable)?;
        let mut left = head.size;
        while left > 0 {
            let (length, content) = header_at(&mut self.out, at, Kind::Data)?;
            let mut chunk = vec![0; length];
            self.out.read_at(content, &mut chunk)?;
            self.data(&chunk)?;
            at = content + length as u64;
            left = left.saturating_sub(length as u64);
        }
        Ok(())
    }

    /// The canonical path of a link, whose place is taken whether the link is made or not.
    fn take_link_path(&mut self, path: &[u8]) -> Result<String, ArchiveError> {
        self.check_whole()?;
        let path = self.check_path(path)?;
        self.count(1)?;
        let added = self.tree.add_link(&path).map_err(|conflict| duplicate(&path, &conflict))?;
        self.count(added.implied_dirs)?;
        Ok(path)
    }
}

/// The head of the file whose frames begin here, and where they go on.
fn head_at(spool: &mut SpoolWriter, at: u64) -> io::Result<(FileHead, u64)> {
    let (length, content) = header_at(spool, at, Kind::File)?;
    let mut message = vec![0; length];
    spool.read_at(content, &mut message)?;
    Ok((serde_json::from_slice(&message).map_err(io::Error::other)?, content + length as u64))
}

/// Length of the frame that begins here, and where its payload does.
fn header_at(spool: &mut SpoolWriter, at: u64, expected: Kind) -> io::Result<(usize, u64)> {
    let mut header = [0; HEADER];
    spool.read_at(at, &mut header)?;
    match parse_header(header) {
        Ok((kind, length)) if kind == expected => Ok((length, at + HEADER as u64)),
        _ => Err(io::Error::other("the spool is not as it was written")),
    }
}
