//! What an operator sees of keys and of a database that can't be used: the real binary, which gets nowhere near an
//! Engine here.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
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

/// `execbox images list` with this address of the Engine, as another user than root where there is one to be.
fn images_list(address: &str, as_nobody: bool) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut binary = std::path::PathBuf::from(env!("CARGO_BIN_EXE_execbox"));
    if as_nobody {
        // The folder of the build may be root's alone.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        binary = folder.path().join("execbox");
        std::fs::copy(env!("CARGO_BIN_EXE_execbox"), &binary).unwrap();
    }
    let mut command = Command::new(binary);
    command.args(["images", "list"]).current_dir("/").env("DOCKER_HOST", address);
    command.env_remove("EXECBOX_DOCKER_HOST");
    if as_nobody && nix::unistd::geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    command.output().unwrap()
}

/// A user outside the socket's group needs the group, not another Engine.
#[test]
fn an_engine_that_is_not_for_this_user_is_told_with_the_way_in() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let socket = folder.path().join("engine.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    // Not even its owner, where that is who runs the tests; root gives it to a group, as packages of Docker do.
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o060)).unwrap();
    let mut way_in = "Run as root, or";
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&socket, None, Some(6)).unwrap();
        way_in = "Run as root, or: sudo usermod -aG disk nobody, and log in again";
    }
    let (text, code) = complaint(&images_list(socket.to_str().unwrap(), true));
    assert_eq!(code, Some(125), "{text}");
    let there = format!("{} is there, but ", socket.display());
    assert!(text.contains(&there) && text.contains(way_in) && !text.contains("start one"), "{text}");
}

#[test]
fn an_address_that_leads_to_no_engine_is_told_with_what_would() {
    for (address, words, code) in [
        ("ssh://me@far", "ssh -nNT -L", 2),
        ("npipe:////./pipe/docker_engine", "Windows", 2),
        ("https://far:2376", "TLS", 2),
        ("docker.sock", "unix:///run/docker.sock", 2),
        ("/no/such.sock", "unix:///no/such.sock: Socket not found", 125),
        ("tcp://127.0.0.1:1", "tcp://127.0.0.1:1: Connection refused", 125),
    ] {
        let (text, found) = complaint(&images_list(address, false));
        assert!(text.contains(words) && found == Some(code), "{address}: {text}");
        assert_eq!(code == 2, text.contains("DOCKER_HOST: the Engine's address `"), "{text}");
    }
}

/// A key in the wrong folder opens nothing: whoever makes one is told where it is, and who knows it.
#[test]
fn a_key_says_which_folder_it_is_for_and_whether_a_server_uses_it() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("new");
    let said = |output: &Output| String::from_utf8(output.stderr.clone()).unwrap();
    let made = execbox(&folder, "keys create --tenant a");
    assert!(made.status.success(), "{}", said(&made));
    assert!(String::from_utf8(made.stdout.clone()).unwrap().starts_with("exb_"), "the key alone");
    let place = folder.canonicalize().unwrap();
    for part in [place.to_str().unwrap(), "which was made for it", "no server uses it at present"] {
        assert!(said(&made).contains(part), "{part}: {}", said(&made));
    }
    let server = DataDir::open(&folder).unwrap();
    let again = said(&execbox(&folder, "keys create --tenant a"));
    assert!(again.contains("a server uses it") && !again.contains("made for it"), "{again}");
    drop(server);
    // Looking at keys makes no folder.
    let wrong = home.path().join("wrong");
    for words in ["keys list", "keys revoke 000000000000"] {
        let (line, code) = complaint(&execbox(&wrong, words));
        assert!(line.contains("this is no data folder of execbox") && code == Some(2), "{line}");
        assert!(!wrong.exists());
    }
}

#[test]
fn settings_that_contradict_one_another_stop_the_start_and_the_doctor() {
    let data = tempfile::tempdir().unwrap();
    let (line, code) = complaint(&execbox(data.path(), "serve --listen 127.0.0.1:0 --memory-mb 9000"));
    assert!(
        line.contains("--memory-mb is 9000, over --max-memory-mb, which is 4096") && code == Some(2),
        "{line}"
    );
    let words = "doctor --memory-mb 9000 --docker-host unix:///no/such.sock";
    let told = String::from_utf8(execbox(data.path(), words).stdout).unwrap();
    assert!(told.contains("--memory-mb is 9000, over --max-memory-mb"), "{told}");
}

#[test]
fn the_doctor_writes_to_the_data_folder_and_leaves_nothing() {
    let data = tempfile::tempdir().unwrap();
    let words = "doctor --docker-host unix:///no/such.sock";
    let told = String::from_utf8(execbox(data.path(), words).stdout).unwrap();
    assert!(told.contains("MiB free for"), "{told}");
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0);
    let low = String::from_utf8(execbox(data.path(), &format!("{words} --data-reserve-mb 999999999")).stdout)
        .unwrap();
    assert!(low.contains("lower --data-reserve-mb"), "{low}");
    // Nobody can write there, root neither.
    let told = String::from_utf8(execbox(Path::new("/proc/sys"), words).stdout).unwrap();
    assert!(told.contains("can't be written"), "{told}");
}
