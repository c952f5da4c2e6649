//! Packages that a request asks for: checked, and put into the one form in which they are installed.

use std::collections::BTreeMap;

use crate::execution::intake::{AcceptError, IntakeError, cargo_lock, npm_lock, r_description, requirements};
use crate::execution::spec::{Dependencies, ExecutionSpec};
use crate::runtime::{Check, Install, Runtime, shown};

/// Bytes of one file that says what to install.
const MAX_FILE: usize = 4 << 20;
/// Lines of shell that run before the installer.
const MAX_COMMANDS: usize = 100;
/// Bytes of all of them.
const MAX_COMMAND_BYTES: usize = 64 << 10;

/// What may be installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Installs {
    /// Nothing.
    #[default]
    Off,
    /// Packages that are built already: only the installer itself runs with a network.
    Packages,
    /// The same, packages that run code of their own while they are installed, and `pre_commands`: callers' code runs with
    /// a network.
    Code,
}

/// The operator's rules.
#[derive(Clone, Copy, Debug, Default)]
pub struct InstallPolicy {
    /// What may be installed.
    pub installs: Installs,
    /// Packages need not be named with one version.
    pub unpinned: bool,
}

/// What a request asks for. Nothing in it is checked yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestedDependencies {
    /// Content of the runtime's first file.
    pub requirements_txt: Option<String>,
    /// Content by file name.
    pub files: BTreeMap<String, String>,
    /// Those of the files that are in the project.
    pub install: bool,
    /// Lines of shell.
    pub pre_commands: Vec<String>,
}

impl RequestedDependencies {
    /// The first field that asks for something.
    fn field(&self) -> Option<&'static str> {
        let asked = [
            ("requirements_txt", self.requirements_txt.is_some()),
            ("dependencies", !self.files.is_empty()),
            ("install", self.install),
            ("pre_commands", !self.pre_commands.is_empty()),
        ];
        asked.into_iter().find(|(_, asked)| *asked).map(|(field, _)| field)
    }
}

fn refuse<T>(message: impl Into<String>) -> Result<T, IntakeError> {
    Err(IntakeError::new("bad_dependencies", message))
}

/// Adds to a spec what its request asks for. Reads the project where that is to say what.
///
/// # Errors
/// The first rule that it breaks; or the project's file can't be read.
pub fn add_dependencies(
    mut spec: ExecutionSpec,
    mut requested: RequestedDependencies,
    policy: InstallPolicy,
) -> Result<ExecutionSpec, AcceptError> {
    let Some(field) = requested.field() else { return Ok(spec) };
    allowed(field, &requested, policy.installs)?;
    commands(&requested.pre_commands)?;
    let pre_commands = std::mem::take(&mut requested.pre_commands);
    let files = match requested.field() {
        Some(field) => {
            let install = installer(&spec.runtime, field)?;
            let given = gather(&spec, requested, install)?;
            check(install, field, given, policy)?
        }
        None => BTreeMap::new(),
    };
    if files.values().all(String::is_empty) && pre_commands.is_empty() {
        return Ok(spec);
    }
    let code = policy.installs == Installs::Code;
    spec.dependencies = Some(Dependencies { files, pre_commands, code });
    give_environment(&mut spec);
    Ok(spec)
}

fn allowed(field: &str, requested: &RequestedDependencies, installs: Installs) -> Result<(), IntakeError> {
    let why = match installs {
        Installs::Off if !requested.pre_commands.is_empty() => {
            "pre_commands: this server installs nothing and runs no commands with a network; its operator can allow it with \
             --installs code"
                .to_owned()
        }
        Installs::Off => format!("{field}: this server installs nothing; its operator can allow it with --installs packages"),
        Installs::Packages if !requested.pre_commands.is_empty() => {
            "pre_commands: this server installs packages, and runs no commands with a network; its operator can allow it \
             with --installs code"
                .to_owned()
        }
        Installs::Packages | Installs::Code => return Ok(()),
    };
    Err(IntakeError::new("not_supported", why))
}

fn commands(commands: &[String]) -> Result<(), IntakeError> {
    if commands.len() > MAX_COMMANDS || commands.iter().map(String::len).sum::<usize>() > MAX_COMMAND_BYTES {
        return refuse(format!(
            "pre_commands: at most {MAX_COMMANDS} commands of {MAX_COMMAND_BYTES} bytes in all are taken"
        ));
    }
    match commands.iter().position(|command| command.contains('\0')) {
        Some(at) => refuse(format!("pre_commands[{at}] holds a NUL, which no command can")),
        None => Ok(()),
    }
}

