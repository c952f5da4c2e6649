//! Volumes with packages on the Engine. A volume's labels can't change, so a second one, empty and with a name made of
//! the first's, says that the first is whole: making it is one step, which has happened or not when a server is killed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use bollard::models::{Mount, MountType, MountVolumeOptions, Volume, VolumeCreateRequest};
use bollard::query_parameters::{ListVolumesOptionsBuilder, RemoveVolumeOptionsBuilder};
use jiff::Timestamp;
use tracing::{info, warn};

use crate::runner::WORKSPACE;
use crate::sandbox::docker::dependencies::origin::{DEPENDENCIES, Origin};
use crate::sandbox::docker::engine::{Engine, EngineError};
use crate::sandbox::docker::ownership::Ownership;

/// Label with what was asked for.
const KEY: &str = "execbox.key";
/// Label of the second volume: how many bytes are in the first.
const WHOLE: &str = "execbox.whole";
const PREFIX: &str = "execbox-deps-";
const MARK: &str = "-whole";
/// Label of a third volume, which says when the first was last used: a day since 1970. There is none before a day after
/// the first was made.
const USED: &str = "execbox.used";
const USED_MARK: &str = "-used-";
const DAY_SECONDS: i64 = 24 * 60 * 60;
/// Where programs find packages.
pub(super) const PLACE: &str = "/deps";
const QUICK: Duration = Duration::from_secs(10);
/// Removing all that is in one. The Engine answers nobody who lists volumes meanwhile.
const SLOW: Duration = Duration::from_secs(60);

/// An empty one, which counts for nothing until it is marked.
pub(super) async fn create(
    engine: &Engine,
    ownership: &Ownership,
    origin: &Origin,
    key: &str,
) -> Result<String, EngineError> {
    let name = format!("{PREFIX}{}", uuid::Uuid::new_v4().simple());
    let labels = labelled(origin, key, None);
    make(engine, &name, ownership.owner_label().into_iter().chain(labels).collect()).await?;
    Ok(name)
}

/// It is whole, and lasts.
pub(super) async fn mark(
    engine: &Engine,
    origin: &Origin,
    key: &str,
    volume: &str,
    bytes: u64,
) -> Result<(), EngineError> {
    let labels = labelled(origin, key, Some((WHOLE, bytes.to_string())));
    make(engine, &format!("{volume}{MARK}"), labels).await
}

/// It is used today, and was last on the day `before`.
pub(super) async fn mark_used(
    engine: &Engine,
    origin: &Origin,
    key: &str,
    volume: &str,
    (before, today): (i64, i64),
) -> Result<(), EngineError> {
    let mark = |day: i64| format!("{volume}{USED_MARK}{day}");
    make(engine, &mark(today), labelled(origin, key, Some((USED, today.to_string())))).await?;
    remove_one(engine, &mark(before)).await
}

fn labelled(origin: &Origin, key: &str, more: Option<(&str, String)>) -> HashMap<String, String> {
    let mut labels = origin.labels();
    labels.insert(KEY.to_owned(), key.to_owned());
    labels.extend(more.map(|(name, value)| (name.to_owned(), value)));
    labels
}

/// The day, since 1970, by which packages have an age. By the wall clock: servers of other machines count, too.
pub(super) fn today() -> i64 {
    Timestamp::now().as_second() / DAY_SECONDS
}

async fn make(engine: &Engine, name: &str, labels: HashMap<String, String>) -> Result<(), EngineError> {
    let request =
        VolumeCreateRequest { name: Some(name.to_owned()), labels: Some(labels), ..Default::default() };
    engine.call("create volume", QUICK, engine.docker.create_volume(request)).await.map(drop)
}

/// Its mark first: without that it is nothing.
pub(super) async fn remove(engine: &Engine, volume: &str) -> Result<(), EngineError> {
    remove_one(engine, &format!("{volume}{MARK}")).await?;
    remove_one(engine, volume).await?;
    let marks = format!("{volume}{USED_MARK}");
    for left in list_by(engine, HashMap::from([("name", vec![marks.as_str()])])).await? {
        remove_one(engine, &left.name).await?;
    }
    Ok(())
}

