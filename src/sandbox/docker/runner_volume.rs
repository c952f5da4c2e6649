//! The runner's volume: this binary, in a named volume that containers mount read-only, so that image content can't
//! replace it and any image works. It is named by the binary's hash.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::time::Duration;

use bollard::body_full;
use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType, Volume, VolumeCreateRequest};
use bollard::query_parameters::{
    ContainerArchiveInfoOptionsBuilder, CreateImageOptionsBuilder, ListVolumesOptionsBuilder,
    RemoveVolumeOptionsBuilder, UploadToContainerOptionsBuilder,
};
use bytes::Bytes;
use futures::StreamExt as _;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

use crate::sandbox::SandboxError;
use crate::sandbox::docker::container::Container;
use crate::sandbox::docker::engine::{Engine, EngineError};
use crate::sandbox::docker::image::archive;
use crate::sandbox::docker::ownership::{APP, Ownership};

const PREFIX: &str = "execbox-runner-";
/// Label that says when a volume was made.
const MADE: &str = "execbox.made";
/// Name of the runner inside its volume.
const FILE: &str = "execbox";
/// An image with nothing in it, for the container that fills the volume and never starts, and for the probe.
pub(super) const EMPTY_IMAGE: &str = "execbox/empty:1";
/// Where that container mounts the volume.
const MOUNT: &str = "/runner";
/// The same from the root, which the archive is unpacked in: an Engine leaves the mode of the folder alone that it unpacks
/// in, and that one must have ours.
const FOLDER: &str = "runner";
/// Copying the binary, which may be large in a debug build.
const COPY: Duration = Duration::from_secs(60);
const QUICK: Duration = Duration::from_secs(10);
/// The Engine lists no volumes while it removes one.
const SLOW: Duration = Duration::from_secs(60);
/// Age until which the volume of another build stays.
const KEPT: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);

/// The binary that becomes PID 1. Its content stays on disk: it is large, and needed only to fill the volume.
#[derive(Debug, Clone)]
pub(super) struct Runner {
    path: PathBuf,
    bytes: u64,
    /// Its volume.
    pub(super) volume: String,
}

impl Runner {
    /// Reads the binary and names its volume.
    pub(super) async fn read(path: PathBuf) -> Result<Self, SandboxError> {
        let file = File::open(&path)?;
        let hashing = tokio::task::spawn_blocking(move || hash(file));
        let (hash, bytes) = hashing.await.map_err(|error| SandboxError::Lost(error.to_string()))??;
        Ok(Self { path, bytes, volume: format!("{PREFIX}{hash}") })
    }

    /// Makes sure that the volume is there and whole.
    pub(super) async fn ensure(
        &self,
        engine: &Engine,
        ownership: &Ownership,
        removals: &TaskTracker,
    ) -> Result<(), SandboxError> {
        let made = (MADE.to_owned(), Timestamp::now().to_string());
        let labels = HashMap::from([(APP.to_owned(), "1".to_owned()), made]);
        let request = VolumeCreateRequest {
            name: Some(self.volume.clone()),
            labels: Some(labels),
            ..Default::default()
        };
        engine.call("create volume", QUICK, engine.docker.create_volume(request)).await?;
        import_empty_image(engine).await?;
        let name = format!("execbox-fill-{}", uuid::Uuid::new_v4());
        let container = Container::create(engine, removals, &name, None, self.filler(ownership)).await?;
        if self.is_whole(engine, &container.id).await? {
            return Ok(());
        }
        info!(volume = %self.volume, "putting the runner into its volume");
        let content = tokio::fs::read(&self.path).await?;
        let tar = whole_or_not_there(&content)?;
        drop(content);
        let options = UploadToContainerOptionsBuilder::default().path("/").build();
        engine
            .call(
                "copy",
                COPY,
                engine.docker.upload_to_container(&container.id, Some(options), body_full(tar)),
            )
            .await?;
        Ok(())
    }

