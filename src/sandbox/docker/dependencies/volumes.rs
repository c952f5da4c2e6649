//! Volumes with packages on the Engine. A volume's labels can't change, so a second one, empty and with a name made of
//! the first's, says that the first is whole: making it is one step, which has happened or not when a server is killed.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{Mount, MountType, MountVolumeOptions, Volume, VolumeCreateRequest};
use bollard::query_parameters::{ListVolumesOptionsBuilder, RemoveVolumeOptionsBuilder};
use tracing::{info, warn};

use crate::runner::WORKSPACE;
use crate::sandbox::docker::engine::{Engine, EngineError};
use crate::sandbox::docker::ownership::Ownership;

/// Label with the data folder's name.
const DEPENDENCIES: &str = "execbox.dependencies";
/// Label with what was asked for.
const KEY: &str = "execbox.key";
/// Label of the second volume: how many bytes are in the first.
const WHOLE: &str = "execbox.whole";
const PREFIX: &str = "execbox-deps-";
const MARK: &str = "-whole";
/// Where programs find packages.
pub(super) const PLACE: &str = "/deps";
const QUICK: Duration = Duration::from_secs(10);
/// Removing all that is in one. The Engine answers nobody who lists volumes meanwhile.
const SLOW: Duration = Duration::from_secs(60);

/// An empty one, which counts for nothing until it is marked.
pub(super) async fn create(
    engine: &Engine,
    ownership: &Ownership,
    instance: &str,
    key: &str,
) -> Result<String, EngineError> {
    let name = format!("{PREFIX}{}", uuid::Uuid::new_v4().simple());
    let labels =
        [(DEPENDENCIES, instance), (KEY, key)].map(|(name, value)| (name.to_owned(), value.to_owned()));
    make(engine, &name, ownership.owner_label().into_iter().chain(labels).collect()).await?;
    Ok(name)
}

/// It is whole, and lasts.
pub(super) async fn mark(
    engine: &Engine,
    instance: &str,
    key: &str,
    volume: &str,
    bytes: u64,
) -> Result<(), EngineError> {
    let bytes = bytes.to_string();
    let labels = [(DEPENDENCIES, instance), (KEY, key), (WHOLE, &bytes)];
    let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
    make(engine, &format!("{volume}{MARK}"), HashMap::from(labels)).await
}

async fn make(engine: &Engine, name: &str, labels: HashMap<String, String>) -> Result<(), EngineError> {
    let request =
        VolumeCreateRequest { name: Some(name.to_owned()), labels: Some(labels), ..Default::default() };
    engine.call("create volume", QUICK, engine.docker.create_volume(request)).await.map(drop)
}

