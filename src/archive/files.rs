//! Single files of a project, read from its frames: what a project says of itself, sources that are looked through.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Seek};
use std::ops::ControlFlow;

use super::Project;
use crate::runner::frame::{self, Kind};
use crate::runner::message::FileHead;

/// Content by path.
pub type Contents = BTreeMap<String, Vec<u8>>;

impl Project {
    /// The files of these paths that have at most `cap` bytes each; larger ones and those that are not there are left
    /// out. Blocks on the disk.
    ///
    /// # Errors
    /// The spool can't be read.
    pub fn contents(&self, paths: &[&str], cap: usize) -> io::Result<Contents> {
        let mut found = Contents::new();
        let wanted =
            |path: &str, size: u64| paths.contains(&path).then_some(cap).filter(|cap| size <= *cap as u64);
        self.each_file(wanted, |path, content| {
            found.insert(path.to_owned(), content);
            if found.len() == paths.len() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(found)
    }

    /// Goes through the files in their order. `wanted` is asked with path and size how many bytes of each are to be
    /// read, and `each` gets those. Blocks on the disk.
    ///
    /// # Errors
    /// The spool can't be read.
    pub fn each_file(
        &self,
        mut wanted: impl FnMut(&str, u64) -> Option<usize>,
        mut each: impl FnMut(&str, Vec<u8>) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let mut frames = BufReader::new(self.spool.open()?);
        let mut open: Option<OpenFile> = None;
        while let Some((kind, length)) = next_header(&mut frames)? {
            if kind == Kind::Data {
                match &mut open {
                    Some(file) => file.take(&mut frames, length)?,
                    None => skip(&mut frames, length as u64)?,
                }
                continue;
            }
            if let Some(file) = open.take()
                && each(&file.path, file.content).is_break()
            {
                return Ok(());
            }
            let mut payload = vec![0; length];
            frames.read_exact(&mut payload)?;
            if kind == Kind::File {
                let head: FileHead = serde_json::from_slice(&payload).map_err(io::Error::other)?;
                open = self.path_of(head.path).and_then(|path| {
                    let cap = wanted(&path, head.size)?;
                    Some(OpenFile { path, content: Vec::new(), left: cap })
                });
            }
        }
        if let Some(file) = open {
            let _ = each(&file.path, file.content);
        }
        Ok(())
    }
}

impl Project {
    /// The path in the project of a file that came under this one, if it is the project's at all.
    fn path_of(&self, path: String) -> Option<String> {
        match &self.top {
            None => Some(path),
            Some(prefix) => path.strip_prefix(prefix).map(str::to_owned),
        }
    }
}

/// The file whose data comes now.
struct OpenFile {
    path: String,
    content: Vec<u8>,
    /// Bytes that are still wanted.
    left: usize,
}

impl OpenFile {
    fn take(&mut self, frames: &mut BufReader<impl Read + Seek>, length: usize) -> io::Result<()> {
        let now = length.min(self.left);
        let start = self.content.len();
        self.content.resize(start + now, 0);
        frames.read_exact(&mut self.content[start..])?;
        self.left -= now;
        skip(frames, (length - now) as u64)
    }
}

fn next_header(frames: &mut impl Read) -> io::Result<Option<(Kind, usize)>> {
    let mut header = [0; frame::HEADER];
    match frames.read_exact(&mut header) {
        Ok(()) => frame::parse_header(header).map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Small steps stay in the buffer.
fn skip(frames: &mut BufReader<impl Read + Seek>, bytes: u64) -> io::Result<()> {
    frames.seek_relative(i64::try_from(bytes).map_err(io::Error::other)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::ProjectWriter;
    use crate::config::Config;

    /// The second file is too large for memory, and for one frame.
    fn project(spool: &std::path::Path) -> Project {
        let mut writer = ProjectWriter::new(spool, Config::default().archive_limits()).unwrap();
        writer.dir("src").unwrap();
        for (path, content) in [
            ("a.txt", b"first".to_vec()),
            ("src/large", vec![b'x'; 200_000]),
            ("empty", vec![]),
            ("z.txt", b"last".to_vec()),
        ] {
            writer.file(path, content.len() as u64, false).unwrap();
            writer.data(&content).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn files_are_found_by_path_and_only_up_to_the_cap() {
        let spool = tempfile::tempdir().unwrap();
        let project = project(spool.path());
        let paths = ["z.txt", "src/large", "empty", "gone", "src"];
        let small = project.contents(&paths, 64).unwrap();
        assert_eq!(small, Contents::from([("z.txt".into(), b"last".to_vec()), ("empty".into(), vec![])]));
        let all = project.contents(&paths, 200_000).unwrap();
        assert_eq!((all.len(), all["src/large"].len()), (3, 200_000));
        assert!(all["src/large"].iter().all(|byte| *byte == b'x'));
    }

    #[test]
    fn a_part_of_a_file_is_read_and_the_rest_passed_over() {
        let spool = tempfile::tempdir().unwrap();
        let mut seen = Vec::new();
        let wanted = |path: &str, _| (path != "a.txt").then_some(70_000);
        project(spool.path())
            .each_file(wanted, |path, content| {
                seen.push((path.to_owned(), content.len()));
                if path == "empty" { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .unwrap();
        assert_eq!(seen, [("src/large".to_owned(), 70_000), ("empty".to_owned(), 0)]);
    }

    #[test]
    fn a_spool_that_ends_early_is_an_error() {
        let spool = tempfile::tempdir().unwrap();
        let frames = project(spool.path()).frames().read().unwrap();
        let cut = Project::restored(&frames[..100_000], 0, spool.path()).unwrap();
        assert!(cut.contents(&["src/large"], 1 << 20).is_err());
    }
}
