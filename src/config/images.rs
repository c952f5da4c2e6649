//! Settings of images: which ones are built at the start, and how long a caller waits for one.

use std::time::Duration;

/// Images of the languages.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Images")]
pub struct ImageConfig {
    /// Languages whose images are built when the server starts, in the background, where they are missing. An empty value
    /// builds none.
    #[arg(
        long,
        env = "EXECBOX_PREPARE",
        value_delimiter = ',',
        default_value = "python",
        value_name = "NAME,..."
    )]
    pub prepare: Vec<String>,

    /// Seconds that a caller of `exec/sync` or `eval` waits for an image that is not built yet; then the answer is 503
    /// `image_not_ready`, and the build goes on. 0 does not wait. Async executions wait in their place.
    // What a client with a time limit of its own usually grants an answer.
    #[arg(long, env = "EXECBOX_IMAGE_WAIT_SECONDS", default_value_t = 60, value_name = "S")]
    pub image_wait_seconds: u64,
}

impl ImageConfig {
    /// Names of the languages to prepare.
    pub fn prepared(&self) -> impl Iterator<Item = &str> {
        self.prepare.iter().map(|name| name.trim()).filter(|name| !name.is_empty())
    }

    /// How long a caller waits for an image.
    #[must_use]
    pub fn wait(&self) -> Duration {
        Duration::from_secs(self.image_wait_seconds)
    }
}
