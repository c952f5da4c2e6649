//! Whose a container is: labels by which a server finds what an earlier one left, and leaves alone what a living one
//! owns.

use std::collections::HashMap;
use std::path::Path;

use tracing::{info, warn};

use crate::sandbox::SandboxError;
use crate::sandbox::docker::engine::Engine;
use crate::sandbox::docker::workspace_volume;

/// Every container and volume of ours carries it.
pub(super) const APP: &str = "execbox.app";
const INSTANCE: &str = "execbox.instance";
const OWNER: &str = "execbox.owner";

/// This process, as the owner of containers.
#[derive(Debug, Clone)]
pub(super) struct Ownership {
    /// The data folder's name for itself: a later server on the same folder inherits what is left.
    instance: String,
    /// Host, process id and the process's start: tells whether the owner still lives.
    owner: String,
}

impl Ownership {
    pub(super) fn of_this_process(instance: String) -> Self {
        let pid = std::process::id();
        Self { instance, owner: format!("{}/{pid}/{}", host(), started(pid).unwrap_or_default()) }
    }

    /// Labels of a container.
    pub(super) fn labels(&self) -> HashMap<String, String> {
        HashMap::from([
            (APP.to_owned(), "1".to_owned()),
            (INSTANCE.to_owned(), self.instance.clone()),
            (OWNER.to_owned(), self.owner.clone()),
        ])
    }

    /// Label of what outlives this process where it is whole.
    pub(super) fn owner_label(&self) -> HashMap<String, String> {
        HashMap::from([(OWNER.to_owned(), self.owner.clone())])
    }

    /// Left by an earlier server on our data folder, or by any process of this host that is gone.
    pub(super) fn is_orphan(&self, labels: &HashMap<String, String>) -> bool {
        let label = |name: &str| labels.get(name).map_or("", String::as_str);
        if label(OWNER) == self.owner {
            return false;
        }
        label(INSTANCE) == self.instance || owner_is_gone(label(OWNER), &host(), started)
    }

    /// Whether the process that made something is known to live. Only one on this host is.
    pub(super) fn lives(&self, labels: &HashMap<String, String>) -> bool {
        let owner = labels.get(OWNER).map_or("", String::as_str);
        owner.starts_with(&format!("{}/", host())) && !owner_is_gone(owner, &host(), started)
    }

    /// Removes what is left of earlier servers.
    pub(super) async fn remove_orphans(&self, engine: &Engine) -> Result<(), SandboxError> {
        let all = engine.list(APP).await?;
        let orphans =
            all.iter().filter(|container| container.labels.as_ref().is_some_and(|l| self.is_orphan(l)));
        let ids: Vec<_> = orphans.filter_map(|container| container.id.clone()).collect();
        if !ids.is_empty() {
            info!(count = ids.len(), "removing containers of an earlier server");
        }
        let removals = ids.iter().map(|id| engine.remove(id));
        for error in futures::future::join_all(removals).await.into_iter().filter_map(Result::err) {
            warn!(%error, "a container of an earlier server could not be removed");
        }
        Ok(workspace_volume::remove_orphans(engine, |labels| self.is_orphan(labels)).await?)
    }
}

/// Only an owner on this host can be known to be gone.
fn owner_is_gone(owner: &str, host: &str, started: impl Fn(u32) -> Option<String>) -> bool {
    let mut parts = owner.split('/');
    let (Some(owner_host), Some(pid), Some(start)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let Ok(pid) = pid.parse() else { return false };
    owner_host == host && started(pid).as_deref() != Some(start)
}

/// Names this boot of this host, and our own process namespace in it.
fn host() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let digits: String = namespace.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    format!("{}-{digits}", boot.trim())
}

/// When a process started, in the kernel's ticks: the 22nd field, the 20th after the name, which may hold anything.
fn started(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_owner_keeps_its_containers_and_a_gone_one_does_not() {
        let ours = Ownership::of_this_process("a".into());
        let other = Ownership { instance: "b".into(), owner: ours.owner.clone() + "0" };
        assert!(!ours.is_orphan(&ours.labels()), "our own");
        assert!(
            ours.is_orphan(&Ownership { instance: "a".into(), ..other.clone() }.labels()),
            "our folder's"
        );
        assert!(ours.is_orphan(&other.labels()), "this pid with another start is gone");
        let living =
            Ownership { instance: "b".into(), owner: Ownership::of_this_process(String::new()).owner };
        assert!(!ours.is_orphan(&living.labels()));
        assert!(ours.lives(&living.labels()) && !ours.lives(&other.labels()));
        let far = HashMap::from([(OWNER.to_owned(), "far/1/7".to_owned())]);
        assert!(!ours.lives(&far) && !ours.lives(&HashMap::new()), "nobody knows");
    }

    #[test]
    fn another_hosts_owner_is_never_known_to_be_gone() {
        let alive = |_| Some("7".to_owned());
        assert!(!owner_is_gone("far/1/7", "here", |_| None));
        assert!(!owner_is_gone("here/1/7", "here", alive));
        assert!(owner_is_gone("here/1/8", "here", alive));
        assert!(owner_is_gone("here/1/7", "here", |_| None));
        for odd in ["", "here", "here/x/7", "here/1"] {
            assert!(!owner_is_gone(odd, "here", |_| None), "{odd}");
        }
    }
}