fn installer<'a>(runtime: &'a Runtime, field: &str) -> Result<&'a Install, IntakeError> {
    match runtime.install.as_deref() {
        Some(install) if field != "requirements_txt" || install.check == Check::Requirements => Ok(install),
        Some(install) => refuse(format!(
            "{field}: {} takes no such file; give {} in `dependencies`",
            runtime.name,
            install.files.join(" and ")
        )),
        None => refuse(format!("{field}: this server can't install packages for {}", runtime.name)),
    }
}

/// The installer's files, from the one place that the request says.
fn gather(
    spec: &ExecutionSpec,
    requested: RequestedDependencies,
    install: &Install,
) -> Result<BTreeMap<String, String>, AcceptError> {
    let RequestedDependencies { requirements_txt, mut files, install: from_project, .. } = requested;
    if let Some(text) = requirements_txt
        && let Some(name) = install.files.first()
        && files.insert(name.clone(), text).is_some()
    {
        refuse("requirements_txt: `dependencies` has the same file; leave one of them out")?;
    }
    if let Some(other) = files.keys().find(|name| !install.files.contains(name)) {
        refuse(format!(
            "dependencies: {} takes {}, not `{}`",
            spec.runtime.name,
            install.files.join(" and "),
            shown(other)
        ))?;
    }
    for name in install.files.iter().filter(|_| from_project) {
        if !files.contains_key(name) {
            files.insert(name.clone(), in_project(spec, name)?);
        }
    }
    match install.files.iter().find(|name| !files.contains_key(*name)) {
        Some(missing) => Ok(refuse(format!("dependencies: {missing} is missing; give it, too"))?),
        None => Ok(files),
    }
}

fn in_project(spec: &ExecutionSpec, name: &str) -> Result<String, AcceptError> {
    let found = spec.project.contents(&[name], MAX_FILE)?.remove(name);
    Ok(match found.map(String::from_utf8) {
        Some(Ok(text)) => text,
        Some(Err(_)) => refuse(format!("install: {name} of the project is no UTF-8"))?,
        None => refuse(format!("install: the project has no {name} of at most {MAX_FILE} bytes at its top"))?,
    })
}

fn check(
    install: &Install,
    field: &str,
    given: BTreeMap<String, String>,
    policy: InstallPolicy,
) -> Result<BTreeMap<String, String>, IntakeError> {
    match install.check {
        Check::Requirements => {
            let canonical = |(name, text): (String, String)| {
                let text = requirements::canonical(&text, policy.unpinned);
                let place =
                    if field == "requirements_txt" { field.to_owned() } else { format!("{field}: {name}") };
                Ok((name, text.or_else(|fault| refuse(format!("{place}: {fault}")))?))
            };
            given.into_iter().map(canonical).collect()
        }
        Check::CargoLock => {
            cargo_lock::canonical(install, given).or_else(|fault| refuse(format!("{field}: {fault}")))
        }
        Check::NpmLock => {
            npm_lock::canonical(install, given).or_else(|fault| refuse(format!("{field}: {fault}")))
        }
        Check::RDescription => {
            let canonical = |(name, text): (String, String)| {
                let text = r_description::canonical(&text);
                let text = text.or_else(|fault| refuse(format!("{field}: {name}: {fault}")))?;
                Ok((name, text))
            };
            given.into_iter().map(canonical).collect()
        }
    }
}

/// What programs find packages by. A variable of the caller's wins.
fn give_environment(spec: &mut ExecutionSpec) {
    let Some(install) =
        spec.runtime.install.as_ref().filter(|_| {
            spec.dependencies.as_ref().is_some_and(|dependencies| !dependencies.files.is_empty())
        })
    else {
        return;
    };
    let mut env: BTreeMap<_, _> = std::mem::take(&mut spec.command.env).into_iter().collect();
    for (name, value) in &install.programs {
        if env.get(name) == spec.runtime.env.get(name) {
            env.insert(name.clone(), value.clone());
        }
    }
    spec.command.env = env.into_iter().collect();
}
