//! Packages that nobody comes back for: of data folders that are gone, and of commands.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig, VolumeCreateRequest};
use bollard::query_parameters::CreateContainerOptions;
use serde_json::json;

use crate::engine;
use crate::private_engine::PrivateEngine;
use crate::server::{EXECBOX, Server};

/// A server that has nothing to do with the first one, which ends when it has looked at what is left.
async fn another_server() {
    let server = Server::start().await;
    // Its look begins at the start and takes two answers of the Engine.
    tokio::time::sleep(Duration::from_secs(3)).await;
    server.finish().await;
}

#[tokio::test]
async fn packages_go_with_their_data_folder_and_not_before() {
    let server = Server::start_with(&["--installs", "packages"]).await;
    let body = json!({"language": "python", "code": "import six", "requirements_txt": "six==1.16.0"});
    assert_eq!(server.eval(&body).await["exit_code"], 0);
    let label = server.label().replace("execbox.instance", "execbox.dependencies");
    let installed = engine::volumes(&label).await;
    assert_eq!(installed.len(), 2, "one with packages, and its mark: {installed:?}");
    let data = server.finish_for_later().await;

    another_server().await;
    assert_eq!(engine::volumes(&label).await.len(), 2, "the folder is there, for a later server on it");
    drop(data);
    another_server().await;
    engine::assert_gone(&label).await;
}

/// Volumes as they are made for packages: name, whose, more labels.
async fn make(private: &PrivateEngine, name: &str, of: &str, more: &[(&str, &str)]) {
    let own = [("execbox.dependencies", of), ("execbox.key", name.split('-').next().unwrap())];
    let labels: HashMap<String, String> =
        own.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let request =
        VolumeCreateRequest { name: Some(name.to_owned()), labels: Some(labels), ..Default::default() };
    private.docker().create_volume(request).await.unwrap();
}

async fn names(private: &PrivateEngine) -> Vec<String> {
    let all = private.docker().list_volumes(None::<bollard::query_parameters::ListVolumesOptions>).await;
    let all = all.unwrap().volumes.unwrap_or_default().into_iter().map(|volume| volume.name);
    let mut names: Vec<String> = all.filter(|name| !name.starts_with("execbox-runner-")).collect();
    names.sort_unstable();
    names
}

/// On an Engine of its own: other tests have packages of commands, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_removes_packages_that_nobody_uses() {
    let private = PrivateEngine::start(&[]).await;
    let host = private.host();
    let gc = || {
        let mut command = tokio::process::Command::new(EXECBOX);
        command.args(["images", "gc", "--packages", "--docker-host", &host]);
        async move { command.output().await.unwrap() }
    };
    // The first makes the image of which the container below is.
    let none = gc().await;
    assert!(none.status.success() && none.stdout.is_empty(), "{none:?}");
    let whole = ("execbox.whole", "2000000");
    for (name, of) in [("idle", "commands"), ("busy", "commands"), ("far", "another-machines")] {
        make(&private, name, of, &[]).await;
        make(&private, &format!("{name}-whole"), of, &[whole]).await;
    }
    let today = jiff::Timestamp::now().as_second() / 86_400;
    let used = |name: &str, day: i64| (format!("{name}-used-{day}"), day.to_string());
    let (mark, yesterday) = used("idle", today - 1);
    make(&private, &mark, "commands", &[("execbox.used", &yesterday)]).await;
    let busy = ContainerCreateBody {
        image: Some("execbox/empty:1".to_owned()),
        cmd: Some(vec!["never".to_owned()]),
        host_config: Some(HostConfig { binds: Some(vec!["busy:/deps".to_owned()]), ..Default::default() }),
        ..Default::default()
    };
    private.docker().create_container(None::<CreateContainerOptions>, busy).await.unwrap();
    let output = gc().await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "idle\n", "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("1 volumes with packages removed, 2 MB freed; 2 kept"), "{said}");
    assert_eq!(names(&private).await, ["busy", "busy-whole", "far", "far-whole"]);

    // By their last use, long ago, what is far away goes, too; a use that is noted later counts.
    for day in [today - 31, today] {
        let (mark, day) = used("far", day);
        make(&private, &mark, "another-machines", &[("execbox.used", &day)]).await;
    }
    assert!(gc().await.stdout.is_empty(), "it was used today");
    let (docker, options) = (private.docker(), None::<bollard::query_parameters::RemoveVolumeOptions>);
    docker.remove_volume(&used("far", today).0, options).await.unwrap();
    assert_eq!(gc().await.stdout, b"far\n");
    assert_eq!(names(&private).await, ["busy", "busy-whole"]);
}
