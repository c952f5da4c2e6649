//! Packages that executions need: volumes that an install fills once, for all executions of a tenant that ask for the
//! same. They are mounted read-only, and the one that was used longest ago goes when all of them take too much.
//!
//! A tenant never gets the volume of another: what two programs can open, they can lock and watch, and so send messages.

mod guard;
mod install;
mod origin;
mod prune;
mod volumes;

pub use prune::PackagePrune;
pub(super) use volumes::{for_programs, is_there};

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::{broadcast, watch};
use tracing::{info, warn};

use crate::execution::spec::ExecutionSpec;
use crate::limits::Limits;
use crate::runtime::Sources;
use crate::sandbox::docker::Inner;
use crate::sandbox::docker::dependencies::guard::{Exits, Guard};
use crate::sandbox::docker::dependencies::install::Order;
use crate::sandbox::docker::dependencies::origin::Origin;
use crate::sandbox::{Events, ImageError, InstallReport, Job, Outcome, SandboxError};

/// Lines of an install that a slow follower may be behind; it then misses some.
const LINES_BEHIND: usize = 256;
/// Before a volume that containers still use is removed again, and how often.
const REMOVE_AGAIN: Duration = Duration::from_millis(250);
const REMOVALS: u32 = 120;

/// How packages are installed.
#[derive(Debug, Clone)]
pub struct InstallConfig {
    /// What one install may use: its commands have the compiler's time, the installer the program's.
    pub limits: Limits,
    /// Network of the containers that install; `None` makes one of their own, with a guard.
    pub network: Option<String>,
    /// URLs of registries, by the runtimes' names for them.
    pub registries: BTreeMap<String, String>,
    /// What all volumes with packages may take, in bytes.
    pub budget: u64,
    /// Most days without use, after which packages go.
    pub days: i64,
    /// The data folder, by its absolute path. `None` for commands.
    pub folder: Option<PathBuf>,
    /// Name that processes share, which then keep packages together, each for all. `None`: they are those of the data
    /// folder, which one server has at a time.
    pub kept_as: Option<String>,
}

/// A volume that an install has filled.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) name: String,
    bytes: u64,
    /// By which the one is found that was used longest ago.
    used: AtomicU64,
    /// Day of its last use that the Engine was told, since 1970.
    day: AtomicI64,
}

impl Whole {
    fn new(name: String, bytes: u64, day: i64) -> Self {
        Self { name, bytes, used: 0.into(), day: day.into() }
    }
}

/// All volumes of this server, and the installs that are under way.
#[derive(Debug)]
pub(super) struct Dependencies {
    config: InstallConfig,
    ca_bundle: Option<PathBuf>,
    proxy: Option<String>,
    origin: Origin,
    state: Mutex<State>,
    /// Made for the first install.
    guard: tokio::sync::Mutex<Option<Arc<Guard>>>,
}

#[derive(Debug, Default)]
struct State {
    whole: HashMap<String, Arc<Whole>>,
    installing: HashMap<String, Installing>,
    uses: u64,
}

/// An install that is under way.
#[derive(Debug, Clone)]
struct Installing {
    lines: broadcast::Sender<String>,
    done: watch::Sender<Ended>,
}

/// How it ended, once it has.
type Ended = Option<Result<Installed, Failure>>;

impl Installing {
    fn new() -> Self {
        Self { lines: broadcast::Sender::new(LINES_BEHIND), done: watch::Sender::new(None) }
    }

    fn follow(&self) -> (broadcast::Receiver<String>, watch::Receiver<Ended>) {
        (self.lines.subscribe(), self.done.subscribe())
    }
}

/// How an install ended.
#[derive(Debug, Clone)]
enum Installed {
    Whole(Arc<Whole>, InstallReport),
    /// The packages' doing, or the caller's.
    Failed(Outcome, InstallReport),
}

/// What we failed to do, for all who wait.
#[derive(Debug, Clone)]
enum Failure {
    Away(String),
    Image(ImageError),
    Lost(String),
}

/// What an attempt knows of its packages before it takes a container.
pub(super) enum Prepared {
    /// They are there, or none are asked for.
    Ready {
        volume: Option<Arc<Whole>>,
        install: Option<InstallReport>,
    },
    Failed {
        outcome: Outcome,
        install: InstallReport,
    },
}

impl From<SandboxError> for Failure {
    fn from(error: SandboxError) -> Self {
        match error {
            SandboxError::Away(why) => Self::Away(why),
            SandboxError::Image(error) => Self::Image(error),
            other => Self::Lost(format!("the install: {other}")),
        }
    }
}

