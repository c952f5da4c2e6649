//! Archives as real tools make them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::*;

/// A small project on disk, with names that need every extension of the format.
fn project() -> (tempfile::TempDir, Vec<Got>) {
    let folder = tempfile::tempdir().unwrap();
    let long = format!("{0}/{0}/{0}.py", "long-name-".repeat(9));
    let files = [
        ("main.py", &b"print(42)\n"[..]),
        ("lib/empty", b""),
        ("lib/data.bin", &[7; 100_000]),
        (&long, b"1"),
    ];
    for (path, content) in files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    std::fs::write(folder.path().join("naïve.txt"), "é").unwrap();
    std::fs::write(folder.path().join("run.sh"), "#!/bin/sh").unwrap();
    std::fs::set_permissions(folder.path().join("run.sh"), PermissionsExt::from_mode(0o755)).unwrap();
    let mut got: Vec<_> = files.iter().map(|(path, content)| got_file(path, content)).collect();
    got.push(got_file("naïve.txt", "é".as_bytes()));
    got.push(Got { executable: true, ..got_file("run.sh", b"#!/bin/sh") });
    got.sort();
    (folder, got)
}

#[track_caller]
fn assert_same(archive: &[u8], expected: &[Got]) {
    for piece in [1000, archive.len()] {
        let mut got = read_in_pieces(archive, piece, LIMITS).unwrap();
        got.retain(|entry| entry.content.is_some());
        got.sort();
        assert!(got == expected, "{:?}", got.iter().map(|entry| &entry.path).collect::<Vec<_>>());
    }
}

fn gnu_tar(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    output_of(Command::new("tar").current_dir(folder).args(arguments), "tar")
}

#[test]
fn archives_of_gnu_tar_are_accepted_in_every_format() {
    let (folder, expected) = project();
    for format in ["gnu", "oldgnu", "pax", "posix", "ustar", "v7"] {
        let format_flag = format!("--format={format}");
        // v7 has no room for the long name.
        let without_long = ["--exclude=long-*"];
        let extra: &[&str] = if ["v7", "ustar"].contains(&format) { &without_long } else { &[] };
        let expected: Vec<_> = expected
            .iter()
            .filter(|entry| extra.is_empty() || !entry.path.starts_with("long"))
            .cloned()
            .collect();
        for tail in [&["."][..], &["-z", "."], &["--numeric-owner", "-b1", "."], &["-b", "200", "."]] {
            let arguments = [&["-c", "-f", "-", &format_flag], extra, tail].concat();
            assert_same(&gnu_tar(folder.path(), &arguments), &expected);
        }
    }
}

#[test]
fn archives_of_gnu_tar_by_name_are_accepted() {
    let (folder, _) = project();
    let archive = gnu_tar(folder.path(), &["-cf", "-", "lib", "main.py"]);
    let got = read(&archive).unwrap();
    assert_eq!(got[0], got_dir("lib"));
    assert_eq!(got.len(), 4);
}

#[test]
fn links_of_real_tools_are_taken_or_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let target = format!("{0}/{0}/{0}", "long-name-".repeat(9));
    std::fs::create_dir_all(folder.path().join(&target)).unwrap();
    std::fs::write(folder.path().join("a"), "1").unwrap();
    for (name, target) in [("outside", "/etc/passwd"), ("inside", "a"), ("long", &target)] {
        std::os::unix::fs::symlink(target, folder.path().join(name)).unwrap();
    }
    std::fs::hard_link(folder.path().join("a"), folder.path().join("hard")).unwrap();
    let names = ["a", "hard", "inside", "outside", "long"];
    let expected =
        [got_file("a", b"1"), got_file("hard", b"1"), got_link("inside", "a"), got_link("long", &target)];
    for format in ["--format=gnu", "--format=pax"] {
        let archive = gnu_tar(folder.path(), &[&["-cf", "-", format], &names[..]].concat());
        assert_accepted(&archive, &expected);
    }
    let make = "import sys, tarfile
with tarfile.open(fileobj=sys.stdout.buffer, mode='w|', format=int(sys.argv[1])) as tar:
    [tar.add(name) for name in sys.argv[2:]]";
    for format in ["1", "2"] {
        let mut python = Command::new("python3");
        python.current_dir(folder.path()).args(["-c", make, format]).args(names);
        assert_accepted(&output_of(&mut python, "python3"), &expected);
    }
}

#[test]
fn sparse_files_of_gnu_tar_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::File::create(folder.path().join("holes")).unwrap().set_len(1 << 30).unwrap();
    for format in ["--format=gnu", "--format=pax"] {
        let archive = gnu_tar(folder.path(), &["-S", format, "-cf", "-", "holes"]);
        assert_refused(&archive, RefusalCode::UnsupportedType);
    }
}

#[test]
fn archives_of_python_are_accepted_in_every_format() {
    let (folder, mut expected) = project();
    expected.retain(|entry| !entry.path.starts_with("long"));
    let make = "import sys, tarfile
with tarfile.open(fileobj=sys.stdout.buffer, mode=sys.argv[1], format=int(sys.argv[2])) as tar:
    tar.add('.', filter=lambda entry: None if 'long-' in entry.name else entry)";
    for format in ["0", "1", "2"] {
        for mode in ["w|", "w|gz"] {
            let mut python = Command::new("python3");
            python.current_dir(folder.path()).args(["-c", make, mode, format]);
            assert_same(&output_of(&mut python, "python3"), &expected);
        }
    }
}

#[test]
fn archives_of_the_tar_crate_are_accepted() {
    let mut builder = tar::Builder::new(Vec::new());
    let long = "d/".repeat(60) + "x";
    for path in ["main.py", &long] {
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, &b"abc"[..]).unwrap();
    }
    let limits = ArchiveLimits { depth: 64, ..LIMITS };
    let got = read_in_pieces(&builder.into_inner().unwrap(), 512, limits).unwrap();
    assert_eq!(got, [got_file("main.py", b"abc"), got_file(&long, b"abc")]);
}
