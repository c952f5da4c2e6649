//! Images of hostile make, and builds that many wait for, that fail, or that are cut off.

use std::path::Path;
use std::time::{Duration, Instant};

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{CreateContainerOptions, RemoveContainerOptions};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::engine::{self, image_tags as tags, remove_images as remove};
use crate::fault_proxy::{Fault, FaultProxy, Target};
use crate::server::{EXECBOX, Server};

/// A folder for `--images-dir` with one runtime.
fn runtime(name: &str, dockerfile: &str, run: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join(name);
    std::fs::create_dir(&own).unwrap();
    // Each test's image is its own, whatever an earlier run left.
    let unique = format!("LABEL of={}\n", folder.path().file_name().unwrap().to_str().unwrap());
    std::fs::write(own.join("Dockerfile"), format!("FROM debian:trixie-slim\n{unique}{dockerfile}")).unwrap();
    let manifest = format!("name = \"{name}\"\nversion = \"1\"\nextensions = [\"{name}\"]\nrun = {run}\n");
    std::fs::write(own.join("runtime.toml"), manifest).unwrap();
    folder
}

fn flags(folder: &Path) -> [&str; 2] {
    ["--images-dir", folder.to_str().unwrap()]
}

fn hello(name: &str) -> Value {
    json!({"language": name, "files": [{"name": format!("a.{name}"), "content": "hi"}]})
}

