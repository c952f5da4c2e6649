//! A01 to A06, A23: names.

use super::*;
use crate::archive::check_path;

#[track_caller]
fn refuses(names: &[&[u8]]) {
    for name in names {
        for archive in in_all_encodings(name) {
            let message = assert_refused(&archive, RefusalCode::BadPath);
            let shown = super::super::path::quoted(name);
            assert!(message.contains(shown.trim_end_matches('"')), "{message} does not name {shown}");
        }
    }
}

/// The name in the header, as a GNU long name and in a PAX header.
fn in_all_encodings(name: &[u8]) -> Vec<Vec<u8>> {
    let mut archives = vec![
        tar_of(&[long_name(name), file("x", b"1").gnu()]),
        tar_of(&[pax(&[("path", name)]), file("x", b"1")]),
    ];
    if name.len() <= 100 {
        archives.push(tar_of(&[file(name, b"1")]));
    }
    archives
}

#[track_caller]
fn accepts(name: &[u8], path: &str) {
    for archive in in_all_encodings(name) {
        assert_accepted(&archive, &[got_file(path, b"1")]);
    }
}

#[test]
pub(super) fn a01_dot_dot_is_refused() {
    refuses(&[b"../x", b"../../x", b"../../../../../../etc/passwd"]);
}

#[test]
pub(super) fn a01_one_bad_entry_refuses_the_whole_archive() {
    assert_refused(
        &tar_of(&[file("good.py", b"1"), file("../x", b"1"), file("z", b"1")]),
        RefusalCode::BadPath,
    );
}

#[test]
pub(super) fn a02_absolute_names_drives_and_backslashes_are_refused() {
    refuses(&[
        b"/etc/x",
        b"//x",
        b"///",
        b"/",
        b"/.",
        b"/..",
        b"//etc//passwd",
        b".//etc/passwd",
        b"C:\\x",
        b"C:/x",
        b"C:x",
        b"c:",
        b"z:/",
        b"a\\..\\b",
        b"\\\\server\\share",
        b"\\x",
        b"a\\b",
        b"..\\x",
        b"\\\\?\\C:\\x",
        b"./\\x",
        b".\\x",
    ]);
}

#[test]
pub(super) fn a03_dots_and_empty_components_are_refused() {
    refuses(&[
        b"a/../../b",
        b"a/../b",
        b"./../x",
        b"a/..",
        b"..",
        b"../",
        b".",
        b"a/.",
        b"a/./b",
        b"././a",
        b"a//b",
        b"./",
        b"./.",
        b"./..",
        b".././a",
    ]);
}

#[test]
pub(super) fn a03_an_empty_name_is_refused() {
    assert_refused(&tar_of(&[file("", b"1")]), RefusalCode::BadPath);
    assert_refused(&tar_of(&[long_name(""), file("x", b"1").gnu()]), RefusalCode::BadPath);
    assert_refused(&tar_of(&[pax(&[("path", b"")]), file("x", b"1")]), RefusalCode::BadArchive);
}

#[test]
pub(super) fn a03_the_same_names_are_refused_for_folders() {
    for name in ["../", "a/../", "a/./", "/", "//", ".", "..", "a//", ".//", "a//b/", "/a/"] {
        assert_refused(&tar_of(&[dir(name), file("x", b"")]), RefusalCode::BadPath);
    }
}

#[test]
fn a03_dots_that_mean_nothing_are_accepted() {
    accepts(b"./main.py", "main.py");
    accepts(b"..a", "..a");
    accepts(b"a..", "a..");
    accepts(b"...", "...");
    accepts(b".hidden/.x", ".hidden/.x");
}

#[test]
fn a03_the_root_folder_is_accepted_and_left_out() {
    let archive = tar_of(&[dir("./"), dir("./lib/"), file("./lib/a.py", b"1"), dir("./")]);
    assert_accepted(&archive, &[got_dir("lib"), got_file("lib/a.py", b"1")]);
}

#[test]
pub(super) fn a04_control_characters_and_invalid_text_are_refused() {
    refuses(&[
        b"a\nb" as &[u8],
        b"\x1b[31mred",
        b"a\x7f",
        b"a\tb",
        b"a\r",
        "a\u{85}b".as_bytes(),
        b"a\xff\xfe",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        "gpj\u{202e}yp.exe".as_bytes(),
        "a\u{2066}b\u{2069}".as_bytes(),
        "\u{202a}a".as_bytes(),
    ]);
}

