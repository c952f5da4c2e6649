//! Workspaces on the Engine's disk, for those that are too large for memory: each an anonymous volume, which the Engine
//! makes with its container and removes with it. So there is no moment at which one exists without the other, but for a
//! container that somebody else removed without its volumes.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use bollard::body_full;
use bollard::models::{ContainerCreateBody, Mount, MountType, MountVolumeOptions};
use bollard::query_parameters::{
    ListVolumesOptionsBuilder, RemoveVolumeOptionsBuilder, UploadToContainerOptionsBuilder,
};
use tracing::{info, warn};

use crate::limits::{Limits, MIB};
use crate::runner::WORKSPACE;
use crate::sandbox::docker::engine::{Engine, EngineError};

/// Only workspaces carry it: the name under which the container was created.
const CONTAINER: &str = "execbox.container";
const QUICK: Duration = Duration::from_secs(10);
/// Removing all that is in one. The Engine answers nobody who lists volumes meanwhile.
const SLOW: Duration = Duration::from_secs(60);

/// Where the workspace of an execution is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Placement {
    /// A tmpfs: counts as memory of the container.
    Memory,
    /// A volume of its own on the Engine's disk.
    Volume {
        /// Size of /tmp beside it, which counts as memory.
        tmp_bytes: u64,
    },
}

/// Least size of a /tmp beside a volume, in bytes. A file system in memory of size 0 has no limit at all.
const LEAST_TMP_BYTES: u64 = 16 * MIB;

impl Placement {
    /// In memory up to this size.
    pub(super) fn of(limits: &Limits, most_in_memory: u64) -> Self {
        if limits.disk_bytes > most_in_memory {
            Self::Volume { tmp_bytes: most_in_memory.max(LEAST_TMP_BYTES) }
        } else {
            Self::Memory
        }
    }

    /// Size of /tmp. It is always in memory, so that it never gets more than a workspace there may have; the workspace and
    /// /tmp together may hold no more than `disk_bytes`.
    pub(super) fn tmp_bytes(self, limits: &Limits) -> u64 {
        match self {
            Self::Memory => limits.disk_bytes,
            Self::Volume { tmp_bytes } => tmp_bytes.min(limits.disk_bytes),
        }
    }

    pub(super) fn is_volume(self) -> bool {
        self != Self::Memory
    }
}

/// The volume of the container with this name. What the image has at its place stays out of it.
pub(super) fn mount(container: &str, labels: &HashMap<String, String>) -> Mount {
    let mut labels = labels.clone();
    labels.insert(CONTAINER.to_owned(), container.to_owned());
    Mount {
        typ: Some(MountType::VOLUME),
        target: Some(WORKSPACE.to_owned()),
        volume_options: Some(MountVolumeOptions {
            no_copy: Some(true),
            labels: Some(labels),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Whether this container has one.
pub(super) fn is_in(body: &ContainerCreateBody) -> bool {
    let mounts = body.host_config.as_ref().and_then(|host| host.mounts.as_deref()).unwrap_or_default();
    mounts.iter().any(|mount| mount.source.is_none() && mount.target.as_deref() == Some(WORKSPACE))
}

/// Gives the volume to the container's user and shuts it for all others. Before the start.
pub(super) async fn prepare(engine: &Engine, container: &str, uid: u32) -> Result<(), EngineError> {
    let failed =
        |error: io::Error| EngineError::Failed { what: "prepare workspace", message: error.to_string() };
    let tar = owned_root(uid).map_err(failed)?;
    let options = UploadToContainerOptionsBuilder::default().path(WORKSPACE).build();
    let uploaded = engine.docker.upload_to_container(container, Some(options), body_full(tar.into()));
    engine.call("prepare workspace", QUICK, uploaded).await
}

/// An archive of the folder alone that it is unpacked in. The Engine skips `.`, and takes `/` as the folder with its
/// owner and mode.
fn owned_root(uid: u32) -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[0] = b'/';
    header.set_entry_type(tar::EntryType::Directory);
    header.set_uid(uid.into());
    header.set_gid(uid.into());
    header.set_mode(0o700);
    header.set_size(0);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, io::empty())?;
    builder.into_inner()
}

/// Removes the volume of a container that somebody removed without it.
pub(super) async fn remove_of(engine: &Engine, container: &str) -> Result<(), EngineError> {
    let is_its =
        |labels: &HashMap<String, String>| labels.get(CONTAINER).is_some_and(|name| name == container);
    for volume in list(engine, is_its).await? {
        remove(engine, &volume).await?;
    }
    Ok(())
}

/// Removes volumes whose owner is gone, and their containers, too.
pub(super) async fn remove_orphans(
    engine: &Engine,
    is_orphan: impl Fn(&HashMap<String, String>) -> bool,
) -> Result<(), EngineError> {
    let removals = list(engine, is_orphan).await?;
    let removals = removals.iter().map(|volume| remove(engine, volume));
    for error in futures::future::join_all(removals).await.into_iter().filter_map(Result::err) {
        warn!(%error, "a workspace of an earlier server could not be removed");
    }
    Ok(())
}

/// Names of workspaces.
async fn list(
    engine: &Engine,
    wanted: impl Fn(&HashMap<String, String>) -> bool,
) -> Result<Vec<String>, EngineError> {
    let filters = HashMap::from([("label", vec![CONTAINER])]);
    let options = ListVolumesOptionsBuilder::default().filters(&filters).build();
    let listed = engine.call("list volumes", SLOW, engine.docker.list_volumes(Some(options))).await?;
    let volumes = listed.volumes.unwrap_or_default().into_iter();
    Ok(volumes.filter(|volume| wanted(&volume.labels)).map(|volume| volume.name).collect())
}

async fn remove(engine: &Engine, volume: &str) -> Result<(), EngineError> {
    let options = RemoveVolumeOptionsBuilder::default().build();
    match engine.call("remove volume", SLOW, engine.docker.remove_volume(volume, Some(options))).await {
        Err(EngineError::NotFound { .. }) => Ok(()),
        other => other.inspect(|()| info!(%volume, "removed a workspace that was left")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tmp_is_as_large_as_the_workspace_but_never_larger_than_one_in_memory_may_be() {
        let limits = crate::config::Config::default().limit_policy().default;
        let bytes = limits.disk_bytes;
        assert_eq!(Placement::of(&limits, bytes), Placement::Memory);
        assert_eq!(Placement::of(&limits, bytes).tmp_bytes(&limits), bytes);
        assert_eq!(Placement::of(&limits, bytes - 1).tmp_bytes(&limits), bytes - 1);
        assert_eq!(Placement::of(&limits, 0).tmp_bytes(&limits), 16 * MIB, "0 would be no limit");
        let small = Limits { disk_bytes: MIB, ..limits };
        assert_eq!(Placement::of(&small, 0).tmp_bytes(&small), MIB);
    }

    #[test]
    fn the_archive_says_whose_the_folder_is() {
        let bytes = owned_root(20_007).unwrap();
        let header = tar::Header::from_byte_slice(&bytes[..512]);
        assert_eq!(
            (header.path_bytes().as_ref(), header.entry_type()),
            (&b"/"[..], tar::EntryType::Directory)
        );
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (20_007, 20_007));
        assert_eq!(header.mode().unwrap(), 0o700);
    }
}
