//! What the tests ask of the Engine behind the server's back.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::{ContainerInspectResponse, ContainerSummaryStateEnum};
use bollard::query_parameters::{
    InspectContainerOptions, KillContainerOptionsBuilder, ListContainersOptionsBuilder, ListImagesOptions,
    ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder, TopOptionsBuilder,
};

/// Until what was removed is gone: a large workspace takes the Engine a while.
const PATIENCE: Duration = Duration::from_secs(60);

/// The Engine that the server finds by itself, too.
pub async fn engine() -> Docker {
    let docker =
        Docker::connect_with_defaults().expect("an Engine must be there; run deploy/setup-engine.sh");
    docker.negotiate_version().await.expect("the Engine must answer; run deploy/setup-engine.sh")
}

/// Ids of the containers that carry this label, running or not.
pub async fn containers(label: &str) -> Vec<String> {
    let filters = HashMap::from([("label", vec![label])]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let listed = engine().await.list_containers(Some(options)).await.unwrap();
    listed.into_iter().filter_map(|container| container.id).collect()
}

/// Networks that carry this label.
pub async fn networks(label: &str) -> Vec<bollard::models::Network> {
    let filters = HashMap::from([("label", vec![label])]);
    let options = bollard::query_parameters::ListNetworksOptionsBuilder::default().filters(&filters).build();
    engine().await.list_networks(Some(options)).await.unwrap()
}

/// Names of the volumes that carry this label.
pub async fn volumes(label: &str) -> Vec<String> {
    let filters = HashMap::from([("label", vec![label])]);
    let options = ListVolumesOptionsBuilder::default().filters(&filters).build();
    let listed = engine().await.list_volumes(Some(options)).await.unwrap();
    listed.volumes.unwrap_or_default().into_iter().map(|volume| volume.name).collect()
}

/// Command lines of the processes in a container, but for the runner's. Empty where it is gone.
pub async fn programs(docker: &Docker, id: &str) -> Vec<String> {
    let options = TopOptionsBuilder::default().ps_args("-eo pid,args").build();
    // An Engine that lets containers live through its restart was seen to never answer for one that is going.
    let top = tokio::time::timeout(Duration::from_secs(2), docker.top_processes(id, Some(options)));
    let Ok(Ok(top)) = top.await else { return Vec::new() };
    let commands = top.processes.unwrap_or_default().into_iter().filter_map(|row| row.get(1).cloned());
    commands.filter(|command| !command.contains("execbox __runner")).collect()
}

/// The container with this label in which a program runs whose command line contains this.
pub async fn container_of(label: &str, program: &str) -> Option<String> {
    for id in containers(label).await {
        if programs(&engine().await, &id).await.iter().any(|command| command.contains(program)) {
            return Some(id);
        }
    }
    None
}

/// Waits until all containers with this label are some that wait for an execution: they run, and no program in them.
pub async fn assert_idle(docker: &Docker, label: &str) {
    let filters = HashMap::from([("label", vec![label])]);
    let began = Instant::now();
    loop {
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let mut busy = Vec::new();
        for container in docker.list_containers(Some(options)).await.unwrap() {
            let id = container.id.unwrap();
            let runs = container.state == Some(ContainerSummaryStateEnum::RUNNING);
            if !runs || !programs(docker, &id).await.is_empty() {
                busy.push(id);
            }
        }
        if busy.is_empty() {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(15), "containers of {label} are left: {busy:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Refused while a container uses it.
pub async fn try_remove_volume(name: &str) -> Result<(), bollard::errors::Error> {
    engine().await.remove_volume(name, None::<bollard::query_parameters::RemoveVolumeOptions>).await
}

/// All volumes with this label.
pub async fn remove_packages(label: &str) {
    for volume in volumes(label).await {
        // Half of a pair without an owner: another test's server that starts now may be faster.
        drop(try_remove_volume(&volume).await);
    }
    assert_gone(label).await;
}

/// Waits until a program with this in its command line runs in a container with this label.
pub async fn program(label: &str, text: &str) {
    let began = Instant::now();
    while container_of(label, text).await.is_none() {
        assert!(began.elapsed() < Duration::from_secs(120), "{text:?} never ran");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until a program runs in a container with this label, and inspects that.
pub async fn running(label: &str) -> ContainerInspectResponse {
    let began = Instant::now();
    loop {
        if let Some(id) = container_of(label, "").await {
            let inspected = engine().await.inspect_container(&id, None::<InspectContainerOptions>).await;
            if let Ok(inspected) = inspected
                && inspected.state.as_ref().is_some_and(|state| state.running == Some(true))
            {
                return inspected;
            }
        }
        assert!(began.elapsed() < Duration::from_secs(60), "no container of {label} came up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The container with this label in which a program with this in its command line runs. An Engine that is busy may not say
/// so when it is first asked.
pub async fn running_with(label: &str, program: &str) -> ContainerInspectResponse {
    let began = Instant::now();
    loop {
        if let Some(id) = container_of(label, program).await {
            return engine().await.inspect_container(&id, None::<InspectContainerOptions>).await.unwrap();
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{program:?} does not run");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until no container and no volume carries this label. Removal runs off the caller's path.
pub async fn assert_gone(label: &str) {
    let began = Instant::now();
    loop {
        let left = [containers(label).await, volumes(label).await].concat();
        if left.is_empty() {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "of {label} are left: {left:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Leaves its volumes.
pub async fn remove_container(id: &str) {
    let options = RemoveContainerOptionsBuilder::default().force(true).build();
    engine().await.remove_container(id, Some(options)).await.unwrap();
}

pub async fn kill_container(id: &str, signal: &str) {
    let options = KillContainerOptionsBuilder::default().signal(signal).build();
    engine().await.kill_container(id, Some(options)).await.unwrap();
}

pub async fn pause_container(id: &str) {
    engine().await.pause_container(id).await.unwrap();
}

pub async fn remove_image(name: &str) {
    let options = RemoveImageOptionsBuilder::default().force(true).build();
    engine().await.remove_image(name, Some(options), None).await.unwrap();
}

/// The tags of a runtime's images.
pub async fn image_tags(name: &str) -> Vec<String> {
    let images = engine().await.list_images(None::<ListImagesOptions>).await.unwrap();
    let prefix = format!("execbox/{name}:");
    images.into_iter().flat_map(|image| image.repo_tags).filter(|tag| tag.starts_with(&prefix)).collect()
}

/// Removes them.
pub async fn remove_images(name: &str) {
    for tag in image_tags(name).await {
        remove_image(&tag).await;
    }
}
