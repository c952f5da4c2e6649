//! Settings of packages that requests ask for.

use std::collections::BTreeSet;

use clap::builder::BoolishValueParser;

use crate::config::Config;
use crate::execution::intake::{InstallPolicy, Installs};
use crate::limits::{Limits, MIB};
use crate::runtime::Catalogue;
use crate::sandbox::docker::InstallConfig;

/// Packages that requests ask for.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Packages that requests ask for")]
pub struct PackageConfig {
    /// What may be installed: nothing; packages that are built already; or also what runs code of callers and packages
    /// with a network, which are packages that are built here, and `pre_commands`. See docs/dependencies.md.
    // Off: a server that was told nothing opens no connections for its callers.
    #[arg(long, env = "EXECBOX_INSTALLS", value_enum, default_value_t = Installs::Off, value_name = "off|packages|code")]
    pub installs: Installs,

    /// Take packages that are named without a version, or with a range, too. What is installed then depends on the day.
    #[arg(long, env = "EXECBOX_ALLOW_UNPINNED", value_parser = BoolishValueParser::new())]
    pub allow_unpinned: bool,

    /// Where packages come from, by the runtimes' names: `pip=URL`, `npm=URL`, `cargo=URL`, `debian=URL`. Default: each
    /// installer's own registry.
    #[arg(long, env = "EXECBOX_REGISTRY", value_delimiter = ',', value_parser = registry, value_name = "NAME=URL,...")]
    pub registry: Vec<(String, String)>,

    /// Network of the containers that install. `guarded` is one of their own, in which this server passes on connections to
    /// public addresses and to --registry, and no others; it needs the Engine on this machine, and the server outside of
    /// containers. Else `bridge`, or a name the Engine knows.
    #[arg(long, env = "EXECBOX_INSTALL_NETWORK", default_value = "guarded", value_name = "guarded|NAME")]
    pub install_network: String,

    /// Seconds that one install may take, and again its `pre_commands`. They count against no limit of an execution.
    #[arg(long, env = "EXECBOX_INSTALL_TIMEOUT", default_value_t = 600, value_name = "S")]
    pub install_timeout_seconds: u64,

    /// Memory of one install.
    #[arg(long, env = "EXECBOX_INSTALL_MEMORY_MB", default_value_t = 1_024, value_name = "MIB")]
    pub install_memory_mb: u64,

    /// What one install may take on the Engine's disk.
    #[arg(long, env = "EXECBOX_INSTALL_DISK_MB", default_value_t = 2_048, value_name = "MIB")]
    pub install_disk_mb: u64,

    /// What all packages that are kept may take on the Engine's disk: those that were used longest ago go first, and
    /// never those in use.
    #[arg(long, env = "EXECBOX_DEPENDENCIES_MB", default_value_t = 10_240, value_name = "MIB")]
    pub dependencies_mb: u64,

    /// Days without use after which packages go, also those of other data folders on the same Engine. Those of data folders
    /// that are gone go at once.
    #[arg(long, env = "EXECBOX_DEPENDENCIES_DAYS", default_value_t = 30, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub dependencies_days: u16,
}

/// The network that is none of the Engine's.
const GUARDED: &str = "guarded";

/// `NAME=URL`
fn registry(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, url)) if url.starts_with("https://") || url.starts_with("http://") => {
            Ok((name.to_owned(), url.to_owned()))
        }
        _ => Err("it must be like NAME=https://HOST/PATH".to_owned()),
    }
}

impl Config {
    /// What may be installed.
    #[must_use]
    pub fn install_policy(&self) -> InstallPolicy {
        InstallPolicy { installs: self.packages.installs, unpinned: self.packages.allow_unpinned }
    }

    /// Callers' code must find no secret where it runs with a network.
    ///
    /// # Errors
    /// The sentence names the setting that holds one.
    pub fn check_installs(&self) -> Result<(), String> {
        let registries = self.packages.registry.iter().map(|(_, url)| ("--registry", url));
        let proxy = self.build.build_proxy.iter().map(|url| ("--build-proxy", url));
        let has_secret =
            |url: &&String| url.split(['/', '?', '#']).nth(2).is_some_and(|host| host.contains('@'));
        let secret = registries.chain(proxy).find(|(_, url)| has_secret(url));
        match secret.filter(|_| self.packages.installs == Installs::Code) {
            Some((setting, _)) => Err(format!(
                "{setting} has a name or password in it, and --installs code runs callers' code that could read it; \
                 leave it out, or say --installs packages"
            )),
            None => Ok(()),
        }
    }

    /// A registry by a name that no language has would be passed over, and packages come from elsewhere than is meant.
    ///
    /// # Errors
    /// The sentence has the names that there are.
    pub fn check_registries(&self, catalogue: &Catalogue) -> Result<(), String> {
        let installs = catalogue.runtimes().iter().filter_map(|runtime| runtime.install.as_ref());
        let known: BTreeSet<_> = installs.map(|install| install.registry.as_str()).collect();
        match self.packages.registry.iter().find(|(name, _)| !known.contains(name.as_str())) {
            Some((name, _)) => Err(format!(
                "--registry {name}=...: no language has a registry of that name; they are {}",
                Vec::from_iter(known).join(", ")
            )),
            None => Ok(()),
        }
    }

    /// How it is installed.
    #[must_use]
    pub fn installs(&self) -> InstallConfig {
        let packages = &self.packages;
        let timeout_ms = packages.install_timeout_seconds.saturating_mul(1000);
        InstallConfig {
            limits: Limits {
                timeout_ms,
                compile_timeout_ms: timeout_ms,
                memory_bytes: packages.install_memory_mb.saturating_mul(MIB),
                disk_bytes: packages.install_disk_mb.saturating_mul(MIB),
                // Trees of small packages have many files.
                disk_inodes: 4 * self.limits.disk_inodes,
                ..self.limit_policy().default
            },
            network: Some(packages.install_network.clone()).filter(|name| name != GUARDED),
            registries: packages.registry.iter().cloned().collect(),
            budget: packages.dependencies_mb.saturating_mul(MIB),
            days: packages.dependencies_days.into(),
            folder: None,
            kept_as: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_goes_where_callers_code_runs() {
        let with = |installs, url: &str| {
            let mut config = Config::default();
            config.packages.installs = installs;
            config.packages.registry = vec![registry(&format!("pip={url}")).unwrap()];
            config.check_installs()
        };
        let secret = "https://name:password@a.example/simple";
        assert!(with(Installs::Code, secret).unwrap_err().contains("--registry"));
        assert_eq!(with(Installs::Packages, secret), Ok(()));
        assert_eq!(with(Installs::Code, "https://a.example/@scope"), Ok(()));
        assert!(registry("pip=ftp://a.example").is_err() && registry("https://a.example").is_err());
    }
}
