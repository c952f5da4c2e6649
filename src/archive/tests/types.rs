//! A09, A21, and what an entry may be.

use super::*;

const UNSUPPORTED: RefusalCode = RefusalCode::UnsupportedType;

#[test]
pub(super) fn a09_every_other_type_byte_is_refused_by_name() {
    for kind in 0..=255 {
        for layout in [Member::gnu, Member::v7, |member| member] {
            let archive = tar_of(&[layout(Member::new(kind, b"odd", b""))]);
            if b"0\0".contains(&kind) {
                assert_accepted(&archive, &[got_file("odd", b"")]);
            } else if b"125xgLK".contains(&kind) {
                assert_refused(&archive, RefusalCode::BadArchive);
            } else {
                let message = assert_refused(&archive, UNSUPPORTED);
                assert!(message.contains("odd"), "{message}");
            }
        }
    }
}

#[test]
pub(super) fn a09_devices_and_fifos_say_what_they_are() {
    for (kind, what) in
        [(b'3', "character device"), (b'4', "block device"), (b'6', "FIFO"), (b'S', "sparse file")]
    {
        let message = assert_refused(&tar_of(&[Member::new(kind, b"odd", b"")]), UNSUPPORTED);
        assert!(message.contains(what), "{message}");
    }
}

#[test]
pub(super) fn a09_sparse_files_of_pax_are_refused() {
    for key in ["GNU.sparse.major", "GNU.sparse.name", "GNU.sparse.anything", "SCHILY.realsize"] {
        let message = assert_refused(&tar_of(&[pax(&[(key, b"1")]), file("holes", b"1")]), UNSUPPORTED);
        assert!(message.contains("\"holes\" is a sparse file"), "{message}");
    }
}

#[test]
fn a21_only_the_owners_execute_bit_counts() {
    for (mode, executable) in [
        (&b"0000755\0"[..], true),
        (b"0004711\0", true),
        (b"0000100\0", true),
        (b"0000644\0", false),
        (b"0000011\0", false),
        (b"0007677\0", false),
        (b"0000000\0", false),
        (b"   755 \0", true),
        (b"0100755 ", true),
        (b"\0\0\0\0\0\0\0\0", false),
        (b"\x80\0\0\0\x08\0\x01\xed", true),
        (b"\x80\0\0\0\x08\0\x01\xa4", false),
    ] {
        let archive = tar_of(&[file("x", b"1").field(100..108, mode)]);
        assert_accepted(&archive, &[Got { executable, ..got_file("x", b"1") }]);
    }
}

/// python-executor's own client puts Go's `fs.FileMode` into the header, in which a folder is bit 31: more than seven octal
/// digits hold, so Go's writer makes it binary, in the layout of GNU.
#[test]
fn archives_of_clients_in_go_are_accepted() {
    let entry = |member: Member, mode: &[u8]| {
        let time = member.field(100..108, mode).field(136..148, b"14725363501\0");
        time.gnu().field(265..297, b"user").field(297..329, b"user")
    };
    let binary_folder = b"\x80\0\0\0\x80\0\x01\xed";
    let archive = tar_of(&[
        entry(dir("lib/"), binary_folder),
        entry(dir("lib/deep/"), binary_folder),
        entry(file("lib/deep/tool", b"1"), b"0000755\0"),
        entry(long_name("lib/long"), b"0000000\0"),
        entry(file("cut", b"2"), b"0000644\0"),
        // Its FileInfoHeader of earlier years: the bits of the kind as Unix has them.
        entry(dir("old/"), b"0040755\0"),
        entry(file("old/main.py", b"3"), b"0100644\0"),
    ]);
    let tool = Got { executable: true, ..got_file("lib/deep/tool", b"1") };
    let got = [
        got_dir("lib"),
        got_dir("lib/deep"),
        tool,
        got_file("lib/long", b"2"),
        got_dir("old"),
        got_file("old/main.py", b"3"),
    ];
    assert_accepted(&archive, &got);
}

