//! Images of ours that nothing uses: of runtimes that have changed since, and those that lost their names.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bollard::models::ImageSummary;
use bollard::query_parameters::{ListContainersOptionsBuilder, ListImagesOptionsBuilder};

use crate::runtime::Runtime;
use crate::sandbox::SandboxError;
use crate::sandbox::docker::DockerSandbox;
use crate::sandbox::docker::engine::{Engine, EngineError};
use crate::sandbox::docker::ownership::APP;

/// Label with the runtime's name.
pub(super) const RUNTIME: &str = "execbox.runtime";
const LIST: Duration = Duration::from_secs(30);
/// Layers are deleted while we wait.
const REMOVE: Duration = Duration::from_secs(120);

/// What was removed, and what could not be.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Disposal {
    /// Tags, or ids of images without one.
    pub removed: Vec<String>,
    /// Those that a container uses, or that others are built on.
    pub in_use: Vec<String>,
    /// Bytes of the layers that nobody has any more.
    pub bytes: u64,
}

/// An image's layers, from the base up.
#[derive(Debug, Clone)]
struct Layers {
    ids: Vec<String>,
    size: u64,
}

impl DockerSandbox {
    /// Removes the images of ours that are not those of `keep`, that no container uses, and that nothing is built on.
    /// Only those of the runtimes `named`, unless none are.
    ///
    /// # Errors
    /// The Engine does not answer.
    pub async fn remove_unused_images(
        &self,
        keep: &[Arc<Runtime>],
        named: &[String],
    ) -> Result<Disposal, SandboxError> {
        let engine = &self.0.engine;
        let tags: BTreeSet<String> = keep
            .iter()
            .flat_map(|runtime| [runtime.image_name(), runtime.installer().image_name()])
            .collect();
        let used = used_images(engine).await?;
        let (mut kept, mut candidates) = (Vec::new(), Vec::new());
        for image in all_images(engine).await? {
            let is_named =
                named.is_empty() || image.labels.get(RUNTIME).is_some_and(|name| named.contains(name));
            let is_kept = image.repo_tags.iter().any(|tag| tags.contains(tag) || !is_our_tag(tag));
            let is_ours = image.labels.contains_key(APP);
            if is_ours && is_named && !is_kept { candidates.push(image) } else { kept.push(image.id) }
        }
        // Those that are built on others first.
        candidates.sort_by_key(|image| std::cmp::Reverse(image.created));
        let mut disposal = Disposal::default();
        let mut gone = Vec::new();
        for image in candidates {
            let names = names(&image);
            let layers = layers(engine, &image.id).await?;
            if !used.contains(&image.id) && remove(engine, &names).await? {
                disposal.removed.extend(names);
                gone.extend(layers);
            } else {
                disposal.in_use.extend(names);
                kept.push(image.id);
            }
        }
        let mut left = Vec::new();
        for id in kept {
            left.extend(layers(engine, &id).await?);
        }
        disposal.bytes = freed(gone, &left);
        Ok(disposal)
    }
}

fn is_our_tag(tag: &str) -> bool {
    tag.starts_with("execbox/") || tag == "<none>:<none>"
}

fn names(image: &ImageSummary) -> Vec<String> {
    let tags: Vec<String> = image.repo_tags.iter().filter(|tag| *tag != "<none>:<none>").cloned().collect();
    if tags.is_empty() { vec![image.id.clone()] } else { tags }
}

async fn all_images(engine: &Engine) -> Result<Vec<ImageSummary>, EngineError> {
    let options = ListImagesOptionsBuilder::default().build();
    engine.call("list images", LIST, engine.docker.list_images(Some(options))).await
}

/// Ids of the images of all containers, whoever's they are.
async fn used_images(engine: &Engine) -> Result<BTreeSet<String>, EngineError> {
    let options = ListContainersOptionsBuilder::default().all(true).build();
    let containers = engine.call("list", LIST, engine.docker.list_containers(Some(options))).await?;
    Ok(containers.into_iter().filter_map(|container| container.image_id).collect())
}

/// None for an image that is gone meanwhile.
async fn layers(engine: &Engine, id: &str) -> Result<Option<Layers>, EngineError> {
    let inspected = match engine.call("inspect image", LIST, engine.docker.inspect_image(id)).await {
        Ok(inspected) => inspected,
        Err(EngineError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let size = inspected.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
    Ok(Some(Layers { ids: inspected.root_fs.and_then(|root| root.layers).unwrap_or_default(), size }))
}

/// Whether it is gone: the Engine refuses to remove what is in use.
async fn remove(engine: &Engine, names: &[String]) -> Result<bool, EngineError> {
    for name in names {
        let removal =
            engine.docker.remove_image(name, None::<bollard::query_parameters::RemoveImageOptions>, None);
        match engine.call("remove image", REMOVE, removal).await {
            Ok(_) | Err(EngineError::NotFound { .. }) => {}
            Err(EngineError::Failed { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Bytes of the layers of `gone` that no image of `left` has. An image's own bytes are known where there is an image of
/// the layers below.
fn freed(mut gone: Vec<Layers>, left: &[Layers]) -> u64 {
    let mut known: HashMap<Vec<String>, u64> =
        left.iter().map(|image| (image.ids.clone(), image.size)).collect();
    gone.sort_by_key(|image| image.ids.len());
    let mut bytes = 0;
    for image in gone {
        if left.iter().any(|other| other.ids.starts_with(&image.ids)) {
            continue;
        }
        let below = (0..=image.ids.len()).rev().find_map(|count| known.get(&image.ids[..count]));
        bytes += image.size.saturating_sub(below.copied().unwrap_or(0));
        known.insert(image.ids, image.size);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(layers: &str, size: u64) -> Layers {
        Layers { ids: layers.chars().map(String::from).collect(), size }
    }

    #[test]
    fn layers_that_others_have_are_not_freed() {
        for (gone, left, bytes) in [
            (&[][..], &[][..], 0),
            (&[image("ab", 100)], &[], 100),
            (&[image("ab", 100)], &[image("a", 70)], 30),
            (&[image("ab", 100)], &[image("abc", 120)], 0),
            (&[image("abc", 120), image("ab", 100)], &[image("a", 70)], 50),
            (&[image("ab", 100), image("ab", 100)], &[image("a", 70)], 30),
            (&[image("abc", 120)], &[image("ab", 100), image("a", 70)], 20),
        ] {
            assert_eq!(freed(gone.to_vec(), left), bytes, "{gone:?} beside {left:?}");
        }
    }
}
