//! Crates, from the registry of this machine and from an index of the tests' own.

use std::collections::HashMap;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use crate::dependencies::{finish, no_package_volumes};
use crate::engine;
use crate::package_index::Index;
use crate::server::Server;

/// A procedural macro with a build script, and a library.
const CRATES: [(&str, &str, &str); 2] = [
    ("paste", "1.0.15", "57c0d7b74b563b49d38dae00a0c37d4d6de9b432382b2892f0574ddcae73fd0a"),
    ("itoa", "1.0.11", "49f1f14873335454500d59611f1cf4a4b0f786f9ac11f4312a78e4cf2566695b"),
];
const MANIFEST: &str = "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[dependencies]\nitoa = \"1\"\npaste = \"1\"\n";
const PROGRAM: &str = "paste::paste! { fn [<for ty>]() -> u8 { 42 } }\n\nfn main() { println!(\"{}\", itoa::Buffer::new().format(forty())); }\n";

fn lock(crates: &[(&str, &str, &str)]) -> String {
    let own = "version = 4\n\n[[package]]\nname = \"app\"\nversion = \"0.1.0\"\n";
    let names = crates.iter().map(|(name, ..)| format!(" {name:?},\n"));
    let packages = crates.iter().map(|(name, version, hash)| {
        format!(
            "\n[[package]]\nname = {name:?}\nversion = {version:?}\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\nchecksum = {hash:?}\n"
        )
    });
    format!("{own}dependencies = [\n{}]\n{}", names.collect::<String>(), packages.collect::<String>())
}

fn project() -> Value {
    json!([{"name": "src/main.rs", "content": PROGRAM}, {"name": "Cargo.toml", "content": MANIFEST},
        {"name": "Cargo.lock", "content": lock(&CRATES)}])
}

#[tokio::test]
async fn locked_crates_are_installed_once_and_found_by_cargo() {
    let server = Server::start_with(&["--installs", "packages"]).await;
    let mut body = json!({"files": project(), "install": true});
    let first = server.eval(&body).await;
    assert_eq!(first["stdout"], "42\n", "{first:#}");
    assert_eq!(first["install"]["exit_code"], 0, "{first:#}");
    let log = "fetched itoa 1.0.11\nfetched paste 1.0.15\ncompiled for programs to start from\n";
    assert_eq!(first["install"]["log"], log, "{first:#}");
    assert_eq!(first.get("artifacts"), None, "{first:#}");

    // Where the project says that its crates are does not matter.
    let settings =
        "[source.crates-io]\nreplace-with = \"vendored\"\n[source.vendored]\ndirectory = \"nowhere\"\n";
    let settings = json!({"name": ".cargo/config.toml", "content": settings});
    body["files"].as_array_mut().unwrap().push(settings);
    let second = server.eval(&body).await;
    assert_eq!((&second["stdout"], &second["install"]), (&json!("42\n"), &Value::Null), "{second:#}");
    assert_eq!(second["timings"]["install_ms"], 0.0, "{second:#}");

    body["install"] = json!(false);
    body["files"] = project();
    let without = server.eval(&body).await;
    assert_eq!(without["reason"], "compile_failed", "{without:#}");
    let said = without["compile"]["stderr"].as_str().unwrap();
    assert!(
        said.contains("no matching package") && said.contains("ask for them with \"install\": true"),
        "{said}"
    );
    finish(server).await;
}

/// What an install of this lock says where it must fail.
async fn refused(server: &Server, crates: &[(&str, &str, &str)]) -> String {
    let body = json!({"language": "rust", "code": "fn main() {}", "dependencies": {"Cargo.toml": "", "Cargo.lock": lock(crates)}});
    let result = server.eval(&body).await;
    assert_eq!(result["reason"], "install_failed", "{crates:?}: {result:#}");
    let log = result["install"]["log"].as_str().unwrap();
    assert!(result["error"].as_str().unwrap().ends_with(log.trim_end()), "{result:#}");
    log.lines().last().unwrap_or(result["error"].as_str().unwrap()).to_owned()
}

