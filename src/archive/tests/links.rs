//! A07 and A08: what stays inside the project is made, what leads outside is left out, and nothing goes through a link.

use super::*;

/// What is accepted of an archive, and what the caller is told.
#[track_caller]
fn taken(members: &[Member]) -> (Vec<Got>, Vec<String>) {
    let (archive, spool) = (tar_of(members), tempfile::tempdir().unwrap());
    let mut project = read_project(&archive, archive.len(), LIMITS, spool.path()).unwrap();
    let notices = project.take_notices();
    assert!(project.take_notices().is_empty());
    (decode(&project), notices)
}

fn long_target(target: &str) -> Member {
    Member::new(b'K', b"././@LongLink", &[target.as_bytes(), b"\0"].concat()).gnu()
}

#[test]
fn a07_symbolic_links_that_stay_inside_are_made_after_all_files() {
    let (got, notices) = taken(&[
        symbolic("node_modules/.bin/moo", "../moo/cli.js"),
        symbolic("loop", "loop"),
        symbolic("folder", "node_modules").v7(),
        file("node_modules/moo/cli.js", b"1"),
        symbolic("nowhere", "gone").gnu(),
    ]);
    let links = [
        got_file("node_modules/moo/cli.js", b"1"),
        got_link("node_modules/.bin/moo", "../moo/cli.js"),
        got_link("loop", "loop"),
        got_link("folder", "node_modules"),
        got_link("nowhere", "gone"),
    ];
    assert_eq!((got, notices), (links.to_vec(), Vec::new()));
}

#[test]
fn a07_symbolic_links_that_lead_outside_are_left_out_by_name() {
    let long = "../".repeat(1000);
    for target in ["/etc/passwd", "..", "a/../../x", "", ".execbox/main", "a\\b", "x\u{7}", "/work/main.py"] {
        let (got, notices) = taken(&[file("main.py", b"1"), symbolic("link", target)]);
        assert_eq!(got, [got_file("main.py", b"1")], "{target}");
        assert!(notices.len() == 1 && notices[0].contains("the link \"link\" was left out"), "{notices:?}");
        assert!(!notices[0].contains('\u{7}'));
    }
    for announced in [long_target(&long), pax(&[("linkpath", long.as_bytes())])] {
        let (_, notices) = taken(&[file("x", b"1"), announced, symbolic("link", "short")]);
        assert!(notices[0].len() < 500, "{notices:?}");
    }
    let many: Vec<_> = (0..100).map(|at| symbolic(format!("l{at}"), "/etc")).collect();
    let (_, notices) = taken(&[&[file("x", b"1")], &many[..]].concat());
    assert_eq!((notices.len(), notices[16].as_str()), (17, "84 more links were left out"));
}

#[test]
fn long_targets_come_in_every_form() {
    let target = format!("{0}/{0}/x", "d".repeat(100));
    let link = symbolic("link", &target[..100]);
    let long_file = || [long_name(&target), file("cut", b"1").gnu()];
    for announced in [
        vec![long_target(&target)],
        vec![long_target(&target), long_name("link")],
        vec![long_name("link"), long_target(&target)],
        vec![pax(&[("linkpath", target.as_bytes())])],
    ] {
        let (got, _) = taken(&[&long_file(), &announced[..], std::slice::from_ref(&link)].concat());
        assert_eq!(got, [got_file(&target, b"1"), got_link("link", &target)]);
        let copy = hard("link", &target[..100]);
        let (got, _) = taken(&[&long_file(), &announced[..], &[copy]].concat());
        assert_eq!(got, [got_file(&target, b"1"), got_file("link", b"1")]);
    }
}

