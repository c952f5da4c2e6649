//! The base that the runtimes' images start from: the local image, else a pull, else made from Debian packages.

use std::process::Stdio;
use std::time::Duration;

use bollard::body_try_stream;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures::StreamExt as _;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio_util::io::ReaderStream;
use tracing::info;

use crate::sandbox::docker::engine::{Engine, EngineError};
use crate::sandbox::docker::image::BuildSettings;

/// A pull that brings nothing for this long is given up.
const PULL: Duration = Duration::from_secs(300);
const INSPECT: Duration = Duration::from_secs(10);
const BOOTSTRAP: &str = "mmdebstrap";
const SHELL: &str = "/bin/sh";
/// What the shell exits with when there is no such program.
const NO_PROGRAM: i32 = 127;

type Say<'a> = dyn Fn(&str) + Sync + 'a;

/// Makes sure that the Engine has this image.
pub(super) async fn ensure(
    engine: &Engine,
    image: &str,
    settings: &BuildSettings,
    say: &Say<'_>,
) -> Result<(), String> {
    match engine.call("inspect image", INSPECT, engine.docker.inspect_image(image)).await {
        Ok(_) => return Ok(()),
        Err(EngineError::NotFound { .. }) => {}
        Err(error) => return Err(error.to_string()),
    }
    say(&format!("pulling the base image {image}"));
    let Err(pull) = pull(engine, image, say).await else { return Ok(()) };
    say(&format!("it can't be pulled ({pull})"));
    let bootstrapped = match debian_suite(image) {
        Some(suite) => bootstrap(engine, image, suite, settings, say).await,
        None => Err("it is no Debian image that could be made from packages".to_owned()),
    };
    bootstrapped.map_err(|bootstrap| {
        format!(
            "the base image {image} is not here, pulling it failed ({pull}), and so did making it from Debian packages \
             ({bootstrap}); load it with `docker load`, or give access to a registry, or install {BOOTSTRAP} (on Debian: \
             apt-get install {BOOTSTRAP}) and see --debian-mirror"
        )
    })
}

pub(super) async fn pull(engine: &Engine, image: &str, say: &Say<'_>) -> Result<(), String> {
    // The Engine splits the name; without a tag it would pull them all.
    let is_tagged = image.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
    let name = if is_tagged { image.to_owned() } else { format!("{image}:latest") };
    let options = CreateImageOptionsBuilder::default().from_image(&name).build();
    let mut steps = Box::pin(engine.docker.create_image(Some(options), None, None));
    loop {
        match tokio::time::timeout(PULL, steps.next()).await {
            Ok(Some(Ok(step))) => say(&step.status.unwrap_or_default()),
            Ok(Some(Err(error))) => return Err(error.to_string()),
            Ok(None) => return Ok(()),
            Err(_) => return Err(format!("nothing came for {} s", PULL.as_secs())),
        }
    }
}

/// `debian:trixie-slim` is made from the suite `trixie`.
fn debian_suite(image: &str) -> Option<&str> {
    let tag = image.strip_prefix("debian:")?;
    let suite = tag.strip_suffix("-slim").unwrap_or(tag);
    (!suite.is_empty() && suite.bytes().all(|byte| byte.is_ascii_lowercase())).then_some(suite)
}

/// Makes a minimal system and imports it. It goes through a file: only a whole one may be imported.
async fn bootstrap(
    engine: &Engine,
    image: &str,
    suite: &str,
    settings: &BuildSettings,
    say: &Say<'_>,
) -> Result<(), String> {
    info!(%image, "making the base image from Debian packages");
    say(&format!("making {image} from Debian packages with {BOOTSTRAP}"));
    let file = tempfile::NamedTempFile::new().map_err(|error| format!("no temporary file: {error}"))?;
    run_bootstrap(suite, file.path(), settings, say).await?;
    say("importing it");
    let tar = tokio::fs::File::open(file.path()).await.map_err(|error| error.to_string())?;
    let (repo, tag) = image.split_once(':').unwrap_or((image, "latest"));
    let options = CreateImageOptionsBuilder::default().from_src("-").repo(repo).tag(tag).build();
    let body = body_try_stream(ReaderStream::with_capacity(tar, 1 << 20));
    let mut steps = Box::pin(engine.docker.create_image(Some(options), Some(body), None));
    while let Some(step) = steps.next().await {
        step.map_err(|error| format!("the Engine did not import it: {error}"))?;
    }
    Ok(())
}

async fn run_bootstrap(
    suite: &str,
    file: &std::path::Path,
    settings: &BuildSettings,
    say: &Say<'_>,
) -> Result<(), String> {
    let mut command = tokio::process::Command::new(SHELL);
    // A server lets nobody else read what it makes; every user of an image has to.
    command.args(["-c", "umask 022 && exec \"$0\" \"$@\"", BOOTSTRAP]);
    // What a slim image leaves out.
    for path in ["/usr/share/man/*", "/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*"] {
        command.arg(format!("--dpkgopt=path-exclude={path}"));
    }
    if let Some(proxy) = &settings.proxy {
        command.arg(format!("--aptopt=Acquire::http::Proxy \"{proxy}\""));
        command.arg(format!("--aptopt=Acquire::https::Proxy \"{proxy}\""));
    }
    if let Some(bundle) = &settings.ca_bundle {
        command.arg(format!("--aptopt=Acquire::https::CaInfo \"{}\"", bundle.display()));
    }
    command.args(["--variant=minbase", "--format=tar", suite]).arg(file);
    command.args(settings.debian_mirror.as_ref());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("{BOOTSTRAP} can't be started: {error}"))?;
    let mut last = String::new();
    if let Some(stderr) = child.stderr.take() {
        let mut lines = BufReader::new(stderr).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            say(&line);
            last = line;
        }
    }
    let status = child.wait().await.map_err(|error| error.to_string())?;
    match status.code() {
        Some(0) => Ok(()),
        Some(NO_PROGRAM) => Err(format!("{BOOTSTRAP} is not installed")),
        _ => Err(format!("{BOOTSTRAP} failed: {last}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_debian_images_can_be_made_from_packages() {
        assert_eq!(debian_suite("debian:trixie-slim"), Some("trixie"));
        assert_eq!(debian_suite("debian:bookworm"), Some("bookworm"));
        for other in ["debian", "debian:", "debian:-slim", "debian:12.1", "alpine:3", "debian:../x"] {
            assert_eq!(debian_suite(other), None, "{other}");
        }
    }
}