#[tokio::test]
async fn a_crate_with_another_hash_or_version_than_there_is_is_not_installed() {
    let server = Server::start_with(&["--installs", "packages"]).await;
    let [(name, version, hash), itoa] = CRATES;
    let forged = hash.replace("57c0", "57c1");
    let said = refused(&server, &[itoa, (name, version, &forged)]).await;
    assert_eq!(said, format!("error: paste 1.0.15 has the sha256 {hash}, and not the lock's, {forged}"));
    let said = refused(&server, &[itoa, (name, "0.99.99", hash)]).await;
    assert!(said.starts_with("error: paste 0.99.99 can't be fetched: ") && said.contains("404"), "{said}");
    no_package_volumes(&server).await;
    finish(server).await;
}

/// Kind, path, and content or target.
type Member<'a> = (EntryType, &'a str, &'a str);

/// A crate of these.
fn packed(members: &[Member<'_>]) -> Vec<u8> {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (kind, path, text) in members {
        let mut head = Header::new_gnu();
        // As it is: a library would refuse to write such paths.
        head.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        head.set_entry_type(*kind);
        head.set_mode(0o644);
        let content = if *kind == EntryType::Regular { text.as_bytes() } else { &[] };
        if *kind != EntryType::Regular {
            head.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        head.set_size(content.len() as u64);
        head.set_cksum();
        tar.append(&head, content).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// An index with crates at 1.0.0, and the flag of a server that uses it.
async fn index(crates: &[(&str, Vec<u8>)]) -> (Index, String) {
    let files = |url: &str| {
        let markers = "{prefix}/{lowerprefix}/{crate}/{version}/{sha256-checksum}";
        let config = format!("{{\n  \"api\": null,\n  \"dl\": \"{url}/{markers}\"\n}}");
        let mut files = HashMap::from([("/index/config.json".to_owned(), config.into_bytes())]);
        for (name, content) in crates {
            let prefix = format!("{}/{}", &name[..2], &name[2..4]);
            let path = format!("/{prefix}/{}/{name}/1.0.0/{}", prefix.to_lowercase(), hash(content));
            files.insert(path, content.clone());
        }
        files
    };
    let index = Index::of(files).await;
    let flag = format!("--registry=cargo={}/index/", index.url);
    (index, flag)
}

fn hash(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

/// Case F05: whatever its archive says, a crate is files in its own folder, or nothing is installed.
#[tokio::test]
async fn f05_a_hostile_crate_writes_nowhere_else() {
    use EntryType::{Directory, Fifo, Link, Regular, Symlink};
    let own = (Regular, "Evil-1.0.0/Cargo.toml", "[package]\nname = \"Evil\"\nversion = \"1.0.0\"\n");
    let odd: Vec<(&str, Vec<Member<'_>>)> = vec![
        ("up", vec![own, (Regular, "Evil-1.0.0/../../../vendor/itoa-1.0.11/x", "x")]),
        ("beside", vec![own, (Regular, "../escaped", "x")]),
        ("absolute", vec![own, (Regular, "/work/vendor/itoa-1.0.11/x", "x")]),
        ("another", vec![own, (Regular, "itoa-1.0.11/src/lib.rs", "x")]),
        ("elsewhere", vec![(Regular, "Cargo.toml", "x")]),
        ("through", vec![own, (Symlink, "Evil-1.0.0/to", "/work/vendor"), (Regular, "Evil-1.0.0/to/x", "x")]),
        ("link", vec![own, (Symlink, "Evil-1.0.0/to", "Cargo.toml")]),
        ("hard", vec![own, (Link, "Evil-1.0.0/to", "Evil-1.0.0/Cargo.toml")]),
        ("lock", vec![own, (Link, "Evil-1.0.0/to", "/work/Cargo.lock")]),
        ("pipe", vec![own, (Fifo, "Evil-1.0.0/to", "")]),
        ("folder", vec![(Symlink, "Evil-1.0.0", "/work/vendor")]),
        ("nothing", vec![(Directory, ".", "")]),
    ];
    let whole = packed(&[own, (Regular, "Evil-1.0.0/src/lib.rs", "")]);
    let rest = [("truncated", whole[..whole.len() / 2].to_vec()), ("text", b"no archive".to_vec())];
    let odd = odd.into_iter().map(|(what, members)| (what, packed(&members)));
    let odd: Vec<_> = odd.chain(rest).collect();
    let crates: Vec<_> =
        odd.iter().map(|(_, content)| ("Evil", content.clone())).chain([("Evil", whole.clone())]).collect();
    let (index, flag) = index(&crates).await;
    let server = Server::start_with(&["--installs", "packages", &flag]).await;
    for (what, content) in &odd {
        let said = refused(&server, &[("Evil", "1.0.0", &hash(content))]).await;
        let why = said.strip_prefix("error: Evil-1.0.0 ").unwrap_or_else(|| panic!("{what}: {said}"));
        assert!(why == "holds more than files in a folder of its name" || why.len() > 30, "{what}: {said}");
    }
    no_package_volumes(&server).await;

    // Without them it is a crate like any other; what it says of its own hash does not count.
    let look = r#"fn main() { print!("{}", std::fs::read_to_string("/deps/vendor/Evil-1.0.0/.cargo-checksum.json").unwrap()); }"#;
    let lock = lock(&[("Evil", "1.0.0", &hash(&whole))]);
    let result =
        server.eval(&json!({"language": "rust", "code": look, "dependencies": {"Cargo.toml": "", "Cargo.lock": lock}})).await;
    assert_eq!(
        result["stdout"],
        format!("{{\"files\":{{}},\"package\":\"{}\"}}\n", hash(&whole)),
        "{result:#}"
    );
    let host = index.url.split('/').nth(2).unwrap();
    let missing = refused(&server, &[("Good", "1.0.0", &hash(b""))]).await;
    assert!(missing.contains("Good 1.0.0 can't be fetched") && !missing.contains(host), "{missing}");
    finish(server).await;
}

/// Case F03: what a crate grows to counts, not what was sent.
#[tokio::test]
async fn f03_a_crate_that_unpacks_without_end_is_stopped() {
    let big = "\0".repeat(300 << 20);
    let bomb = packed(&[(EntryType::Regular, "Evil-1.0.0/src/lib.rs", &big)]);
    let (_index, flag) = index(&[("Evil", bomb.clone())]).await;
    let server = Server::start_with(&["--installs", "packages", "--install-disk-mb", "64", &flag]).await;
    let body = json!({"language": "rust", "code": "fn main() {}", "dependencies": {"Cargo.toml": "", "Cargo.lock": lock(&[("Evil", "1.0.0", &hash(&bomb))])}});
    let result = server.eval(&body).await;
    assert_eq!(result["reason"], "install_failed", "{result:#}");
    assert!(result["error"].as_str().unwrap().contains("64 MiB"), "{result:#}");
    no_package_volumes(&server).await;
    finish(server).await;
}

/// What a build script finds of a network, and when it ran.
const LOOK: &str = r#"fn main() {
    let reached = std::net::TcpStream::connect("INDEX").is_ok();
    let devices = std::fs::read_to_string("/proc/net/dev").unwrap().lines().count() - 2;
    let proxies = std::env::vars().filter(|(name, _)| name.ends_with("_proxy")).count();
    let ran = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    let writes = std::fs::write("/deps/vendor/Probe-1.0.0/x", "").is_ok();
    println!("cargo:rustc-env=FOUND={reached} {devices} {proxies} {writes} {ran}");
}"#;

fn library(build: &str, code: &str) -> Vec<u8> {
    let manifest =
        "[package]\nname = \"Probe\"\nversion = \"1.0.0\"\nedition = \"2021\"\nbuild = \"build.rs\"\n";
    let files = [("Cargo.toml", manifest), ("build.rs", build), ("src/lib.rs", code)];
    let paths = files.map(|(name, text)| (format!("Probe-1.0.0/{name}"), text));
    let members: Vec<_> =
        paths.iter().map(|(path, text)| (EntryType::Regular, path.as_str(), *text)).collect();
    packed(&members)
}

/// That has this crate.
async fn server_with(content: &[u8]) -> Server {
    let (_index, flag) = index(&[("Probe", content.to_vec())]).await;
    Server::start_with(&["--installs", "packages", &flag]).await
}

fn with_library(content: &[u8], program: &str) -> Value {
    let manifest = MANIFEST.split("itoa").next().unwrap().to_owned() + "Probe = \"1\"\n";
    json!({"install": true, "files": [{"name": "src/main.rs", "content": program}, {"name": "Cargo.toml", "content": manifest},
        {"name": "Cargo.lock", "content": lock(&[("Probe", "1.0.0", &hash(content))])}]})
}

/// Case F02: build scripts and macros run when crates are installed, and reach nobody.
#[tokio::test]
async fn f02_code_of_crates_runs_once_and_without_a_network() {
    let own = Index::of(|_| HashMap::new()).await;
    let build = LOOK.replace("INDEX", own.url.split('/').nth(2).unwrap());
    let content = library(&build, "pub const FOUND: &str = env!(\"FOUND\");\n");
    let server = server_with(&content).await;
    let body = with_library(&content, "fn main() { print!(\"{}\", Probe::FOUND); }\n");
    let first = server.eval(&body).await;
    let found = first["stdout"].as_str().unwrap();
    assert!(found.starts_with("false 1 0 false "), "{first:#}");
    // Another program of the same crates.
    let body = with_library(&content, "fn main() { print!(\"{}\", Probe::FOUND.trim()); }\n");
    let second = server.eval(&body).await;
    assert_eq!(second["stdout"], found, "it ran again: {second:#}");
    assert_eq!(own.asked(), [""; 0], "somebody came");
    finish(server).await;
}

/// What compiles crates is in a container as programs are, but for the volume, which is there twice.
#[tokio::test]
async fn crates_are_compiled_in_a_container_without_a_network_and_no_longer_than_somebody_waits() {
    let content = library("fn main() { std::thread::sleep(std::time::Duration::from_secs(600)); }", "");
    let server = server_with(&content).await;
    let url = format!("{}/api/v1/exec/async", server.url);
    let request = server.client.post(url).json(&with_library(&content, "fn main() {}\n"));
    let accepted: Value = request.send().await.unwrap().json().await.unwrap();
    let id = accepted["execution_id"].as_str().unwrap();
    engine::program(&server.label(), "build-script-build").await;
    let container = engine::running_with(&server.label(), "build-script-build").await;
    let (config, host) = (container.config.unwrap(), container.host_config.unwrap());
    assert_eq!(config.network_disabled, Some(true));
    assert_eq!(host.network_mode.as_deref(), Some("none"));
    assert_eq!((host.readonly_rootfs, host.privileged), (Some(true), Some(false)));
    assert_eq!(host.cap_drop.as_deref(), Some(&["ALL".to_owned()][..]));
    assert!(config.user.unwrap().starts_with('2'));
    let mounts = container.mounts.unwrap();
    let mut mounts: Vec<_> = mounts
        .iter()
        .map(|mount| {
            (mount.destination.as_deref().unwrap(), mount.rw.unwrap(), mount.name.as_deref().unwrap())
        })
        .filter(|(place, ..)| *place != "/.execbox-runner")
        .collect();
    mounts.sort_unstable();
    let volume = mounts[0].2;
    assert_eq!(mounts, [("/deps", false, volume), ("/work", true, volume)]);
    server.kill(id).await;
    assert_eq!(server.wait(id).await["status"], "killed");
    no_package_volumes(&server).await;
    finish(server).await;
}

/// Crates that are not compiled ahead are compiled with the program, which may do without them, or say what is wrong.
#[tokio::test]
async fn crates_that_do_not_compile_are_installed_all_the_same() {
    let content = library("fn main() {}", "pub fn broken() -> u8 { \"text\" }\n");
    let server = server_with(&content).await;
    let result = server.eval(&with_library(&content, "fn main() {}\n")).await;
    assert_eq!(result["reason"], "compile_failed", "{result:#}");
    assert!(result["compile"]["stderr"].as_str().unwrap().contains("mismatched types"), "{result:#}");
    let log = result["install"]["log"].as_str().unwrap();
    assert!(log.contains("mismatched types"), "{log}");
    assert!(log.ends_with("the packages were not compiled (exited); each program compiles them\n"), "{log}");
    finish(server).await;
}
