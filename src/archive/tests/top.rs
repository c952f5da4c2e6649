//! One folder on top of an archive.

use super::*;
use crate::archive::Contents;

fn project(members: &[Member], spool: &tempfile::TempDir) -> Project {
    let archive = tar_of(members);
    read_project(&archive, archive.len(), LIMITS, spool.path()).unwrap()
}

#[test]
fn one_folder_is_found_beside_what_a_mac_leaves() {
    let spool = tempfile::tempdir().unwrap();
    for (members, folder) in [
        (vec![file("p/a", b"1")], Some("p")),
        (vec![dir("p/"), dir("p/q/"), file("p/q/a", b"1")], Some("p")),
        (
            vec![file("._p", b"1"), file("__MACOSX/._p", b"1"), file(".DS_Store", b""), file("p/a", b"1")],
            Some("p"),
        ),
        (vec![file("pax_global_header", b""), file("p/a", b"1"), symbolic("p/l", "a")], Some("p")),
        (vec![file("a", b"1")], None),
        (vec![file("p/a", b"1"), file("b", b"1")], None),
        (vec![file("p/a", b"1"), file("q/b", b"1")], None),
        (vec![file("p/a", b"1"), file("pq", b"1")], None),
        (vec![file("p/a", b"1"), symbolic("l", "p/a")], None),
        (vec![file("p/a", b"1"), dir("q/")], None),
        (vec![file(".p/a", b"1")], None),
        (vec![file("p/.execbox/a", b"1")], None),
        (vec![file("__MACOSX/a", b"1")], None),
        (vec![file("__MACOSX/a", b"1"), dir("p/")], None),
    ] {
        assert_eq!(project(&members, &spool).only_folder(), folder);
    }
}

#[test]
fn a_project_is_what_is_in_its_folder() {
    let spool = tempfile::tempdir().unwrap();
    for content in [b"1".to_vec(), vec![b'x'; 100_000]] {
        let mut project = project(
            &[
                file(".DS_Store", b"0"),
                dir("p/"),
                file("p/main.py", &content),
                file("p/p/x", b"2"),
                symbolic("p/in", "p/x"),
                symbolic("p/out", "../p/x"),
            ],
            &spool,
        );
        project.lower("p").unwrap();
        let paths: Vec<_> = project.entries().iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths, ["main.py", "p/x"]);
        let notices = project.take_notices();
        assert!(notices[0].contains("the link \"out\" was left out"), "{notices:?}");
        assert!(notices[1].contains("all files are in the folder \"p\""), "{notices:?}");
        let read = project.contents(&["main.py", "p/x", ".DS_Store", "p/main.py"], 1 << 20).unwrap();
        assert_eq!(read, Contents::from([("main.py".into(), content), ("p/x".into(), b"2".to_vec())]));
    }
}