#[test]
pub(super) fn a04_a_nul_inside_a_name_is_refused() {
    let bad = RefusalCode::BadPath;
    assert_refused(&tar_of(&[file(b"a\0b", b"1")]), bad);
    assert_refused(&tar_of(&[file("x", b"1").field(PREFIX, b"a\0b")]), bad);
    assert_refused(&tar_of(&[long_name(b"a\0b"), file("x", b"1").gnu()]), bad);
    assert_refused(&tar_of(&[long_name(b"a\0"), file("x", b"1").gnu()]), bad);
    assert_refused(&tar_of(&[pax(&[("path", b"a\0b")]), file("x", b"1")]), bad);
    assert_refused(&tar_of(&[pax(&[("path", b"a\0")]), file("x", b"1")]), bad);
}

#[test]
pub(super) fn a04_every_control_byte_is_refused() {
    for byte in (1..0x20).chain([0x7f]) {
        assert_refused(&tar_of(&[file([b'a', byte, b'b'], b"1")]), RefusalCode::BadPath);
    }
}

#[test]
fn a04_text_in_any_script_is_accepted() {
    for name in ["naïve café.py", "日本語/ファイル", "ما", "🦀.rs", "ab:c", "x y'\"$(z)"] {
        accepts(name.as_bytes(), name);
    }
}

/// A path of exactly `length` bytes, of components as long as they may be.
fn path_of(length: usize) -> Vec<u8> {
    let mut path: Vec<u8> = (0..length).map(|at| if at % 256 == 255 { b'/' } else { b'p' }).collect();
    if path.ends_with(b"/") {
        // A file's name can't end so.
        let end = path.len();
        path[end - 1] = b'p';
        path[end - 2] = b'/';
    }
    path
}

#[test]
pub(super) fn a05_long_names_are_accepted_up_to_the_limit_in_every_encoding() {
    for length in [100, 101, 255, 256, 257, 1000, 4095, 4096] {
        let path = path_of(length);
        accepts(&path, std::str::from_utf8(&path).unwrap());
    }
    for length in [4097, 5000, 60_000] {
        refuses(&[&path_of(length)]);
    }
}

#[test]
pub(super) fn a05_a_prefix_makes_names_of_256_bytes() {
    let (prefix, name) = ([b'p'; 155], [b'n'; 100]);
    let archive = tar_of(&[file(name, b"1").field(PREFIX, &prefix)]);
    let path = [&prefix[..], b"/", &name[..]].concat();
    assert_accepted(&archive, &[got_file(std::str::from_utf8(&path).unwrap(), b"1")]);
    assert_refused(&tar_of(&[file("x", b"1").field(PREFIX, b"..")]), RefusalCode::BadPath);
    assert_refused(&tar_of(&[file("x", b"1").field(PREFIX, b"/etc")]), RefusalCode::BadPath);
}

#[test]
pub(super) fn a06_depth_is_limited() {
    let deep = |components: usize| vec!["d"; components].join("/");
    accepts(deep(32).as_bytes(), &deep(32));
    refuses(&[deep(33).as_bytes()]);
    assert_refused(&tar_of(&[dir(format!("{}/", deep(33)))]), RefusalCode::BadPath);
}

#[test]
pub(super) fn a06_components_are_limited_to_255_bytes() {
    let name = "é".repeat(127) + "x";
    accepts(name.as_bytes(), &name);
    refuses(&["é".repeat(128).as_bytes(), format!("a/{}/b", "c".repeat(256)).as_bytes()]);
}

#[test]
pub(super) fn a23_the_runners_folder_is_reserved() {
    refuses(&[b".execbox", b".execbox/result", b"./.execbox/x"]);
    assert_refused(&tar_of(&[dir(".execbox/")]), RefusalCode::BadPath);
    accepts(b"a/.execbox", "a/.execbox");
    accepts(b".execbox2", ".execbox2");
}

#[test]
fn messages_escape_and_cut_the_name() {
    let message = assert_refused(&tar_of(&[file("a\x1b[2J\n", b"")]), RefusalCode::BadPath);
    assert!(message.contains(r#""a\u{1b}[2J\n""#), "{message}");
    let message =
        assert_refused(&tar_of(&[long_name(vec![b'q'; 9000]), file("x", b"").gnu()]), RefusalCode::BadPath);
    assert!(message.len() < 300 && message.contains("qqq…"), "{message}");
}

#[test]
fn check_path_gives_the_canonical_path() {
    assert_eq!(check_path(b"./a/b", 2).unwrap(), "a/b");
    assert!(check_path(b"a/b/", 9).is_err());
    assert!(check_path(b"a/b", 1).is_err());
}
