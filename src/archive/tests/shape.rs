//! A17 to A19: where an archive ends, and how much there may be of it.

use super::*;

const BAD: RefusalCode = RefusalCode::BadArchive;

fn good() -> Vec<u8> {
    tar_of(&[
        pax_of(b'g', &[("comment", b"c")]),
        dir("lib/"),
        long_name("lib/a.py"),
        file("x", b"print(1)").gnu(),
        pax(&[("path", b"main.py")]),
        file("y", &[b'm'; 700]),
    ])
}

#[test]
pub(super) fn a17_a_good_archive_cut_at_every_byte_is_refused() {
    let archive = good();
    assert_eq!(read(&archive).unwrap().len(), 3);
    for end in 0..archive.len() {
        assert_refused(&archive[..end], BAD);
    }
}

#[test]
pub(super) fn a17_compressed_archives_cut_at_every_byte_are_refused() {
    for archive in [compression::gzip(&good()), compression::zstd(&good())] {
        assert_eq!(read(&archive).unwrap().len(), 3);
        for end in 0..archive.len() {
            assert_refused(&archive[..end], BAD);
        }
    }
}

#[test]
pub(super) fn a17_the_padding_of_a_record_is_accepted_and_nothing_else() {
    let mut archive = good();
    archive.resize(20 * 10_240, 0);
    assert_eq!(read(&archive).unwrap().len(), 3);
    for (at, byte) in [(good().len(), 1), (archive.len() - 1, b'x')] {
        let mut followed = archive.clone();
        followed[at] = byte;
        assert_refused(&followed, BAD);
    }
    assert_refused(&[good(), good()].concat(), BAD);
    assert_refused(&[good(), b"\n".to_vec()].concat(), BAD);
}

#[test]
pub(super) fn a17_one_block_of_zeros_is_no_end() {
    let zeros = |blocks: usize| vec![0; blocks * BLOCK];
    let body = open_tar(&[file("x", b"1")]);
    assert_refused(&body, BAD);
    assert_refused(&[body.clone(), zeros(1)].concat(), BAD);
    assert_refused(&[body.clone(), zeros(1), body.clone(), zeros(2)].concat(), BAD);
    assert_accepted(&[body, zeros(2)].concat(), &[got_file("x", b"1")]);
}

#[test]
fn archives_without_files_are_refused() {
    assert!(assert_refused(b"", BAD).contains("empty"));
    assert!(assert_refused(&compression::gzip(b""), BAD).contains("empty"));
    assert!(assert_refused(&[0; 10_240], BAD).contains("no files"));
    assert!(assert_refused(&tar_of(&[dir("./"), dir("a/")]), BAD).contains("no files"));
}

#[test]
pub(super) fn a_wrong_checksum_is_refused() {
    let mut archive = tar_of(&[file("x", b"1"), file("y", b"2")]);
    archive[1024 + 100] ^= 1;
    let message = assert_refused(&archive, BAD);
    assert!(message.contains("after \"x\"") && message.contains("checksum"), "{message}");
    archive[3] ^= 1;
    assert!(assert_refused(&archive, BAD).contains("not a tar archive"));
    assert_refused(&[b'x'; 5000], BAD);
    assert_refused(&[0xff; 5000], BAD);
}

#[test]
fn bytes_in_the_padding_of_content_mean_nothing() {
    let mut archive = tar_of(&[file("x", b"1")]);
    archive[1023] = 7;
    assert_accepted(&archive, &[got_file("x", b"1")]);
}

#[test]
fn a18_the_cap_on_entries_is_met_early() {
    let mut spool = Vec::new();
    let limits = ArchiveLimits { entries: 10, ..LIMITS };
    let of = |count: usize| (0..count).map(|n| file(format!("f{n}"), b"")).collect::<Vec<_>>();
    assert_eq!(read_in_pieces(&tar_of(&of(10)), 4096, limits).unwrap().len(), 10);
    assert_eq!(read_in_pieces(&tar_of(&of(11)), 4096, limits).unwrap_err().0, RefusalCode::TooManyEntries);
    // Not even the next byte is needed, however much would follow.
    spool.extend_from_slice(&open_tar(&of(11)));
    let dir = tempfile::tempdir().unwrap();
    let mut reader = ArchiveReader::new(dir.path(), limits).unwrap();
    let error = reader.push(&spool).unwrap_err();
    assert!(matches!(error, ArchiveError::Refused { code: RefusalCode::TooManyEntries, .. }), "{error}");
    assert!(reader.push(b"more").is_err() && reader.finish().is_err());
}

