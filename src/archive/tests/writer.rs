//! Projects from files at hand.

use super::*;
use crate::archive::ProjectWriter;

fn writer(spool: &tempfile::TempDir) -> ProjectWriter {
    ProjectWriter::new(spool.path(), LIMITS).unwrap()
}

#[track_caller]
fn code_of<T>(result: Result<T, ArchiveError>) -> RefusalCode {
    match result {
        Err(ArchiveError::Refused { code, .. }) => code,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("accepted"),
    }
}

#[test]
fn what_is_written_is_in_the_spool_file_until_the_project_goes() {
    let spool = tempfile::tempdir().unwrap();
    let mut writer = writer(&spool);
    writer.dir("lib/").unwrap();
    writer.file("lib/a", 5, true).unwrap();
    writer.data(b"ab").unwrap();
    writer.data(b"").unwrap();
    writer.data(b"cde").unwrap();
    writer.file("empty", 0, false).unwrap();
    let project = writer.finish().unwrap();
    let executable = Got { executable: true, ..got_file("lib/a", b"abcde") };
    assert_eq!(decode(&project), [got_dir("lib"), executable, got_file("empty", b"")]);
    drop(project);
    assert_eq!(std::fs::read_dir(spool.path()).unwrap().count(), 0);
}

#[test]
fn content_is_cut_into_full_chunks_however_it_comes() {
    let spool = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..3 * DATA_CHUNK + 7).map(|n| n.to_le_bytes()[0]).collect();
    let mut writer = writer(&spool);
    writer.file("x", content.len() as u64, false).unwrap();
    for piece in content.chunks(50_001) {
        writer.data(piece).unwrap();
    }
    let project = writer.finish().unwrap();
    assert_eq!(decode(&project), [got_file("x", &content)]);
    let spooled = project.frames().read().unwrap();
    let mut decoder = Decoder::default();
    decoder.push(&spooled);
    let mut lengths = Vec::new();
    while let Some(frame) = decoder.next_frame().unwrap() {
        lengths.extend((frame.kind == Kind::Data).then_some(frame.payload.len()));
    }
    assert_eq!(lengths, [DATA_CHUNK, DATA_CHUNK, DATA_CHUNK, 7]);
}

#[test]
fn content_must_have_the_announced_size() {
    let spool = tempfile::tempdir().unwrap();
    let mut long = writer(&spool);
    long.file("x", 2, false).unwrap();
    assert_eq!(code_of(long.data(b"abc")), RefusalCode::BadArchive);
    assert_eq!(code_of(writer(&spool).data(b"a")), RefusalCode::BadArchive);
    let short = || {
        let mut short = writer(&spool);
        short.file("x", 2, false).unwrap();
        short.data(b"a").unwrap();
        short
    };
    assert_eq!(code_of(short().finish()), RefusalCode::BadArchive);
    assert_eq!(code_of(short().file("y", 0, false)), RefusalCode::BadArchive);
    assert_eq!(code_of(short().dir("y")), RefusalCode::BadArchive);
}

#[test]
fn the_policy_of_archives_holds() {
    let spool = tempfile::tempdir().unwrap();
    assert_eq!(code_of(writer(&spool).file("../x", 0, false)), RefusalCode::BadPath);
    assert_eq!(code_of(writer(&spool).file("x/", 0, false)), RefusalCode::BadPath);
    assert_eq!(code_of(writer(&spool).file("x", LIMITS.bytes + 1, false)), RefusalCode::TooLarge);
    let mut twice = writer(&spool);
    twice.file("x", 0, false).unwrap();
    assert_eq!(code_of(twice.file("./x", 0, false)), RefusalCode::DuplicateEntry);
}

#[test]
fn a_spool_folder_that_is_missing_is_our_fault() {
    let spool = tempfile::tempdir().unwrap();
    let mut writer = ProjectWriter::new(&spool.path().join("gone"), LIMITS).unwrap();
    writer.file("large", 10_000, false).unwrap();
    let error = writer.data(&[0; 10_000]).unwrap_err();
    assert!(matches!(error, ArchiveError::Spool(_)), "{error}");
}