impl From<Failure> for SandboxError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Away(why) => Self::Away(why),
            Failure::Image(error) => Self::Image(error),
            Failure::Lost(why) => Self::Lost(why),
        }
    }
}

impl Dependencies {
    pub(super) fn new(
        config: InstallConfig,
        ca_bundle: Option<PathBuf>,
        proxy: Option<String>,
        instance: String,
    ) -> Self {
        let origin = Origin::new(config.kept_as.clone().unwrap_or(instance), config.folder.clone());
        let (state, guard) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { config, ca_bundle, proxy, origin, state, guard }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the operator's settings are to an installer.
    fn sources(&self, registry: &str) -> Sources<'_> {
        Sources {
            registry: self.config.registries.get(registry).map(String::as_str),
            certificates: self.ca_bundle.as_ref().map(|_| install::CERTIFICATES),
            proxy: None,
        }
    }

    /// The proxy of an installer: the guard, with the operator's name for its own, or that.
    fn proxy_by(&self, guard: Option<&Guard>) -> Option<String> {
        let Some(guard) = guard else { return self.proxy.clone() };
        let user = self.proxy.as_deref().and_then(|url| url.split("://").nth(1)?.rsplit_once('@'));
        let user = user.map_or_else(String::new, |(user, _)| format!("{user}@"));
        Some(format!("http://{user}{}", guard.address))
    }