#[test]
pub(super) fn a07_nothing_goes_through_a_symbolic_link() {
    for target in ["/etc", "real", "."] {
        let link = symbolic("link", target);
        for beneath in [file("link/x", b"1"), dir("link/x/"), symbolic("link/x", "y"), hard("link/x", "main")]
        {
            let members = [file("main", b"1"), dir("real/"), link.clone(), beneath];
            let message = assert_refused(&tar_of(&members), RefusalCode::UnsupportedType);
            assert!(message.contains("goes through a link"), "{message}");
        }
        for (same, code) in [
            (file("link", b"1"), RefusalCode::DuplicateEntry),
            (symbolic("link", "x"), RefusalCode::DuplicateEntry),
            (dir("link/"), RefusalCode::UnsupportedType),
        ] {
            assert_refused(&tar_of(&[file("main", b"1"), link.clone(), same]), code);
        }
        for before in [file("link", b"1"), file("link/x", b"1"), dir("link/")] {
            assert_refused(&tar_of(&[before, link.clone()]), RefusalCode::DuplicateEntry);
        }
        let odd = [file("main", b"1"), symbolic("../x", target)];
        assert_refused(&tar_of(&odd), RefusalCode::BadPath);
        assert_refused(&tar_of(&[file("main", b"1"), symbolic(".execbox", target)]), RefusalCode::BadPath);
    }
}

#[test]
fn a08_hard_links_are_copies() {
    let large: Vec<u8> = (0..200_000_u32).map(|at| at.to_le_bytes()[0]).collect();
    for content in [&b""[..], b"abc", &large] {
        let first = file("d/first", content).field(100..108, b"0000755\0");
        let members = [first, hard("second", "./d/first"), hard("third", "second"), file("last", b"1")];
        let copy = |path| Got { executable: true, ..got_file(path, content) };
        let copies = [copy("d/first"), copy("second"), copy("third"), got_file("last", b"1")];
        assert_eq!(taken(&members), (copies.to_vec(), Vec::new()));
    }
}

#[test]
fn a08_hard_links_to_nothing_earlier_are_left_out_by_name() {
    for target in ["/etc/shadow", "../first", "later", "second", "d", "soft", ""] {
        let (got, notices) = taken(&[
            file("first", b"1"),
            dir("d/"),
            symbolic("soft", "first"),
            hard("second", target),
            file("later", b"2"),
        ]);
        assert_eq!((got.len(), got[2].path.as_str()), (4, "later"), "{target}");
        assert!(notices[0].contains("the hard link \"second\" was left out"), "{notices:?}");
    }
}

#[test]
pub(super) fn a08_the_bytes_of_copies_count() {
    let content = vec![0; usize::try_from(LIMITS.bytes / 2).unwrap() + 1];
    let links: Vec<_> = (0..900).map(|at| hard(format!("l{at}"), "big")).collect();
    let archive = tar_of(&[&[file("big", &content)], &links[..]].concat());
    let message = assert_refused(&archive, RefusalCode::TooLarge);
    assert!(message.contains("\"l0\"") && message.contains("over the limit"), "{message}");
    // The cap on entries, and on their names.
    let many: Vec<_> = (0..1000).map(|at| symbolic(format!("l{at}"), "x")).collect();
    assert_refused(&tar_of(&[&[file("x", b"1")], &many[..]].concat()), RefusalCode::TooManyEntries);
}

#[test]
pub(super) fn a08_links_that_readers_see_differently_are_refused() {
    for kind in [b'1', b'2'] {
        let with_content = Member::new(kind, b"link", b"1").field(157..257, b"x");
        let members = [file("x", b"1"), with_content];
        assert_refused(&tar_of(&members), RefusalCode::AmbiguousSize);
        let odd = link(kind, "link", b"x\0y");
        assert_refused(&tar_of(&[file("x", b"1"), odd]), RefusalCode::BadPath);
    }
    let announced = [long_target("/etc/passwd"), pax(&[("linkpath", b"/etc")])];
    for announced in announced {
        let message =
            assert_refused(&tar_of(&[announced, file("x", b"1").gnu()]), RefusalCode::UnsupportedType);
        assert!(message.contains("\"x\" is a link"), "{message}");
    }
    for members in [
        [long_target("a"), long_target("b"), symbolic("x", "a")],
        [pax(&[("linkpath", b"a")]), long_target("b"), symbolic("x", "a")],
        [long_target("b"), pax(&[("linkpath", b"a")]), symbolic("x", "a")],
        [file("f", b"1"), pax(&[("linkpath", b"a"), ("linkpath", b"b")]), symbolic("x", "a")],
    ] {
        assert_refused(&tar_of(&members), RefusalCode::BadArchive);
    }
    assert_refused(&tar_of(&[symbolic("x", "y")]), RefusalCode::BadArchive);
}