    /// An Engine that does not say is no reason to write: other servers may be starting what is there.
    async fn is_whole(&self, engine: &Engine, container: &str) -> Result<bool, EngineError> {
        let options = ContainerArchiveInfoOptionsBuilder::default().path(&format!("{MOUNT}/{FILE}")).build();
        let info = engine
            .call("stat", QUICK, engine.docker.get_container_archive_info(container, Some(options)))
            .await;
        match info {
            Ok(info) => Ok(u64::try_from(info.size) == Ok(self.bytes)),
            Err(EngineError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn filler(&self, ownership: &Ownership) -> ContainerCreateBody {
        let mount = Mount {
            typ: Some(MountType::VOLUME),
            source: Some(self.volume.clone()),
            target: Some(MOUNT.to_owned()),
            ..Default::default()
        };
        ContainerCreateBody {
            image: Some(EMPTY_IMAGE.to_owned()),
            cmd: Some(vec!["never-started".to_owned()]),
            labels: Some(ownership.labels()),
            network_disabled: Some(true),
            host_config: Some(HostConfig { mounts: Some(vec![mount]), ..Default::default() }),
            ..Default::default()
        }
    }

    /// Removes the volumes of other builds that no container uses and that are not new. A living server whose volume goes
    /// puts it back.
    pub(super) async fn remove_others(&self, engine: &Engine) -> Result<(), SandboxError> {
        let filters = HashMap::from([("label", vec![APP])]);
        let options = ListVolumesOptionsBuilder::default().filters(&filters).build();
        let listed = engine.call("list volumes", SLOW, engine.docker.list_volumes(Some(options))).await?;
        let now = Timestamp::now();
        let volumes = listed.volumes.unwrap_or_default().into_iter();
        let made = |volume: &Volume| volume.labels.get(MADE).and_then(|made| made.parse().ok());
        let old = volumes.filter(|volume| is_old(made(volume), now)).map(|volume| volume.name);
        for name in old.filter(|name| name.starts_with(PREFIX) && *name != self.volume) {
            let options = RemoveVolumeOptionsBuilder::default().build();
            // The Engine refuses while a container uses it, which is what we want.
            if let Err(error) =
                engine.call("remove volume", QUICK, engine.docker.remove_volume(&name, Some(options))).await
            {
                debug!(%name, %error, "kept");
            }
        }
        Ok(())
    }
}

/// A new one may be that of a server which runs nothing yet. Builds that did not write down when they made it are old.
fn is_old(made: Option<Timestamp>, now: Timestamp) -> bool {
    made.is_none_or(|made| now.duration_since(made) > KEPT)
}

/// The archive that the Engine unpacks into the volume: the binary under a name of its own first, then a hard link with
/// the name that containers start. So that name is never a file that is cut short, nor one that is being written, which
/// the kernel does not start (ETXTBSY), however many servers fill the volume at once.
///
/// All containers share the folder and the file, which are there to be executed and for nobody to read: what can be
/// opened can be locked and watched, and so carries messages from one container to another.
fn whole_or_not_there(content: &[u8]) -> io::Result<Bytes> {
    let name = format!("{FOLDER}/{FILE}");
    let copy = format!("{name}-{}", uuid::Uuid::new_v4());
    let mut builder = tar::Builder::new(Vec::with_capacity(content.len() + 4096));
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o711);
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    builder.append_data(&mut header, format!("{FOLDER}/"), io::empty())?;
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(content.len() as u64);
    builder.append_data(&mut header, &copy, content)?;
    header.set_entry_type(tar::EntryType::Link);
    header.set_size(0);
    builder.append_link(&mut header, &name, &copy)?;
    Ok(builder.into_inner()?.into())
}

/// The start of the SHA-256 in hexadecimal, and the length.
fn hash(mut file: File) -> io::Result<(String, u64)> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            return Ok((hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect(), bytes));
        }
        hash.update(&piece[..count]);
        bytes += count as u64;
    }
}

async fn import_empty_image(engine: &Engine) -> Result<(), SandboxError> {
    match engine.image_id(EMPTY_IMAGE).await {
        Err(EngineError::NotFound { .. }) => {}
        // Another import would move the tag, and leave the one before without a name.
        known => return Ok(known.map(drop)?),
    }
    let (repo, tag) = EMPTY_IMAGE.split_once(':').unwrap_or((EMPTY_IMAGE, "latest"));
    let options = CreateImageOptionsBuilder::default().from_src("-").repo(repo).tag(tag).build();
    let tar = archive([("empty", b"".as_slice())].into_iter())?;
    let mut steps = Box::pin(engine.docker.create_image(Some(options), Some(body_full(tar)), None));
    while let Some(step) = steps.next().await {
        step.map_err(|error| SandboxError::Engine(format!("import: {error}")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_goes_when_it_is_old() {
        let now = "2026-01-15T12:00:00Z".parse().unwrap();
        for (made, old) in [
            ("2026-01-15T10:59:59Z", true),
            ("2026-01-15T12:30:00+02:00", true),
            ("2026-01-15T11:30:00Z", false),
            ("2026-01-15T13:00:00Z", false),
        ] {
            assert_eq!(is_old(Some(made.parse().unwrap()), now), old, "{made}");
        }
        assert!(is_old(None, now));
    }
}
