//! What an operator sees of keys and of a database that can't be used: the real binary, which gets nowhere near an
//! Engine here.

use std::path::Path;
use std::process::{Command, Output};

use execbox::store::{DataDir, Keys};

fn execbox(data: &Path, words: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_execbox"));
    command.args(words.split(' ')).arg("--data-dir").arg(data).output().unwrap()
}

/// The one line on standard error, and the exit code.
#[track_caller]
fn complaint(output: &Output) -> (String, Option<i32>) {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(output.stdout.is_empty());
    (text, output.status.code())
}

/// Packages would come from elsewhere than the operator means.
#[test]
fn a_registry_that_no_language_has_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let output = execbox(
        data.path(),
        "serve --listen 127.0.0.1:0 --registry pip=https://a.example,pypi=https://b.example",
    );
    let (text, code) = complaint(&output);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("--registry pypi=") && text.contains("they are cargo, debian, npm, pip"), "{text}");
}

#[test]
fn keys_are_made_listed_and_revoked_beside_a_server() {
    let data = tempfile::tempdir().unwrap();
    let _server = DataDir::open(data.path()).unwrap();
    let made = execbox(data.path(), "keys create --tenant team-a --scope run --rate 60/min");
    assert!(made.status.success());
    let key = String::from_utf8(made.stdout).unwrap();
    let key = key.strip_suffix('\n').unwrap();
    let id = key.split('_').nth(1).unwrap();
    let said = String::from_utf8(made.stderr).unwrap();
    assert!(said.contains(id) && !said.contains(&key[17..]), "{said}");
    let keys = Keys::open(data.path()).unwrap();
    assert_eq!(keys.authenticate(key).unwrap().unwrap().tenant, "team-a");

    let listed = String::from_utf8(execbox(data.path(), "keys list").stdout).unwrap();
    assert!(listed.contains(id) && listed.contains("60/min") && !listed.contains(&key[17..]), "{listed}");
    assert!(execbox(data.path(), &format!("keys revoke {id}")).status.success());
    assert!(keys.authenticate(key).unwrap().is_none());
    let (line, code) = complaint(&execbox(data.path(), "keys revoke 000000000000"));
    assert!(line.contains("execbox keys list") && code == Some(2), "{line}");
}

#[test]
fn a_second_server_and_an_open_address_are_refused() {
    let data = tempfile::tempdir().unwrap();
    let (line, code) = complaint(&execbox(data.path(), "serve --listen 0.0.0.0:0"));
    assert!(line.contains("execbox keys create") && code == Some(2), "{line}");
    let _server = DataDir::open(data.path()).unwrap();
    let (line, code) = complaint(&execbox(data.path(), "serve --listen 127.0.0.1:0"));
    assert!(line.contains("another execbox server") && code == Some(125), "{line}");
}

/// What happens to the bytes of a file.
type Damage = fn(&mut Vec<u8>);

#[test]
fn a_damaged_database_stops_the_start_and_says_what_to_do() {
    let damage: [(&str, Damage); 4] = [
        ("cut to nothing", |bytes| bytes.clear()),
        ("cut to 100 bytes", |bytes| bytes.truncate(100)),
        ("a flipped bit in the header", |bytes| bytes[3] ^= 1),
        ("a flipped bit in a page", |bytes| bytes[4_100] ^= 0x80),
    ];
    for (name, harm) in damage {
        let data = tempfile::tempdir().unwrap();
        assert!(execbox(data.path(), "keys create --tenant a").status.success());
        let file = data.path().join("execbox.db");
        let mut bytes = std::fs::read(&file).unwrap();
        harm(&mut bytes);
        std::fs::write(&file, &bytes).unwrap();
        for words in ["serve --listen 127.0.0.1:0", "keys list", "keys create --tenant b"] {
            let (line, code) = complaint(&execbox(data.path(), words));
            assert!(line.contains("damaged") && line.contains("backup"), "{name}: {line}");
            assert_eq!(code, Some(125), "{name}");
        }
        assert!(std::fs::read(&file).unwrap() == bytes, "{name}: the file is left as it was");
    }
}
