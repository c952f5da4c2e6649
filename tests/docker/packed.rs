//! Projects as people pack them: with links, a folder on top, and files of Windows.

use std::process::Command;

use serde_json::{Value, json};

use crate::projects::{Packed, go_tar, tar_of};
use crate::server::{EXECBOX, Server};

const LINKED: &[Packed<'_>] = &[
    Packed::Link("outside", "/etc/passwd"),
    Packed::Link("bin/tool", "../lib/tool.sh"),
    Packed::Link("loop", "loop"),
    Packed::Link("all", "."),
    Packed::Dir("lib/"),
    Packed::File("lib/tool.sh", b"#!/bin/bash\necho tool\n"),
    Packed::Copy("copy", "lib/tool.sh"),
    Packed::File(
        "main.sh",
        b"bin/tool; ./copy; cat loop 2>&1 | grep -c many; readlink all/all bin/tool; ls -d outside 2>&1; echo new >bin/new\n",
    ),
];
const SAYS: &str =
    "tool\ntool\n1\n.\n../lib/tool.sh\nls: cannot access 'outside': No such file or directory\n";
const LEFT_OUT: &str = "the link \"outside\" was left out: \"/etc/passwd\" is not inside the project";

#[tokio::test]
async fn links_stay_inside_and_are_the_same_in_a_folder_on_top() {
    let server = Server::start().await;
    let result = server.sync(&go_tar(LINKED), &json!({})).await;
    assert_eq!((&result["stdout"], &result["notices"]), (&json!(SAYS), &json!([LEFT_OUT])), "{result:#}");
    // No link is an artifact.
    assert_eq!(result["artifacts"].as_array().unwrap().len(), 1, "{result:#}");
    let names: Vec<String> = LINKED
        .iter()
        .map(|entry| match entry {
            Packed::Dir(name) | Packed::File(name, _) | Packed::Link(name, _) | Packed::Copy(name, _) => {
                format!("proj-main/{name}")
            }
        })
        .collect();
    let lowered = LINKED.iter().zip(&names).map(|(entry, name)| match *entry {
        Packed::Dir(_) => Packed::Dir(name),
        Packed::File(_, content) => Packed::File(name, content),
        Packed::Link(_, target) => Packed::Link(name, target),
        Packed::Copy(_, _) => Packed::Copy(name, "proj-main/lib/tool.sh"),
    });
    let junk = Packed::File("__MACOSX/proj-main/._main.sh", b"\x00\x05\x16\x07");
    let archive = go_tar(&lowered.chain([junk]).collect::<Vec<_>>());
    let result = server.sync(&archive, &json!({})).await;
    assert_eq!(result["stdout"], SAYS, "{result:#}");
    assert_eq!(result["artifacts"][0]["path"], "bin/new", "{result:#}");
    assert!(result["notices"].to_string().contains("all files are in the folder"), "{result:#}");
    server.finish().await;
}

#[test]
fn the_command_line_packs_links_as_archives_have_them() {
    let folder = tempfile::tempdir().unwrap();
    for entry in LINKED {
        let path = |name: &str| folder.path().join(name);
        let parent = |name: &str| std::fs::create_dir_all(path(name).parent().unwrap()).unwrap();
        match *entry {
            Packed::Dir(name) => std::fs::create_dir_all(path(name)).unwrap(),
            Packed::File(name, content) => std::fs::write(path(name), content).unwrap(),
            Packed::Link(name, target) => {
                parent(name);
                std::os::unix::fs::symlink(target, path(name)).unwrap();
            }
            Packed::Copy(name, target) => std::fs::hard_link(path(target), path(name)).unwrap(),
        }
    }
    let output = Command::new(EXECBOX).arg("run").arg(folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), SAYS, "{said}");
    assert!(said.contains(LEFT_OUT), "{said}");
}

#[tokio::test]
async fn files_of_windows_run_or_are_told() {
    let server = Server::start().await;
    let marked = "\u{feff}#!/usr/bin/env python3\nimport subprocess\nprint(subprocess.run(['./helper'], capture_output=True, text=True).stdout)";
    let files: [(&str, &[u8]); 2] = [("main.py", marked.as_bytes()), ("helper", b"#!/bin/sh\necho helped")];
    let result = server.sync(&tar_of(&files), &json!({})).await;
    assert_eq!((&result["stdout"], &result["notices"]), (&json!("helped\n\n"), &Value::Null), "{result:#}");
    for (language, name, text, stdout) in [
        ("bash", "main.sh", "\u{feff}echo $0\n", "main.sh\n"),
        (
            "java",
            "Main.java",
            "\u{feff}class Main { public static void main(String[] a) { System.out.println(1); } }",
            "1\n",
        ),
    ] {
        let result = server.sync(&tar_of(&[(name, text.as_bytes())]), &json!({})).await;
        assert_eq!(result["stdout"], stdout, "{language}: {result:#}");
        assert!(result["stderr"].as_str().unwrap_or_default().is_empty(), "{language}: {result:#}");
        assert!(result["artifacts"].as_array().is_none_or(Vec::is_empty), "{language}: {result:#}");
    }
    for (name, content, says) in [
        (
            "main.sh",
            &b"#!/bin/bash\r\nif true; then\r\necho one\r\nfi\r\n"[..],
            "main.sh has the line ends of Windows",
        ),
        ("main.py", b"\xff\xfep\0r\0i\0n\0t\0(\x001\0)\0", "main.py is in UTF-16"),
    ] {
        let result = server.sync(&tar_of(&[(name, content)]), &json!({})).await;
        assert!(result["notices"][0].as_str().unwrap().contains(says), "{result:#}");
    }
    server.finish().await;
}
