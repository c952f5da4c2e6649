//! Packages that nobody comes back for: of data folders that are gone, and what was not used for long.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::{info, warn};

use crate::sandbox::SandboxError;
use crate::sandbox::docker::dependencies::origin::Fate;
use crate::sandbox::docker::dependencies::volumes::{self, Stored};
use crate::sandbox::docker::dependencies::{State, Whole};
use crate::sandbox::docker::{DockerSandbox, Inner};

/// Between two looks of a server.
const EVERY: Duration = Duration::from_hours(6);
/// Days without use before packages of others go because all of them take too much: a week's pause is no end.
const PAUSE_DAYS: i64 = 7;

/// Packages that were removed, and those that were not.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PackagePrune {
    /// Names of volumes.
    pub removed: Vec<String>,
    /// Bytes of packages in them.
    pub bytes: u64,
    /// Number of volumes that are kept: in use, of data folders that are there, or used lately by somebody elsewhere.
    pub kept: usize,
}

/// When packages of others go.
#[derive(Debug, Clone, Copy)]
struct Rule {
    today: i64,
    /// Most days without use.
    days: i64,
    /// Most bytes of all whose data folder is not known to be there.
    budget: u64,
}

impl Rule {
    /// Whether nobody comes back for it, wherever that would be.
    fn is_old(self, stored: &Stored) -> bool {
        self.today - stored.last_used > self.days
    }

    /// Which of these go.
    fn choose(self, all: Vec<(Stored, Fate)>) -> Vec<Stored> {
        let (mut gone, rest): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|(stored, fate)| *fate == Fate::Gone || self.is_old(stored));
        let mut strays: Vec<_> = rest.into_iter().filter(|(_, fate)| *fate == Fate::Unknown).collect();
        strays.sort_by_key(|(stored, _)| stored.last_used);
        let mut total: u64 = strays.iter().map(|(stored, _)| stored.bytes).sum();
        for (stored, fate) in strays {
            if total > self.budget && self.today - stored.last_used > PAUSE_DAYS {
                total -= stored.bytes;
                gone.push((stored, fate));
            }
        }
        gone.into_iter().map(|(stored, _)| stored).collect()
    }
}

impl State {
    /// Takes out those that were not used for so many days, and that no execution has.
    fn expire(&mut self, today: i64, days: i64) -> Vec<Arc<Whole>> {
        let old = |whole: &Arc<Whole>| {
            Arc::strong_count(whole) == 1 && today - whole.day.load(Ordering::Relaxed) > days
        };
        self.whole.extract_if(|_, whole| old(whole)).map(|(_, whole)| whole).collect()
    }
}

impl Inner {
    /// For a server: looks at once, and then again and again, until the sandbox closes.
    pub(in crate::sandbox::docker) fn start_pruning(self: &Arc<Self>) {
        let (keeper, inner) = (Arc::clone(&self.keeper), Arc::downgrade(self));
        tokio::spawn(async move {
            let looking = async {
                while let Some(inner) = inner.upgrade() {
                    inner.engine.circuit.closed().await;
                    inner.expire();
                    if let Err(error) = inner.prune(false).await {
                        warn!(%error, "packages that nobody uses could not be looked for");
                    }
                    drop(inner);
                    tokio::time::sleep(EVERY).await;
                }
            };
            keeper.closing().run_until_cancelled(looking).await;
        });
    }

    /// Removes our own that were not used for long.
    pub(super) fn expire(self: &Arc<Self>) {
        let days = self.dependencies.config.days;
        let gone = self.dependencies.state().expire(volumes::today(), days);
        for whole in gone {
            info!(volume = %whole.name, days, "packages go that were not used for so many days");
            self.remove_dependencies(whole.name.clone());
        }
    }

