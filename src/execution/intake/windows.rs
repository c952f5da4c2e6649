//! Sources as editors of Windows save them: with a byte order mark, which goes, or in a form that a program does not survive,
//! which is said.

use std::io;
use std::ops::ControlFlow;

use crate::archive::Project;
use crate::execution::intake::start::Start;
use crate::runner::message::BYTE_ORDER_MARK;
use crate::runtime::shown;

/// Most files that are looked into.
const MAX_FILES: usize = 200;
/// Bytes of each.
const HEAD: usize = 512;
/// Most files that are named.
const NAMED: usize = 5;

/// Looks at the heads of the project's files. Blocks on the disk where the project is in a file.
pub(super) fn look(project: &mut Project, start: &Start) -> io::Result<Vec<String>> {
    let (mut marked, mut notices, mut files) = (Vec::new(), Vec::new(), 0);
    let is_source = |path: &str| path == start.entrypoint || start.runtime.has_extension(path);
    let wanted = |path: &str, _| {
        let may_be_script = is_source(path) || path.ends_with(".sh") || !path.contains('.');
        may_be_script.then_some(HEAD)
    };
    project.each_file(wanted, |path, head| {
        files += 1;
        if is_source(path) && head.starts_with(BYTE_ORDER_MARK) {
            marked.push(path.to_owned());
        }
        let head = head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&head);
        let fault = if is_source(path) && (head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff")) {
            Some("is in UTF-16, as editors of Windows save it; save it in UTF-8")
        } else if ends_first_line_with_crlf(head)
            && (head.starts_with(b"#!") || is_source(path) && start.runtime.signs.refuses_crlf)
        {
            Some("has the line ends of Windows (CRLF); save it with those of Unix (LF)")
        } else {
            None
        };
        notices.extend(fault.map(|fault| format!("{} {fault}", shown(path))));
        if files < MAX_FILES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    for path in &marked {
        project.unmark(path)?;
    }
    if notices.len() > NAMED {
        let more = notices.len() - NAMED;
        notices.truncate(NAMED);
        notices.push(format!("{more} more files are as editors of Windows save them"));
    }
    Ok(notices)
}

fn ends_first_line_with_crlf(head: &[u8]) -> bool {
    let end = head.iter().position(|byte| *byte == b'\n');
    end.is_some_and(|end| end > 0 && head[end - 1] == b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::ProjectWriter;
    use crate::config::Config;
    use crate::runtime::Catalogue;

    fn told(language: &str, files: &[(&str, &[u8])]) -> (Vec<String>, usize) {
        let spool = tempfile::tempdir().unwrap();
        let mut writer = ProjectWriter::new(spool.path(), Config::default().archive_limits()).unwrap();
        for (path, content) in files {
            writer.file(path, content.len() as u64, false).unwrap();
            writer.data(content).unwrap();
        }
        let mut project = writer.finish().unwrap();
        let before = project.frames().read().unwrap().len();
        let runtime = Catalogue::load(None).unwrap().resolve(language).unwrap();
        let notices =
            look(&mut project, &Start { runtime, entrypoint: files[0].0.into(), is_chosen: true }).unwrap();
        (notices, project.frames().read().unwrap().len() - before)
    }

    #[test]
    fn what_a_program_does_not_survive_is_said() {
        for (language, path, content, says) in [
            ("bash", "main.sh", &b"#!/bin/bash\r\nif true; then\r\n"[..], Some("main.sh has the line ends")),
            ("bash", "main.sh", b"echo 1\r\necho 2\r\n", Some("line ends of Windows (CRLF)")),
            ("bash", "main.sh", b"echo 1\necho 2\r\n", None),
            ("python", "main.py", b"print(1)\r\n", None),
            ("python", "main.py", b"#!/usr/bin/env python3\r\nprint(1)\r\n", Some("line ends")),
            ("python", "main.py", b"\xff\xfep\0r\0", Some("main.py is in UTF-16")),
            ("java", "Main.java", b"\xfe\xff\0c\0l", Some("Main.java is in UTF-16")),
            ("python", "main.py", b"\n", None),
            ("python", "main.py", b"", None),
        ] {
            let (notices, _) = told(language, &[(path, content)]);
            match says {
                Some(says) => assert!(notices.len() == 1 && notices[0].contains(says), "{notices:?}"),
                None => assert!(notices.is_empty(), "{notices:?}"),
            }
        }
        let helper = [("main.py", &b"1"[..]), ("run.sh", b"#!/bin/sh\r\n"), ("data", b"\xff\xfe")];
        assert_eq!(told("python", &helper).0.len(), 1);
        let many: Vec<String> = (0..9).map(|at| format!("m{at}.sh")).collect();
        let many: Vec<(&str, &[u8])> = many.iter().map(|path| (path.as_str(), &b"x\r\n"[..])).collect();
        assert_eq!(told("bash", &many).0.len(), NAMED + 1);
    }

    #[test]
    fn a_byte_order_mark_goes_from_sources_only() {
        let marked = b"\xef\xbb\xbfclass Main {}";
        assert!(told("java", &[("Main.java", marked)]).1 > 0);
        assert_eq!(told("java", &[("Main.java", b"class Main {}"), ("data.csv", marked)]).1, 0);
    }
}
