//! How a project's files arrive in the workspace, whatever the archive says of them.

use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use crate::projects::tar_of;
use crate::server::Server;

/// Prints what is there of each file and folder: path, type and mode, whose it is, its year, extended attributes.
const LIST: &[u8] = b"\
import os, time
own = (os.getuid(), os.getgid())
for folder, folders, files in os.walk('.'):
    folders.sort()
    for name in sorted(folders + files):
        path = os.path.join(folder, name)
        found = os.lstat(path)
        whose = 'own' if (found.st_uid, found.st_gid) == own else f'{found.st_uid}:{found.st_gid}'
        print(path, oct(found.st_mode), whose, time.gmtime(found.st_mtime).tm_year if path != './d' else '', os.listxattr(path))
";

fn append(
    archive: &mut Builder<Vec<u8>>,
    path: &str,
    kind: EntryType,
    mode: u32,
    mtime: u64,
    content: &[u8],
) {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_username("root").unwrap();
    header.set_mtime(mtime);
    header.set_size(content.len() as u64);
    header.set_cksum();
    archive.append_data(&mut header, path, content).unwrap();
}

/// Case A21.
#[tokio::test]
async fn what_an_archive_says_of_its_files_does_not_arrive() {
    const YEAR_9999: u64 = 253_402_300_799;
    let server = Server::start().await;
    let mut archive = Builder::new(Vec::new());
    append(&mut archive, "d/", EntryType::Directory, 0o7000, 0, b"");
    append(&mut archive, "d/setuid", EntryType::Regular, 0o6755, YEAR_9999, b"#!/bin/sh");
    append(&mut archive, "d/sticky", EntryType::Regular, 0o1666, 0, b"1");
    append(&mut archive, "main.py", EntryType::Regular, 0, YEAR_9999, LIST);
    let capability = [1, 0, 0, 2, 255, 255, 255, 255, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0];
    let attributes =
        [("SCHILY.xattr.security.capability", &capability[..]), ("SCHILY.xattr.user.note", b"canary")];
    archive.append_pax_extensions(attributes).unwrap();
    append(&mut archive, "with-attributes", EntryType::Regular, 0o755, 0, b"1");
    let metadata = json!({"artifacts": ["none"]});
    let result = server.sync(&archive.into_inner().unwrap(), &metadata).await;
    // The runner's own place is not the archive's.
    let own = |line: &&str| !line.starts_with("./.execbox");
    let lines: Vec<_> = result["stdout"].as_str().unwrap().lines().filter(own).collect();
    let expected = [
        "./d 0o40755 own  []",
        "./main.py 0o100644 own YEAR []",
        "./with-attributes 0o100755 own YEAR []",
        "./d/setuid 0o100755 own YEAR []",
        "./d/sticky 0o100644 own YEAR []",
    ];
    let year = lines[1].split(' ').nth(3).unwrap();
    assert!(!["9999", "1970"].contains(&year), "{result:#}");
    assert_eq!(lines, expected.map(|line| line.replace("YEAR", year)), "{result:#}");
    server.finish().await;
}

/// Case A23.
#[tokio::test]
async fn no_entry_gets_into_the_place_of_the_runner() {
    let server = Server::start().await;
    for name in [".execbox/result", "/.execbox-runner/execbox", "../.execbox-runner/execbox"] {
        // The library would not write such a name.
        let mut archive = tar_of(&[("main.py", b"print(1)"), ("x".repeat(name.len()).as_str(), b"1")]);
        let header = &mut archive[1024..1536];
        header[..name.len()].copy_from_slice(name.as_bytes());
        let mut signed = Header::from_byte_slice(header).clone();
        signed.set_cksum();
        header.copy_from_slice(signed.as_bytes());
        let form = Form::new().part("tar", Part::bytes(archive));
        let url = format!("{}/api/v1/exec/sync", server.url);
        let answer = server.client.post(url).multipart(form).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{name}");
        assert_eq!(answer.json::<Value>().await.unwrap()["code"], "bad_path", "{name}");
    }
    // Names that only sound like ours are names.
    let program = b"import os\nprint(sorted(os.listdir()), open('/proc/1/comm').read().strip())";
    let files =
        [".execbox-runner/execbox", ".job", "__runner", "execbox", "result"].map(|name| (name, &b"evil"[..]));
    let archive = tar_of(&[&[("main.py", &program[..])], &files[..]].concat());
    let result = server.sync(&archive, &json!({"artifacts": ["none"]})).await;
    let expected =
        "['.execbox', '.execbox-runner', '.job', '__runner', 'execbox', 'main.py', 'result'] execbox\n";
    assert_eq!((&result["stdout"], &result["exit_code"]), (&json!(expected), &json!(0)), "{result:#}");
    server.finish().await;
}
