//! Packages that requests ask for, installed by real installers from the registries of this machine.

use std::time::{Duration, Instant};

use bollard::models::ContainerInspectResponse;
use serde_json::{Value, json};

use crate::engine;
use crate::package_index::Index;
use crate::server::Server;

/// Volumes with packages outlive their server, for the next one: tests remove theirs.
pub async fn finish(server: Server) {
    let (packages, label) = (packages_label(&server), server.label());
    server.finish().await;
    assert_eq!(engine::networks(&label).await, [], "a network is left");
    engine::remove_packages(&packages).await;
}

fn packages_label(server: &Server) -> String {
    server.label().replace("execbox.instance", "execbox.dependencies")
}

/// Those with packages in them, without what says that they are whole.
async fn package_volumes(server: &Server) -> Vec<String> {
    let all = engine::volumes(&packages_label(server)).await;
    all.into_iter().filter(|name| !name.ends_with("-whole")).collect()
}

/// Waits until those of failed installs are gone.
pub async fn no_package_volumes(server: &Server) {
    let began = Instant::now();
    while !package_volumes(server).await.is_empty() {
        assert!(began.elapsed() < Duration::from_secs(20), "a volume of a failed install is left");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn six(code: &str) -> Value {
    json!({"language": "python", "code": code, "requirements_txt": "six==1.16.0\n"})
}

const VERSION: &str = "import six; print(six.__version__, six.__file__)";

#[tokio::test]
async fn a_package_is_installed_once_and_used_without_a_network() {
    let server = Server::start_with(&["--installs", "packages"]).await;
    let first = server.eval(&six(VERSION)).await;
    assert_eq!(first["stdout"], "1.16.0 /deps/site/six.py\n", "{first:#}");
    assert_eq!(first["install"]["exit_code"], 0, "{first:#}");
    assert!(
        first["install"]["log"].as_str().unwrap().contains("Successfully installed six-1.16.0"),
        "{first:#}"
    );
    assert!(first["timings"]["install_ms"].as_f64().unwrap() > 0.0, "{first:#}");

    let offline = "import socket, six\ntry:\n    socket.create_connection(('192.0.2.1', 443), 2)\nexcept OSError as error:\n    print(error.errno)";
    // The same in other words.
    let mut again = six(offline);
    again["requirements_txt"] = json!("# comment\n  SIX == 1.16.0 # why\r\n\r\nsix==1.16.0");
    let second = server.eval(&again).await;
    assert_eq!(second["stdout"], "101\n", "the network must be unreachable: {second:#}");
    assert_eq!(
        (&second["install"], &second["timings"]["install_ms"]),
        (&Value::Null, &json!(0.0)),
        "{second:#}"
    );
    assert_eq!(package_volumes(&server).await.len(), 1);

    let write = "for path in ('/deps/site/six.py', '/deps/site/x', '/deps/x'):\n    try:\n        open(path, 'a')\n    except OSError as error:\n        print(error.errno in (13, 30))\nmounts = [line.split() for line in open('/proc/mounts')]\nprint([mount[3].split(',')[0] for mount in mounts if mount[1] == '/deps'])";
    let refused = server.eval(&six(write)).await;
    assert_eq!(refused["stdout"], "True\nTrue\nTrue\n['ro']\n", "{refused:#}");
    finish(server).await;
}

/// However a program is started, it finds them, and has no network, also where it asks for one.
#[tokio::test]
async fn scripts_calls_and_last_expressions_find_packages() {
    let server = Server::start_with(&["--installs", "packages"]).await;
    let with = |code: &str, field: &str, value: Value| {
        let mut body = six(code);
        body[field] = value;
        body
    };
    let script = with("import six\nsave_result('version', six.__version__)", "script", json!(true));
    assert_eq!(server.eval(&script).await["results"], json!({"version": "1.16.0"}));
    let call = with("import six\ndef main(): return six.__version__", "call", json!("main"));
    assert_eq!(server.eval(&call).await["return_value"], "1.16.0");
    let mut last = with("import six\nsix.__version__", "eval_last_expr", json!(true));
    last["config"] = json!({"network_disabled": false});
    let result = server.eval(&last).await;
    assert_eq!(result["result"], "'1.16.0'", "{result:#}");
    assert!(result["notices"][0].as_str().unwrap().contains("network stays off"), "{result:#}");
    finish(server).await;
}

#[tokio::test]
async fn two_at_once_build_one_volume() {
    let server = Server::start_with(&["--installs", "packages", "--workers", "2"]).await;
    let body = six(VERSION);
    let (one, other) = tokio::join!(server.eval(&body), server.eval(&body));
    for result in [&one, &other] {
        assert_eq!(result["stdout"], "1.16.0 /deps/site/six.py\n", "{result:#}");
    }
    assert_eq!(one["install"], other["install"], "both waited for the same");
    assert_eq!(package_volumes(&server).await.len(), 1);
    finish(server).await;
}

#[tokio::test]
async fn what_can_not_be_installed_is_told_with_the_end_of_the_log_and_not_remembered() {
    // On the Engine's own network, for once.
    let server = Server::start_with(&["--installs", "packages", "--install-network", "bridge"]).await;
    let mut body = six("print('never')");
    body["requirements_txt"] = json!("six==999.0.0");
    for _ in 0..2 {
        let result = server.eval(&body).await;
        assert_eq!(
            (&result["status"], &result["reason"]),
            (&json!("failed"), &json!("install_failed")),
            "{result:#}"
        );
        let error = result["error"].as_str().unwrap();
        assert!(error.contains("exit code 1") && error.contains("No matching distribution"), "{result:#}");
        assert!(result["install"]["log"].as_str().unwrap().contains("six==999.0.0"), "{result:#}");
        assert_eq!(
            (&result["install"]["exit_code"], &result["exit_code"]),
            (&json!(1), &json!(1)),
            "{result:#}"
        );
        assert_eq!(result.get("stdout"), None, "{result:#}");
    }
    no_package_volumes(&server).await;
    finish(server).await;
}

/// Case F06.
#[tokio::test]
async fn f06_what_was_used_longest_ago_makes_room_and_what_is_in_use_does_not() {
    // Neither package of some 60 KB leaves room for the other.
    let server = Server::start_with(&["--installs", "packages", "--dependencies-mb", "0"]).await;
    let url = format!("{}/api/v1/exec/async", server.url);
    let body = six("import time; print('up', flush=True); time.sleep(4); import six; print(six.__version__)");
    let accepted: Value = server.client.post(url).json(&body).send().await.unwrap().json().await.unwrap();
    let id = accepted["execution_id"].as_str().unwrap();
    server.wrote(id, "up").await;
    let used = package_volumes(&server).await;
    let mut other = six("import idna; print(idna.__version__)");
    other["requirements_txt"] = json!("idna==3.10");
    assert_eq!(server.eval(&other).await["stdout"], "3.10\n");
    assert_eq!(server.wait(id).await["stdout"], "up\n1.16.0\n");
    assert!(used.len() == 1, "{used:?}");
    // The last install looks at all of them again.
    other["requirements_txt"] = json!("colorama==0.4.6");
    other["code"] = json!("import colorama");
    assert_eq!(server.eval(&other).await["exit_code"], 0);
    gone(&server, &used[0]).await;
    finish(server).await;
}

async fn gone(server: &Server, volume: &str) {
    let began = Instant::now();
    while package_volumes(server).await.iter().any(|name| name == volume) {
        assert!(began.elapsed() < Duration::from_secs(40), "{volume} is left");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Case F09: only what is whole is used again.
#[tokio::test]
async fn a_server_killed_while_it_installs_leaves_nothing_that_is_used() {
    let index = Index::with("slow", "import time; time.sleep(600)").await;
    let flag = index.flag();
    let flags = ["--installs", "code", flag.as_str()];
    let server = Server::start_with(&flags).await;
    let body = json!({"language": "python", "code": "1", "requirements_txt": "slow==1.0"});
    let url = format!("{}/api/v1/exec/async", server.url);
    let accepted: Value = server.client.post(url).json(&body).send().await.unwrap().json().await.unwrap();
    let id = accepted["execution_id"].as_str().unwrap().to_owned();
    engine::program(&server.label(), "_in_process").await;
    let half = package_volumes(&server).await;
    assert_eq!(half.len(), 1);
    let networks = engine::networks(&server.label()).await;
    assert!(networks.len() == 1 && networks[0].internal == Some(true), "it leads nowhere: {networks:?}");
    assert_hardened(&engine::running_with(&server.label(), "_in_process").await, &half[0]);
    let data = server.crash().await;
    let server = Server::start_on(data, &flags).await;
    // It is run again, in another volume.
    engine::program(&server.label(), "_in_process").await;
    assert!(!package_volumes(&server).await.contains(&half[0]), "the half volume is there");
    server.kill(&id).await;
    assert_eq!(server.wait(&id).await["status"], "killed");
    let began = Instant::now();
    while !package_volumes(&server).await.is_empty() {
        assert!(began.elapsed() < Duration::from_secs(40), "an install that nobody waits for goes on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    finish(server).await;
}

/// The profile of programs, but for a network and the volume.
fn assert_hardened(container: &ContainerInspectResponse, volume: &str) {
    let config = container.config.as_ref().unwrap();
    let host = container.host_config.as_ref().unwrap();
    assert!(config.user.as_ref().unwrap().starts_with("2"), "{:?}", config.user);
    assert_eq!(config.env.as_ref().unwrap().len(), 1, "{:?}", config.env);
    assert!(host.network_mode.as_deref().unwrap().starts_with("execbox-install-"), "{:?}", host.network_mode);
    assert_eq!((host.readonly_rootfs, host.privileged), (Some(true), Some(false)));
    assert_eq!(host.cap_drop.as_deref(), Some(&["ALL".to_owned()][..]));
    assert_eq!(
        (host.pids_limit, host.memory, host.memory_swap),
        (Some(129), Some(1_191_182_336), host.memory)
    );
    let options = host.security_opt.as_ref().unwrap();
    assert!(options.iter().any(|option| option.starts_with("seccomp={")), "{options:?}");
    assert!(options.contains(&"no-new-privileges".to_owned()), "{options:?}");
    let mounts = container.mounts.as_ref().unwrap();
    let mut mounts: Vec<_> = mounts
        .iter()
        .map(|mount| {
            (mount.destination.as_deref().unwrap(), mount.rw.unwrap(), mount.name.as_deref().unwrap())
        })
        .collect();
    mounts.sort_unstable();
    assert_eq!(mounts.len(), 2, "{mounts:?}");
    assert_eq!((mounts[0].0, mounts[0].1), ("/.execbox-runner", false), "{mounts:?}");
    assert_eq!(mounts[1], ("/work", true, volume), "{mounts:?}");
}

#[tokio::test]
async fn the_next_server_finds_what_the_last_one_installed() {
    let flags = ["--installs", "packages"];
    let server = Server::start_with(&flags).await;
    assert_eq!(server.eval(&six(VERSION)).await["install"]["exit_code"], 0);
    let volumes = package_volumes(&server).await;
    let server = Server::start_on(server.crash().await, &flags).await;
    let again = server.eval(&six(VERSION)).await;
    assert_eq!((&again["stdout"], &again["install"]), (&json!("1.16.0 /deps/site/six.py\n"), &Value::Null));
    assert_eq!(package_volumes(&server).await, volumes);
    finish(server).await;
}

#[tokio::test]
async fn packages_that_somebody_removed_are_installed_again() {
    let server = Server::start_with(&["--installs", "packages", "--warm-max", "0", "--reuse", "never"]).await;
    assert_eq!(server.eval(&six(VERSION)).await["exit_code"], 0);
    let removed = package_volumes(&server).await;
    let began = Instant::now();
    // The last container is on its way out.
    while engine::try_remove_volume(&removed[0]).await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(20), "it is still used");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let again = server.eval(&six(VERSION)).await;
    assert_eq!(again["stdout"], "1.16.0 /deps/site/six.py\n", "{again:#}");
    gone(&server, &removed[0]).await;
    finish(server).await;
}

#[tokio::test]
async fn commands_run_before_the_install_and_end_it_when_they_fail() {
    let server = Server::start_with(&["--installs", "code"]).await;
    let mut body = six("import six; print(open('/deps/made').read().strip(), six.__version__)");
    body["pre_commands"] = json!(["x=$(id -u)", "test \"$x\" -ge 20000", "echo before > made"]);
    let result = server.eval(&body).await;
    assert_eq!(result["stdout"], "before 1.16.0\n", "{result:#}");

    body["pre_commands"] = json!(["echo tried; false", "echo never"]);
    let result = server.eval(&body).await;
    assert_eq!(result["reason"], "install_failed", "{result:#}");
    let log = result["install"]["log"].as_str().unwrap();
    assert!(log.contains("tried") && !log.contains("never"), "{result:#}");
    assert!(result["error"].as_str().unwrap().contains("pre_commands"), "{result:#}");

    // Also for a language that installs nothing else.
    let alone = json!({"language": "bash", "code": "cat /deps/made", "pre_commands": ["echo alone > made"]});
    let result = server.eval(&alone).await;
    assert_eq!(result["stdout"], "alone\n", "{result:#}");
    finish(server).await;
}
