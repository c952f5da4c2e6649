//! Images that are built while the server starts, before a request needs one of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tracing::{info, warn};

use crate::runtime::{Catalogue, Runtime, RuntimeError};
use crate::sandbox::{Sandbox, WantedImages};

/// How far an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Others are built first.
    Waiting,
    /// The image is looked for, and built where it is missing.
    Building,
    /// Executions can use the image.
    Ready,
    /// The build failed, and the log says why; the first execution that needs the image tries again.
    Failed,
}

/// The images to be built, and how far each of them is.
#[derive(Debug, Default)]
pub struct Preparation {
    runtimes: Vec<Arc<Runtime>>,
    stages: Mutex<BTreeMap<String, Stage>>,
}

impl Preparation {
    /// A preparation of the images of these languages, each a name, an alias or a name with a version.
    ///
    /// # Errors
    /// The catalogue lacks one of the languages.
    pub fn of<'a>(names: impl Iterator<Item = &'a str>, catalogue: &Catalogue) -> Result<Self, RuntimeError> {
        let runtimes = names.map(|name| catalogue.resolve(name)).collect::<Result<Vec<_>, _>>()?;
        let stages = runtimes.iter().map(|runtime| (title(runtime), Stage::Waiting)).collect();
        Ok(Self { runtimes, stages: Mutex::new(stages) })
    }

    /// Builds what is missing, one image after the other. An image that can't be built does not keep the next from it.
    pub async fn run(&self, sandbox: &dyn Sandbox) {
        for runtime in &self.runtimes {
            let name = title(runtime);
            self.stages().insert(name.clone(), Stage::Building);
            let log = |line: &str| info!(image = %name, "{line}");
            let wanted = WantedImages { runtime, own: None, installer: false };
            let stage = match sandbox.ensure_images(wanted, &log).await {
                Ok(()) => Stage::Ready,
                Err(error) => {
                    warn!(image = %name, %error, "the image could not be prepared");
                    Stage::Failed
                }
            };
            self.stages().insert(name, stage);
        }
    }

    /// How far each image is, by the name of its language with the version.
    #[must_use]
    pub fn progress(&self) -> BTreeMap<String, Stage> {
        self.stages().clone()
    }

    fn stages(&self) -> MutexGuard<'_, BTreeMap<String, Stage>> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn title(runtime: &Runtime) -> String {
    format!("{}@{}", runtime.name, runtime.version)
}