#[test]
fn a18_repeated_and_implied_folders_count() {
    let limits = ArchiveLimits { entries: 10, ..LIMITS };
    for members in [vec![dir("./"); 11], vec![dir("a/"); 11], vec![file("a/b/c/d/e/f/g/h/i/j/k", b"")]] {
        let (code, _) = read_in_pieces(&tar_of(&members), 512, limits).unwrap_err();
        assert_eq!(code, RefusalCode::TooManyEntries);
    }
    assert!(read_in_pieces(&tar_of(&[file("a/b/c/d/e/f/g/h/i/j", b"")]), 512, limits).is_ok());
}

#[test]
fn a18_names_have_a_budget() {
    let limits = ArchiveLimits { entries: 1000, ..LIMITS };
    let long = |n: usize| format!("{}{n}", format!("{}/", "d".repeat(200)).repeat(19));
    let members: Vec<_> = (0..300).flat_map(|n| [long_name(long(n)), file("x", b"").gnu()]).collect();
    let (code, message) = read_in_pieces(&tar_of(&members), 512, limits).unwrap_err();
    assert_eq!(code, RefusalCode::TooManyEntries, "{message}");
    assert!(message.contains("names"), "{message}");
}

#[test]
pub(super) fn a19_declared_sizes_over_the_cap_are_refused_before_the_content() {
    for sizes in
        [vec![(1 << 20) + 1], vec![1 << 19, (1 << 19) + 1], vec![u64::MAX >> 1], vec![1, u64::MAX >> 1]]
    {
        let mut archive = Vec::new();
        for (n, size) in sizes.iter().enumerate() {
            let binary = [&[0x80, 0, 0, 0][..], &size.to_be_bytes()].concat();
            let member = file(format!("f{n}"), b"").size(&binary);
            archive.extend_from_slice(&member.bytes());
            if n + 1 < sizes.len() {
                archive.resize(archive.len() + usize::try_from(*size).unwrap().next_multiple_of(BLOCK), 0);
            }
        }
        let message = assert_refused(&archive, RefusalCode::TooLarge);
        assert!(message.contains(&format!("\"f{}\"", sizes.len() - 1)), "{message}");
    }
}

#[test]
fn a19_exactly_the_cap_is_accepted() {
    let limits = ArchiveLimits { bytes: 1000, ..LIMITS };
    let archive = tar_of(&[file("a", &[1; 400]), file("b", &[2; 600])]);
    assert!(read_in_pieces(&archive, 100, limits).is_ok());
    let limits = ArchiveLimits { bytes: 999, ..LIMITS };
    assert_eq!(read_in_pieces(&archive, 100, limits).unwrap_err().0, RefusalCode::TooLarge);
}

#[test]
fn the_pieces_make_no_difference() {
    let large: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let archive =
        tar_of(&[dir("d/"), long_name("d/long"), file("x", &large).gnu(), file("y", &large[..513])]);
    let spooled = |archive: &[u8], piece| {
        let dir = tempfile::tempdir().unwrap();
        let project = read_project(archive, piece, LIMITS, dir.path()).unwrap();
        project.frames().read().unwrap()
    };
    for packed in [archive.clone(), compression::gzip(&archive), compression::zstd(&archive)] {
        let whole = spooled(&packed, packed.len());
        for piece in [1, 2, 511, 512, 513, 65_537] {
            assert!(spooled(&packed, piece) == whole, "in pieces of {piece}");
        }
    }
}

#[test]
fn readers_and_writers_can_go_to_another_thread() {
    fn sendable<T: Send>() {}
    sendable::<ArchiveReader>();
    sendable::<crate::archive::ProjectWriter>();
    sendable::<Project>();
}