    /// What two executions must have in common to share a volume.
    fn key(&self, spec: &ExecutionSpec, image: &str) -> String {
        let how = spec.runtime.install.as_ref().map(|install| {
            let code = spec.dependencies.as_ref().is_some_and(|dependencies| dependencies.code);
            (install.command(code), &install.compile, install.environment(&self.sources(&install.registry)))
        });
        let tools = spec.runtime.installer().image_name();
        let all = (spec.tenant.to_string(), image, tools, how, &spec.dependencies);
        let text = serde_json::to_vec(&all).unwrap_or_default();
        Sha256::digest(&text).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl State {
    /// The volume of this key, which is used now.
    fn take(&mut self, key: &str) -> Option<Arc<Whole>> {
        self.uses += 1;
        let whole = self.whole.get(key)?;
        whole.used.store(self.uses, Ordering::Relaxed);
        Some(Arc::clone(whole))
    }

    /// Takes out those that were used longest ago and that no execution has, until the rest fits.
    fn evict(&mut self, budget: u64) -> Vec<Arc<Whole>> {
        let mut gone = Vec::new();
        let mut total: u64 = self.whole.values().map(|whole| whole.bytes).sum();
        while total > budget {
            let idle = self.whole.iter().filter(|(_, whole)| Arc::strong_count(whole) == 1);
            let oldest = idle.min_by_key(|(_, whole)| whole.used.load(Ordering::Relaxed));
            let Some(key) = oldest.map(|(key, _)| key.clone()) else { break };
            if let Some(whole) = self.whole.remove(&key) {
                total -= whole.bytes;
                gone.push(whole);
            }
        }
        gone
    }
}

impl Inner {
    /// The guard of this server, made where there is none. `None` where the operator named another network.
    async fn guard(&self) -> Result<Option<Arc<Guard>>, SandboxError> {
        let dependencies = &self.dependencies;
        if dependencies.config.network.is_some() {
            return Ok(None);
        }
        let mut guard = dependencies.guard.lock().await;
        if let Some(guard) = &*guard {
            return Ok(Some(Arc::clone(guard)));
        }
        let exits = Exits::new(dependencies.config.registries.values(), dependencies.proxy.as_deref());
        let made = Arc::new(Guard::start(&self.engine, &self.ownership, exits).await?);
        *guard = Some(Arc::clone(&made));
        Ok(Some(made))
    }

    /// At the end, or where it is no use any more: the next install makes another.
    pub(super) async fn close_guard(&self) {
        let guard = self.dependencies.guard.lock().await.take();
        if let Some(guard) = guard {
            guard.remove(&self.engine).await;
        }
    }

    /// Finds what earlier servers on this data folder installed, and removes what they left half done.
    pub(super) async fn recover_dependencies(self: &Arc<Self>) -> Result<(), SandboxError> {
        guard::remove_orphans(&self.engine, &self.ownership).await?;
        let Dependencies { origin, config, .. } = &self.dependencies;
        let shared = config.kept_as.is_some();
        let found = volumes::recover(&self.engine, &self.ownership, &origin.instance, shared).await?;
        let mut state = self.dependencies.state();
        for (key, found) in found {
            state.whole.insert(key.clone(), Arc::new(Whole::new(found.name, found.bytes, found.last_used)));
            state.take(&key);
        }
        drop(state);
        self.expire();
        self.evict();
        Ok(())
    }

    /// The packages that a job needs, installed first where they are missing.
    pub(super) async fn prepare(
        self: &Arc<Self>,
        job: &Job,
        events: &dyn Events,
    ) -> Result<Prepared, SandboxError> {
        let Some(dependencies) = &job.spec.dependencies else {
            return Ok(Prepared::Ready { volume: None, install: None });
        };
        let image = self.images.ensure(&job.spec.runtime, &|line| events.progress(line)).await?;
        let key = self.dependencies.key(&job.spec, &image.id);
        let (lines, done) = {
            let mut state = self.dependencies.state();
            if let Some(whole) = state.take(&key) {
                self.note_use(&key, &whole);
                return Ok(Prepared::Ready { volume: Some(whole), install: None });
            }
            match state.installing.get(&key) {
                Some(installing) => installing.follow(),
                None => {
                    let installing = Installing::new();
                    state.installing.insert(key.clone(), installing.clone());
                    // Before it looks whether somebody waits.
                    let following = installing.follow();
                    let order = Order {
                        key,
                        id: job.id,
                        tenant: job.spec.tenant.clone(),
                        runtime: Arc::clone(&job.spec.runtime),
                        dependencies: dependencies.clone(),
                    };
                    self.begin_install(order, installing);
                    following
                }
            }
        };
        follow(lines, done, events).await
    }

    /// Runs for all who wait, and ends when nobody does.
    fn begin_install(self: &Arc<Self>, order: Order, installing: Installing) {
        let inner = Arc::clone(self);
        self.removals.spawn(async move {
            let say = |line: &str| drop(installing.lines.send(line.to_owned()));
            let ended = tokio::select! {
                ended = inner.install(&order, &say) => ended,
                () = inner.abandoned(&order.key, &installing) => {
                    info!(execution = %order.id, "an install is given up: nobody waits for it");
                    return;
                }
            };
            if let Err(error) = &ended {
                warn!(execution = %order.id, %error, "an install failed");
            }
            let ended = ended.map_err(Failure::from);
            let mut state = inner.dependencies.state();
            state.installing.remove(&order.key);
            if let Ok(Installed::Whole(whole, _)) = &ended {
                state.whole.insert(order.key.clone(), Arc::clone(whole));
                state.take(&order.key);
            }
            drop(state);
            installing.done.send_replace(Some(ended));
            drop(installing);
            inner.evict();
        });
    }

    /// Tells the Engine of the first use on a day: by that, any server knows for how long packages were not used.
    fn note_use(self: &Arc<Self>, key: &str, whole: &Arc<Whole>) {
        let today = volumes::today();
        let before = whole.day.fetch_max(today, Ordering::Relaxed);
        if before >= today {
            return;
        }
        let (inner, key, whole) = (Arc::clone(self), key.to_owned(), Arc::clone(whole));
        self.removals.spawn(async move {
            let origin = &inner.dependencies.origin;
            let days = (before, today);
            if let Err(error) = volumes::mark_used(&inner.engine, origin, &key, &whole.name, days).await {
                warn!(volume = %whole.name, %error, "the use of packages could not be noted");
            }
        });
    }

    /// Ends when nobody waits for this install any more, and nobody can.
    async fn abandoned(&self, key: &str, installing: &Installing) {
        loop {
            installing.done.closed().await;
            let mut state = self.dependencies.state();
            if installing.done.receiver_count() == 0 {
                state.installing.remove(key);
                return;
            }
        }
    }

    /// Removes what is too much. What an execution has is let be, and looked at after the next install.
    fn evict(self: &Arc<Self>) {
        let gone = self.dependencies.state().evict(self.dependencies.config.budget);
        for whole in gone {
            info!(volume = %whole.name, bytes = whole.bytes, "packages that were not used for long make room");
            self.remove_dependencies(whole.name.clone());
        }
    }

    /// A volume that went behind our back.
    pub(super) fn forget_dependencies(self: &Arc<Self>, volume: &str) {
        self.dependencies.state().whole.retain(|_, whole| whole.name != volume);
        self.remove_dependencies(volume.to_owned());
    }

    /// Off the caller's path: containers with it go first.
    fn remove_dependencies(self: &Arc<Self>, volume: String) {
        self.drop_warm_with(&volume);
        let inner = Arc::clone(self);
        self.removals.spawn(async move {
            for _ in 0..REMOVALS {
                match volumes::remove(&inner.engine, &volume).await {
                    Ok(()) => return,
                    Err(_) => tokio::time::sleep(REMOVE_AGAIN).await,
                }
            }
            warn!(%volume, "packages could not be removed; the next start does");
        });
    }
}

/// Shows how an install goes, and gives how it ended.
async fn follow(
    mut lines: broadcast::Receiver<String>,
    mut done: watch::Receiver<Ended>,
    events: &dyn Events,
) -> Result<Prepared, SandboxError> {
    let mut ended = std::pin::pin!(async move {
        let ended = done.wait_for(Option::is_some).await;
        ended.ok().and_then(|ended| ended.clone())
    });
    loop {
        tokio::select! {
            biased;
            Ok(line) = lines.recv() => events.progress(&line),
            ended = &mut ended => {
                let lost = || SandboxError::Lost("the install was given up".into());
                return Ok(match ended.ok_or_else(lost)?? {
                    Installed::Whole(whole, report) => {
                        Prepared::Ready { volume: Some(whole), install: Some(report) }
                    }
                    Installed::Failed(outcome, install) => Prepared::Failed { outcome, install },
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(of: &[(&str, u64)]) -> State {
        let mut state = State::default();
        for (key, bytes) in of {
            let name = format!("v-{key}");
            state.whole.insert((*key).to_owned(), Arc::new(Whole::new(name, *bytes, 0)));
            state.take(key);
        }
        state
    }

    fn names(gone: &[Arc<Whole>]) -> Vec<&str> {
        gone.iter().map(|whole| whole.name.as_str()).collect()
    }

    fn spec(tenant: &str, language: &str, requirements: &str, code: bool) -> ExecutionSpec {
        let runtime = crate::runtime::Catalogue::load(None).unwrap().resolve(language).unwrap();
        let files = [("requirements.txt".to_owned(), requirements.to_owned())].into();
        ExecutionSpec {
            tenant: crate::execution::id::Tenant::named(tenant),
            share: None,
            runtime,
            project: crate::archive::Project::restored(&[], 0, std::path::Path::new("/")).unwrap(),
            command: crate::runtime::Command { compile: None, run: Vec::new(), env: Vec::new() },
            stdin: crate::execution::spec::Stdin::empty(),
            limits: crate::config::Config::default().limit_policy().default,
            artifacts: None,
            image: None,
            dependencies: Some(crate::execution::spec::Dependencies {
                files,
                pre_commands: Vec::new(),
                code,
            }),
            labels: BTreeMap::new(),
            notices: Vec::new(),
            beside: Vec::new(),
            memory: None,
        }
    }

    #[test]
    fn only_the_same_of_the_same_tenant_shares_a_volume() {
        let config = crate::config::Config::default().installs();
        let other = InstallConfig {
            registries: [("pip".to_owned(), "https://a.example".to_owned())].into(),
            ..config.clone()
        };
        let with = |config| Dependencies::new(config, None, None, "i".into());
        let (usual, elsewhere) = (with(config), with(other));
        let one = || spec("a", "python", "six==1.16.0", false);
        let key = usual.key(&one(), "sha256:1");
        assert_eq!(usual.key(&ExecutionSpec { artifacts: Some(Vec::new()), ..one() }, "sha256:1"), key);
        let others = [
            usual.key(&spec("b", "python", "six==1.16.0", false), "sha256:1"),
            usual.key(&spec("a", "python", "six==1.17.0", false), "sha256:1"),
            usual.key(&spec("a", "python", "six==1.16.0", true), "sha256:1"),
            usual.key(&spec("a", "python@3.11", "six==1.16.0", false), "sha256:1"),
            usual.key(&one(), "sha256:2"),
            elsewhere.key(&one(), "sha256:1"),
        ];
        let all: std::collections::HashSet<_> = others.into_iter().chain([key]).collect();
        assert_eq!(all.len(), 7);
    }

    /// Case F06.
    #[test]
    fn f06_what_was_used_longest_ago_goes_first_and_what_is_in_use_stays() {
        let mut all = state(&[("a", 10), ("b", 10), ("c", 10)]);
        assert!(all.evict(30).is_empty());
        let in_use = all.take("a").unwrap();
        assert_eq!(names(&all.evict(20)), ["v-b"]);
        assert_eq!(names(&all.evict(0)), ["v-c"], "an execution has the other");
        drop(in_use);
        assert_eq!(names(&all.evict(0)), ["v-a"]);
    }
}