async fn remove_one(engine: &Engine, name: &str) -> Result<(), EngineError> {
    let options = RemoveVolumeOptionsBuilder::default().build();
    match engine.call("remove volume", SLOW, engine.docker.remove_volume(name, Some(options))).await {
        Ok(()) | Err(EngineError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// All volumes with packages, and their marks, whoever's they are.
pub(super) async fn list(engine: &Engine) -> Result<Vec<Volume>, EngineError> {
    list_by(engine, HashMap::from([("label", vec![DEPENDENCIES])])).await
}

/// Names of those that no container has, running or not.
pub(super) async fn unused(engine: &Engine) -> Result<HashSet<String>, EngineError> {
    let filters = HashMap::from([("label", vec![DEPENDENCIES]), ("dangling", vec!["true"])]);
    Ok(list_by(engine, filters).await?.into_iter().map(|volume| volume.name).collect())
}

async fn list_by(engine: &Engine, filters: HashMap<&str, Vec<&str>>) -> Result<Vec<Volume>, EngineError> {
    let options = ListVolumesOptionsBuilder::default().filters(&filters).build();
    let listed = engine.call("list volumes", SLOW, engine.docker.list_volumes(Some(options))).await?;
    Ok(listed.volumes.unwrap_or_default())
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

/// A volume with packages, whole or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) name: String,
    pub(super) labels: HashMap<String, String>,
    /// Bytes of packages. 0 while it is not whole.
    pub(super) bytes: u64,
    /// The day of its last use, since 1970, or of its making.
    pub(super) last_used: i64,
}

impl Stored {
    pub(super) fn is_of(&self, instance: &str) -> bool {
        self.labels.get(DEPENDENCIES).is_some_and(|name| name == instance)
    }
}

/// The volumes with packages of a list in which their marks are, too.
pub(super) fn stored(volumes: Vec<Volume>) -> Vec<Stored> {
    let (bytes, used) = marks(&volumes);
    let with_packages = volumes.into_iter().filter(|volume| !is_mark(volume));
    let all = with_packages.map(|volume| Stored {
        bytes: bytes.get(&volume.name).copied().unwrap_or(0),
        last_used: used.get(&volume.name).copied().unwrap_or_else(|| made_on(&volume)),
        name: volume.name,
        labels: volume.labels,
    });
    all.collect()
}

/// An Engine that does not say is no reason to call it old.
fn made_on(volume: &Volume) -> i64 {
    let made = volume.created_at.as_ref().and_then(|made| made.to_string().parse::<Timestamp>().ok());
    made.map_or_else(today, |made| made.as_second() / DAY_SECONDS)
}

fn is_mark(volume: &Volume) -> bool {
    volume.labels.contains_key(WHOLE) || volume.labels.contains_key(USED)
}

/// By the names of volumes with packages: how many bytes are in whole ones, and the day of their last use.
fn marks(volumes: &[Volume]) -> (HashMap<String, u64>, HashMap<String, i64>) {
    let (mut bytes, mut used) = (HashMap::new(), HashMap::new());
    for volume in volumes {
        let label = |name| volume.labels.get(name);
        if let (Some(name), Some(count)) =
            (volume.name.strip_suffix(MARK), label(WHOLE).and_then(|count| count.parse().ok()))
        {
            bytes.insert(name.to_owned(), count);
        }
        if let (Some((name, _)), Some(day)) =
            (volume.name.split_once(USED_MARK), label(USED).and_then(|day| day.parse::<i64>().ok()))
        {
            let latest = used.entry(name.to_owned()).or_insert(day);
            *latest = day.max(*latest);
        }
    }
    (bytes, used)
}

/// What is whole of this instance, that which was used longest ago first. What is not, and what servers that are gone
/// left half done, is removed. `shared`: other processes keep theirs under the same name, and may be at it.
pub(super) async fn recover(
    engine: &Engine,
    ownership: &Ownership,
    instance: &str,
    shared: bool,
) -> Result<Vec<(String, Stored)>, EngineError> {
    let is_orphan = |labels: &HashMap<_, _>| ownership.is_orphan(labels);
    let sorted = sort(list(engine).await?, instance, shared, is_orphan);
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
    /// With what was asked for.
    whole: Vec<(String, Stored)>,
    broken: Vec<String>,
}

fn sort(
    mut volumes: Vec<Volume>,
    instance: &str,
    shared: bool,
    is_orphan: impl Fn(&HashMap<String, String>) -> bool,
) -> Sorted {
    volumes.sort_by_key(|volume| volume.created_at.as_ref().map(ToString::to_string));
    let (whole, used) = marks(&volumes);
    let there = stored(volumes);
    let mut sorted = Sorted::default();
    for volume in &there {
        let is_ours = volume.is_of(instance);
        match (whole.contains_key(&volume.name), volume.labels.get(KEY)) {
            (true, Some(key)) if is_ours => sorted.whole.push((key.clone(), volume.clone())),
            (true, _) => {}
            (false, _) if (is_ours && !shared) || is_orphan(&volume.labels) => {
                sorted.broken.push(volume.name.clone());
            }
            (false, _) => {}
        }
    }
    // Two processes may have installed the same at once.
    let mut newest = HashMap::new();
    for (key, volume) in &sorted.whole {
        sorted.broken.extend(newest.insert(key.clone(), volume.name.clone()));
    }
    sorted.whole.retain(|(key, volume)| newest.get(key) == Some(&volume.name));
    sorted.whole.sort_by_key(|(_, volume)| volume.last_used);
    // Marks of nothing.
    let is_there = |name: &str| there.iter().any(|volume| volume.name == name);
    let marked: BTreeSet<_> = whole.into_keys().chain(used.into_keys()).collect();
    sorted.broken.extend(marked.into_iter().filter(|name| !is_there(name)));
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(name: &str, labels: &[(&str, &str)]) -> Volume {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Volume { name: name.to_owned(), labels: labels.collect(), ..Default::default() }
    }

    fn whole(sorted: &Sorted) -> Vec<(&str, &str, u64)> {
        let all = sorted.whole.iter();
        all.map(|(key, stored)| (key.as_str(), stored.name.as_str(), stored.bytes)).collect()
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
        assert_eq!(whole(&sorted), [("k", "whole", 7)]);
        assert_eq!(sorted.broken, ["half", "orphan", "gone"]);
        let shared = sort(volumes, "us", true, orphan);
        assert_eq!(shared.broken, ["orphan", "gone"], "another process may be at the half one");
        let twice = ["first", "second"].map(|name| [data(name, "us"), mark(name, "us")]).concat();
        let sorted = sort(twice, "us", true, orphan);
        assert_eq!(whole(&sorted), [("k", "second", 7)]);
        assert_eq!(sorted.broken, ["first"]);
    }

    #[test]
    fn the_day_of_the_last_use_is_the_latest_that_is_marked() {
        let labels = |more: (&'static str, &'static str)| [(DEPENDENCIES, "us"), (KEY, "k"), more];
        let used =
            |name: &str, day: &'static str| volume(&format!("{name}{USED_MARK}{day}"), &labels((USED, day)));
        let mut old = volume("old", &[(DEPENDENCIES, "us"), (KEY, "k")]);
        old.created_at = "1970-01-03T00:00:00Z".parse().ok();
        let new = volume("new", &[(DEPENDENCIES, "us"), (KEY, "k")]);
        let last_used = |volumes: Vec<Volume>| -> Vec<(String, i64)> {
            stored(volumes).into_iter().map(|stored| (stored.name, stored.last_used)).collect()
        };
        assert_eq!(last_used(vec![old.clone()]), [("old".to_owned(), 2)]);
        assert_eq!(last_used(vec![new]), [("new".to_owned(), today())], "an Engine that does not say");
        let all = vec![used("old", "20000"), old, used("old", "19999"), used("gone", "3")];
        assert_eq!(last_used(all.clone()), [("old".to_owned(), 20_000)]);
        assert_eq!(sort(all, "us", false, |_| false).broken, ["old", "gone"], "a use makes nothing whole");
    }
}
