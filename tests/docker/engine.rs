//! What the tests ask of the Engine behind the server's back.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{
    InspectContainerOptions, KillContainerOptionsBuilder, ListContainersOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder,
};

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

/// Waits until a container with this label runs, and inspects it.
pub async fn running(label: &str) -> ContainerInspectResponse {
    let began = Instant::now();
    loop {
        for id in containers(label).await {
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

/// Waits until no container carries this label. Removal runs off the caller's path.
pub async fn assert_gone(label: &str) {
    let began = Instant::now();
    loop {
        let left = containers(label).await;
        if left.is_empty() {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(15), "containers of {label} are left: {left:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub async fn remove_container(id: &str) {
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
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