/// Its mark first: without that it is nothing.
pub(super) async fn remove(engine: &Engine, volume: &str) -> Result<(), EngineError> {
    for name in [format!("{volume}{MARK}"), volume.to_owned()] {
        let options = RemoveVolumeOptionsBuilder::default().build();
        match engine.call("remove volume", SLOW, engine.docker.remove_volume(&name, Some(options))).await {
            Ok(()) | Err(EngineError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether it is the one that was made, and not one that the Engine made in its place for a container.
pub(in crate::sandbox::docker) async fn is_there(engine: &Engine, volume: &str) -> Result<bool, EngineError> {
    match engine.call("inspect volume", QUICK, engine.docker.inspect_volume(volume)).await {
        Ok(found) => Ok(found.labels.contains_key(KEY)),
        Err(EngineError::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// For programs: what was installed, read-only.
pub(in crate::sandbox::docker) fn for_programs(volume: &str) -> Mount {
    mount(volume, PLACE, true)
}

/// For the installer: its workspace.
pub(super) fn for_installer(volume: &str) -> Mount {
    mount(volume, WORKSPACE, false)
}

fn mount(volume: &str, target: &str, read_only: bool) -> Mount {
    Mount {
        typ: Some(MountType::VOLUME),
        source: Some(volume.to_owned()),
        target: Some(target.to_owned()),
        read_only: Some(read_only),
        // What the image has at its place stays out of it.
        volume_options: Some(MountVolumeOptions { no_copy: Some(true), ..Default::default() }),
        ..Default::default()
    }
}

/// What is whole of this instance: key, name, and bytes, the oldest first. What is not, and what servers that are gone
/// left half done, is removed. `shared`: other processes keep theirs under the same name, and may be at it.
pub(super) async fn recover(
    engine: &Engine,
    ownership: &Ownership,
    instance: &str,
    shared: bool,
) -> Result<Vec<(String, String, u64)>, EngineError> {
    let filters = HashMap::from([("label", vec![DEPENDENCIES])]);
    let options = ListVolumesOptionsBuilder::default().filters(&filters).build();
    let listed = engine.call("list volumes", SLOW, engine.docker.list_volumes(Some(options))).await?;
    let is_orphan = |labels: &HashMap<_, _>| ownership.is_orphan(labels);
    let sorted = sort(listed.volumes.unwrap_or_default(), instance, shared, is_orphan);
    for volume in sorted.broken {
        match remove(engine, &volume).await {
            Ok(()) => info!(%volume, "removed packages that were half installed"),
            Err(error) => warn!(%volume, %error, "packages that were half installed could not be removed"),
        }
    }
    Ok(sorted.whole)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Sorted {
    whole: Vec<(String, String, u64)>,
    broken: Vec<String>,
}

fn sort(
    mut volumes: Vec<Volume>,
    instance: &str,
    shared: bool,
    is_orphan: impl Fn(&HashMap<String, String>) -> bool,
) -> Sorted {
    volumes.sort_by_key(|volume| volume.created_at.as_ref().map(ToString::to_string));
    let marks: HashMap<_, _> = volumes
        .iter()
        .filter_map(|volume| Some((volume.name.strip_suffix(MARK)?, volume.labels.get(WHOLE)?.parse().ok()?)))
        .collect();
    let there: Vec<_> = volumes.iter().filter(|volume| !volume.labels.contains_key(WHOLE)).collect();
    let mut sorted = Sorted::default();
    for volume in &there {
        let is_ours = volume.labels.get(DEPENDENCIES).is_some_and(|name| name == instance);
        match (marks.get(volume.name.as_str()), volume.labels.get(KEY)) {
            (Some(bytes), Some(key)) if is_ours => {
                sorted.whole.push((key.clone(), volume.name.clone(), *bytes));
            }
            (Some(_), _) => {}
            (None, _) if (is_ours && !shared) || is_orphan(&volume.labels) => {
                sorted.broken.push(volume.name.clone());
            }
            (None, _) => {}
        }
    }
    // Two processes may have installed the same at once.
    let mut newest = HashMap::new();
    for (key, name, _) in &sorted.whole {
        sorted.broken.extend(newest.insert(key.clone(), name.clone()));
    }
    sorted.whole.retain(|(key, name, _)| newest.get(key) == Some(name));
    // Marks of nothing.
    let is_there = |name: &str| there.iter().any(|volume| volume.name == name);
    sorted.broken.extend(marks.keys().filter(|name| !is_there(name)).map(|name| (*name).to_owned()));
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(name: &str, labels: &[(&str, &str)]) -> Volume {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Volume { name: name.to_owned(), labels: labels.collect(), ..Default::default() }
    }

    /// Case F09.
    #[test]
    fn f09_only_what_is_marked_is_whole() {
        let mark = |name: &str, of: &str| {
            volume(&format!("{name}{MARK}"), &[(DEPENDENCIES, of), (KEY, "k"), (WHOLE, "7")])
        };
        let data = |name: &str, of: &str| volume(name, &[(DEPENDENCIES, of), (KEY, "k"), ("owner", name)]);
        let volumes = vec![
            data("whole", "us"),
            mark("whole", "us"),
            data("half", "us"),
            mark("gone", "us"),
            data("theirs", "them"),
            mark("theirs", "them"),
            data("theirs-half", "them"),
            data("orphan", "them"),
        ];
        let orphan = |labels: &HashMap<String, String>| labels["owner"] == "orphan";
        let sorted = sort(volumes.clone(), "us", false, orphan);
        assert_eq!(sorted.whole, [("k".to_owned(), "whole".to_owned(), 7)]);
        assert_eq!(sorted.broken, ["half", "orphan", "gone"]);
        let shared = sort(volumes, "us", true, orphan);
        assert_eq!(shared.broken, ["orphan", "gone"], "another process may be at the half one");
        let twice = ["first", "second"].map(|name| [data(name, "us"), mark(name, "us")]).concat();
        let sorted = sort(twice, "us", true, orphan);
        assert_eq!(sorted.whole, [("k".to_owned(), "second".to_owned(), 7)]);
        assert_eq!(sorted.broken, ["first"]);
    }
}