#[tokio::test]
async fn twenty_that_want_a_new_image_wait_for_one_build_and_a_failure_is_not_remembered() {
    let folder = runtime("wanted", "RUN sleep 1\n", r#"["/bin/cat", "{entrypoint}"]"#);
    let proxy = FaultProxy::start();
    let host = proxy.host();
    let mut flags = flags(folder.path()).to_vec();
    flags.extend(["--docker-host", &host, "--workers", "4"]);
    let server = Server::start_with(&flags).await;
    proxy.arm(Target::Kind("build"), Fault::Error);
    let refused = server.eval(&hello("wanted")).await;
    assert_eq!(
        (&refused["status"], &refused["reason"]),
        (&json!("failed"), &json!("internal")),
        "{refused:#}"
    );
    assert!(refused["error"].as_str().unwrap().contains("the image of wanted"), "{refused:#}");
    assert_eq!(proxy.disarm(), ["build"]);
    let body = hello("wanted");
    for result in join_all((0..20).map(|_| server.eval(&body))).await {
        assert_eq!(result["stdout"], "hi", "{result:#}");
    }
    let builds = proxy.take_calls().iter().filter(|call| *call == "build").count();
    assert_eq!(builds, 1, "they were to share it");
    server.finish().await;
    remove("wanted").await;
}

/// At several moments of the build.
#[tokio::test]
async fn a_server_killed_while_it_builds_leaves_no_half_image() {
    let dockerfile = "RUN echo one > /one && sleep 2\nRUN echo two > /two && sleep 1\n";
    let folder = runtime("halved", dockerfile, r#"["/bin/cat", "/one", "/two", "{entrypoint}"]"#);
    for after in [0, 1_000, 2_500] {
        remove("halved").await;
        let proxy = FaultProxy::start();
        let host = proxy.host();
        let mut with_proxy = flags(folder.path()).to_vec();
        with_proxy.extend(["--docker-host", &host]);
        let server = Server::start_with(&with_proxy).await;
        let url = format!("{}/api/v1/exec/async", server.url);
        let accepted: Value =
            server.client.post(url).json(&hello("halved")).send().await.unwrap().json().await.unwrap();
        let began = Instant::now();
        while !proxy.take_calls().iter().any(|call| call == "build") {
            assert!(began.elapsed() < Duration::from_secs(60), "the build never began");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(after)).await;
        let data = server.crash().await;
        assert_eq!(tags("halved").await, [""; 0], "tagged before it was whole");
        let next = Server::start_on(data, &flags(folder.path())).await;
        // The one that waited for the build, and a new one.
        let waited = next.wait(accepted["execution_id"].as_str().unwrap()).await;
        for result in [waited, next.eval(&hello("halved")).await] {
            assert_eq!(result["stdout"], "one\ntwo\nhi", "{result:#}");
        }
        next.finish().await;
    }
    remove("halved").await;
}

/// Everything that an image can say about how it wants to be run.
#[tokio::test]
async fn what_an_image_says_about_its_start_does_not_count() {
    let dockerfile = "RUN echo '#!/bin/sh\\ntouch /tmp/started-by-image' > /evil && chmod 4755 /evil\n\
        ENV LD_PRELOAD=/evil.so BASH_ENV=/evil SECRET=canary PATH=/evil\n\
        USER 0\nWORKDIR /proc/self/fd/8\nENTRYPOINT [\"/evil\"]\nCMD [\"/evil\"]\nSTOPSIGNAL SIGCONT\nEXPOSE 80\n\
        HEALTHCHECK --interval=1s CMD touch /tmp/health\nONBUILD RUN touch /onbuild\n";
    let folder = runtime("crafted", dockerfile, r#"["/bin/bash", "{entrypoint}"]"#);
    let server = Server::start_with(&flags(folder.path())).await;
    let program = "sleep 2; id -u; pwd; ls /tmp; env | grep -v '^_=' | sort; tr '\\0' ' ' < /proc/1/cmdline";
    let body = json!({"language": "crafted", "files": [{"name": "a.crafted", "content": program}]});
    let result = server.eval(&body).await;
    assert_eq!((&result["reason"], &result["exit_code"]), (&json!("exited"), &json!(0)), "{result:#}");
    let said: Vec<_> = result["stdout"].as_str().unwrap().lines().map(str::trim).collect();
    let uid: u32 = said[0].parse().unwrap();
    assert!((20_000..20_100).contains(&uid), "{result:#}");
    assert_eq!(said[1], "/work", "{result:#}");
    for word in ["started-by-image", "health", "SECRET", "canary", "LD_PRELOAD", "BASH_ENV", "PATH=/evil"] {
        assert!(!said.iter().any(|line| line.contains(word)), "{word}: {result:#}");
    }
    assert!(said.last().unwrap().starts_with("/.execbox-runner/execbox __runner"), "{result:#}");
    server.finish().await;
    remove("crafted").await;
}

/// It would be a disk that can be written, under a root that can't.
#[tokio::test]
async fn an_image_with_a_volume_is_refused() {
    let folder = runtime("volumed", "VOLUME /data\n", r#"["/bin/cat", "{entrypoint}"]"#);
    let server = Server::start_with(&flags(folder.path())).await;
    // The second time the image is there already.
    for _ in 0..2 {
        let result = server.eval(&hello("volumed")).await;
        assert_eq!(
            (&result["status"], &result["reason"]),
            (&json!("failed"), &json!("internal")),
            "{result:#}"
        );
        assert!(result["error"].as_str().unwrap().contains("VOLUME"), "{result:#}");
    }
    server.finish().await;
    remove("volumed").await;
}

/// Case B20: what the Engine says of a failed build is for the operator's log.
#[tokio::test]
async fn a_build_that_fails_tells_callers_nothing_of_the_host() {
    let dockerfile = "RUN echo canary-of-the-build; cat /etc/hostname; exit 3\n";
    let folder = runtime("failing", dockerfile, r#"["/bin/cat", "{entrypoint}"]"#);
    let server = Server::start_with(&flags(folder.path())).await;
    let mut result = server.eval(&hello("failing")).await;
    assert_eq!((&result["status"], &result["reason"]), (&json!("failed"), &json!("internal")), "{result:#}");
    result.as_object_mut().unwrap().remove("execution_id");
    let told = result.to_string();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let data = server.data.path().to_str().unwrap();
    let images = folder.path().to_str().unwrap();
    for secret in
        ["/var/lib/docker", "docker.sock", "canary-of-the-build", "sha256:", host.trim(), data, images]
    {
        assert!(!told.contains(secret), "{secret} is in {told}");
    }
    let words = told.split(|c: char| !c.is_ascii_alphanumeric());
    let ids: Vec<_> =
        words.filter(|word| word.len() >= 12 && word.bytes().all(|b| b.is_ascii_hexdigit())).collect();
    assert!(ids.is_empty(), "{ids:?} in {told}");
    server.finish().await;
}

/// Case H07.
#[tokio::test]
async fn an_image_that_loses_its_name_takes_nothing_from_who_runs() {
    let folder = runtime("renamed", "", r#"["/bin/bash", "{entrypoint}"]"#);
    let server = Server::start_with(&flags(folder.path())).await;
    let body = |code: &str| json!({"language": "renamed", "files": [{"name": "a.renamed", "content": code}]});
    assert_eq!(server.eval(&body("echo before")).await["stdout"], "before\n");
    let url = format!("{}/api/v1/exec/async", server.url);
    let running = body("echo up; sleep 2; cat /etc/debian_version >/dev/null && echo done");
    let accepted: Value = server.client.post(url).json(&running).send().await.unwrap().json().await.unwrap();
    let id = accepted["execution_id"].as_str().unwrap();
    server.wrote(id, "up").await;
    remove("renamed").await;
    assert_eq!(tags("renamed").await, [""; 0]);
    // Meanwhile somebody needs it again.
    let again = server.eval(&body("echo again")).await;
    assert_eq!((&again["stdout"], &again["attempt"]), (&json!("again\n"), &json!(1)), "{again:#}");
    let result = server.wait(id).await;
    assert_eq!((&result["stdout"], &result["attempt"]), (&json!("up\ndone\n"), &json!(1)), "{result:#}");
    server.finish().await;
    remove("renamed").await;
}

/// `execbox images ...`, its answer and its notes.
async fn execbox_images(arguments: &[&str]) -> (String, String) {
    let output = tokio::process::Command::new(EXECBOX).arg("images").args(arguments).output().await.unwrap();
    let notes = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{notes}");
    (String::from_utf8(output.stdout).unwrap(), notes)
}

#[tokio::test]
async fn images_of_a_runtime_that_changed_are_removed_once_nothing_uses_them() {
    let folder =
        runtime("stale", "RUN head -c 3000000 /dev/zero > /old\n", r#"["/bin/cat", "{entrypoint}"]"#);
    let place = ["--images-dir", folder.path().to_str().unwrap()];
    let build = [&["build", "stale"][..], &place].concat();
    let (_, notes) = execbox_images(&build).await;
    assert!(notes.contains("[1/1] stale 1: ") && notes.contains("1 of 1 images are built"), "{notes}");
    let old = tags("stale").await;
    let dockerfile = folder.path().join("stale/Dockerfile");
    let text = std::fs::read_to_string(&dockerfile).unwrap();
    std::fs::write(&dockerfile, text.replace("/old", "/new")).unwrap();
    execbox_images(&build).await;
    assert_eq!(tags("stale").await.len(), 2);

    let docker = engine::engine().await;
    let cmd = Some(vec!["true".to_owned()]);
    let body = ContainerCreateBody { image: Some(old[0].clone()), cmd, ..Default::default() };
    let container = docker.create_container(None::<CreateContainerOptions>, body).await.unwrap().id;
    let collect = [&["gc", "stale"][..], &place].concat();
    let (removed, notes) = execbox_images(&collect).await;
    assert!(removed.is_empty() && notes.contains(&format!("{} is in use", old[0])), "{removed}{notes}");
    docker.remove_container(&container, None::<RemoveContainerOptions>).await.unwrap();

    let (removed, notes) = execbox_images(&collect).await;
    assert_eq!(removed, format!("{}\n", old[0]));
    assert!(notes.contains("1 images removed, 3 MB freed"), "{notes}");
    let left = tags("stale").await;
    assert!(left.len() == 1 && left != old, "{left:?}");
    assert_eq!(execbox_images(&collect).await.0, "");
    remove("stale").await;
}