#[test]
fn a21_owners_and_times_of_any_kind_are_dropped() {
    let binary_minus_one = [0xff; 12];
    let member = file("x", b"1")
        .field(108..116, b"7777777\0")
        .field(116..124, &binary_minus_one[..8])
        .field(136..148, &binary_minus_one)
        .field(265..297, b"root")
        .field(297..329, b"wheel");
    assert_accepted(&tar_of(&[member]), &[got_file("x", b"1")]);
    let year_9999 = file("x", b"1").field(136..148, b"777777777777");
    let records: [(&str, &[u8]); 7] = [
        ("mtime", b"-1.5"),
        ("atime", b"253402300799"),
        ("uid", b"0"),
        ("uname", b"root"),
        ("SCHILY.xattr.security.capability", b"\x01\0\n\x02="),
        ("SCHILY.acl.access", b"user::rwx"),
        ("VENDOR.unknown", b"1"),
    ];
    assert_accepted(&tar_of(&[pax(&records), year_9999]), &[got_file("x", b"1")]);
}

#[test]
pub(super) fn a21_fields_that_are_no_numbers_are_refused() {
    for at in [100..108, 108..116, 116..124, 136..148] {
        assert_refused(&tar_of(&[file("x", b"1").field(at, b"12x")]), RefusalCode::BadArchive);
    }
    // Below zero, and more than any reader has room for.
    for mode in [[0xff; 8], [0x81, 0, 0, 0, 0, 0, 0, 0]] {
        assert_refused(&tar_of(&[file("x", b"1").field(100..108, &mode)]), RefusalCode::BadArchive);
    }
}

#[test]
fn folders_of_v7_are_files_with_a_slash() {
    let old = |name: &str| Member::new(0, name.as_bytes(), b"").v7();
    assert_accepted(&tar_of(&[old("lib/"), old("lib/x")]), &[got_dir("lib"), got_file("lib/x", b"")]);
    // Other readers disagree about these.
    assert_refused(&tar_of(&[long_name("x"), old("lib/")]), RefusalCode::BadPath);
    assert_refused(&tar_of(&[long_name("lib/"), old("x")]), RefusalCode::BadPath);
    assert_refused(&tar_of(&[Member::new(0, b"lib/", b"")]), RefusalCode::BadPath);
    assert_refused(&tar_of(&[file("lib/", b"").v7()]), RefusalCode::BadPath);
}

#[test]
pub(super) fn fields_that_only_some_readers_see_are_refused() {
    let hidden = file("x", b"1").field(PREFIX, b"other");
    assert_refused(&tar_of(&[hidden.clone().gnu()]), RefusalCode::BadArchive);
    assert_refused(&tar_of(&[hidden.v7()]), RefusalCode::BadArchive);
    assert_refused(&tar_of(&[file("x", b"1").field(MAGIC, b"ustar\x0012")]), RefusalCode::BadArchive);
}

#[test]
pub(super) fn two_entries_of_one_name_are_refused() {
    let (a, b) = (file("a", b"1"), file("a/b", b"2"));
    for members in [
        vec![a.clone(), a.clone()],
        vec![a.clone(), file("./a", b"2")],
        vec![a.clone(), b.clone()],
        vec![b.clone(), a.clone()],
        vec![dir("a/"), a.clone()],
        vec![a.clone(), dir("a/")],
        vec![file("a/b/c", b""), b],
    ] {
        let message = assert_refused(&tar_of(&members), RefusalCode::DuplicateEntry);
        assert!(message.contains("\"a"), "{message}");
    }
}

#[test]
fn folders_may_come_twice_or_late_and_case_matters() {
    let archive =
        tar_of(&[dir("a/"), file("a/b/x", b"1"), dir("a"), dir("a/b/"), file("A", b""), file("a/B", b"")]);
    let files = [got_file("a/b/x", b"1"), got_dir("a/b"), got_file("A", b""), got_file("a/B", b"")];
    assert_accepted(&archive, &[&[got_dir("a")], &files[..]].concat());
}