    /// Removes packages of others, by the rules; never what a container has. `commands`: also all those that commands
    /// installed, which is what this process is an instance of.
    async fn prune(&self, commands: bool) -> Result<PackagePrune, SandboxError> {
        let dependencies = &self.dependencies;
        let origin = &dependencies.origin;
        let idle: HashSet<String> = volumes::unused(&self.engine).await?;
        let (mut ours, mut others, mut report) = (Vec::new(), Vec::new(), PackagePrune::default());
        for stored in volumes::stored(volumes::list(&self.engine).await?) {
            if !idle.contains(&stored.name) || self.ownership.lives(&stored.labels) {
                report.kept += 1;
            } else if stored.is_of(&origin.instance) {
                ours.push(stored);
            } else {
                let fate = origin.fate(&stored.labels);
                others.push((stored, fate));
            }
        }
        let config = &dependencies.config;
        let rule = Rule { today: volumes::today(), days: config.days, budget: config.budget };
        let count = ours.len() + others.len();
        let mut chosen = rule.choose(others);
        if commands {
            chosen.append(&mut ours);
        }
        report.kept += count - chosen.len();
        for stored in chosen {
            self.remove_pruned(stored, &mut report).await;
        }
        Ok(report)
    }

    async fn remove_pruned(&self, stored: Stored, report: &mut PackagePrune) {
        match volumes::remove(&self.engine, &stored.name).await {
            Ok(()) => {
                info!(volume = %stored.name, "removed packages that nobody uses");
                report.removed.push(stored.name);
                report.bytes += stored.bytes;
            }
            Err(error) => {
                warn!(volume = %stored.name, %error, "packages that nobody uses could not be removed");
                report.kept += 1;
            }
        }
    }
}

impl DockerSandbox {
    /// Removes packages that no container uses: those of commands, of data folders that are gone, and of others that were
    /// not used for long. For a command: it takes its own kind's for nobody's.
    ///
    /// # Errors
    /// The Engine does not answer.
    pub async fn remove_unused_packages(&self) -> Result<PackagePrune, SandboxError> {
        self.0.prune(true).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(name: &str, bytes: u64, last_used: i64) -> Stored {
        Stored { name: name.to_owned(), labels: std::collections::HashMap::new(), bytes, last_used }
    }

    fn chosen(rule: Rule, all: &[(&str, u64, i64, Fate)]) -> Vec<String> {
        let all = all.iter().map(|(name, bytes, used, fate)| (stored(name, *bytes, *used), *fate)).collect();
        rule.choose(all).into_iter().map(|stored| stored.name).collect()
    }

    #[test]
    fn what_is_gone_goes_and_the_rest_by_age_and_budget() {
        let rule = Rule { today: 100, days: 30, budget: 25 };
        let all = [
            ("gone-today", 10, 100, Fate::Gone),
            ("here", 1_000, 80, Fate::Here),
            ("here-old", 10, 69, Fate::Here),
            ("elsewhere-old", 10, 69, Fate::Unknown),
            ("elsewhere-oldest-that-counts", 10, 70, Fate::Unknown),
            ("elsewhere", 10, 80, Fate::Unknown),
            ("elsewhere-lately", 10, 99, Fate::Unknown),
        ];
        let expected = ["gone-today", "here-old", "elsewhere-old", "elsewhere-oldest-that-counts"];
        assert_eq!(chosen(rule, &all), expected);
        let rule = Rule { budget: 0, ..rule };
        assert!(chosen(rule, &all).contains(&"elsewhere".to_owned()));
        assert!(!chosen(rule, &all).contains(&"elsewhere-lately".to_owned()), "somebody there uses it");
    }

    #[test]
    fn our_own_go_when_they_were_not_used_for_long_and_nobody_has_them() {
        let mut state = State::default();
        for (name, day) in [("old", 60), ("in-use", 60), ("new", 90)] {
            let whole = Whole { name: name.into(), bytes: 1, used: 0.into(), day: day.into() };
            state.whole.insert(name.into(), Arc::new(whole));
        }
        let in_use = state.take("in-use");
        let gone = state.expire(100, 30);
        assert_eq!(gone.iter().map(|whole| whole.name.as_str()).collect::<Vec<_>>(), ["old"]);
        drop(in_use);
        assert_eq!(state.expire(100, 30).len(), 1);
    }
}
