//! What the Engine says of itself, judged.

use super::finding::Finding;
use crate::sandbox::docker::EngineFacts;

pub(super) fn findings(facts: &EngineFacts) -> Vec<Finding> {
    let mut findings = vec![
        engine(facts),
        Finding::ok("api", format!("version {}", facts.api_version)),
        oci_runtime(&facts.oci_runtime_version),
        seccomp(facts),
        limits(facts),
        Finding::ok("kernel", format!("{}, storage driver {}", facts.kernel, facts.storage_driver)),
    ];
    findings.push(match facts.cgroup_version {
        2 => Finding::ok("cgroups", "version 2"),
        version => Finding::warn(
            "cgroups",
            format!("version {version}"),
            "works; version 2 tells more of a program that ran out of memory (systemd.unified_cgroup_hierarchy=1)",
        ),
    });
    findings
}

fn engine(facts: &EngineFacts) -> Finding {
    let what = format!("Docker {} at {}", facts.version, facts.address);
    match version(&facts.version) {
        Some(version) if version < (29, 4, 3) || ((29, 5, 0)..(29, 5, 1)).contains(&version) => {
            Finding::warn(
                "engine",
                what,
                "has known holes unless the distribution mended them: update to 29.4.3 or 29.5.1 (see SECURITY.md)",
            )
        }
        _ => Finding::ok("engine", what),
    }
}

/// The releases that mended a way out of the container, and what came before them.
fn oci_runtime(text: &str) -> Finding {
    let Some(version) = version(text) else {
        return Finding::warn("runtime", format!("{text}: unknown version"), "check that it is up to date");
    };
    let holes = if version < (1, 1, 12) {
        "CVE-2024-21626 (1.1.12) and CVE-2025-31133, -52565, -52881 (1.2.8, 1.3.3)"
    } else if version < (1, 2, 8) || ((1, 3, 0)..(1, 3, 3)).contains(&version) {
        "CVE-2025-31133, -52565, -52881 (1.2.8, 1.3.3)"
    } else {
        return Finding::ok("runtime", format!("runc {text}"));
    };
    let mend = format!("update it, or check that the distribution mended {holes} under its own number");
    Finding::warn("runtime", format!("runc {text}"), mend)
}

fn seccomp(facts: &EngineFacts) -> Finding {
    if facts.seccomp {
        return Finding::ok("seccomp", "on");
    }
    Finding::fail(
        "seccomp",
        "off",
        "use a kernel and an Engine that are built with seccomp; execbox does not run without",
    )
}

fn limits(facts: &EngineFacts) -> Finding {
    if facts.missing_limits.is_empty() {
        return Finding::ok("limits", "memory, swap, pids and cpu are held");
    }
    let mend = "mount the cgroup controllers; on Debian boot with cgroup_enable=memory swapaccount=1";
    Finding::fail("limits", format!("not held: {}", facts.missing_limits.join(", ")), mend)
}

/// The first three numbers of a text like `runc version 1.1.5+ds1`.
fn version(text: &str) -> Option<(u64, u64, u64)> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let digits = text[start..].split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
    let mut numbers = digits.split('.').map_while(|number| number.parse().ok());
    Some((numbers.next()?, numbers.next()?, numbers.next().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn facts() -> EngineFacts {
        EngineFacts {
            address: "unix:///run/docker.sock".into(),
            version: "29.5.1".into(),
            api_version: "1.52".into(),
            cgroup_version: 2,
            seccomp: true,
            missing_limits: Vec::new(),
            oci_runtimes: vec!["runc".into()],
            oci_runtime_version: "1.3.3".into(),
            kernel: "6.12.0".into(),
            storage_driver: "overlay2".into(),
            root_dir: "/var/lib/docker".into(),
        }
    }

    #[test]
    fn versions_with_known_holes_are_warned_of() {
        for (text, level) in [
            ("1.1.5+ds1", Level::Warn),
            ("runc version 1.1.12", Level::Warn),
            ("1.2.7", Level::Warn),
            ("1.2.8", Level::Ok),
            ("1.3.2", Level::Warn),
            ("1.3.3", Level::Ok),
            ("1.4.0-rc.3", Level::Ok),
            ("", Level::Warn),
        ] {
            assert_eq!(oci_runtime(text).level, level, "{text}");
        }
        for (version, level) in [
            ("20.10.24+dfsg1", Level::Warn),
            ("29.4.3", Level::Ok),
            ("29.5.0", Level::Warn),
            ("29.5.1", Level::Ok),
        ] {
            assert_eq!(engine(&EngineFacts { version: version.into(), ..facts() }).level, level, "{version}");
        }
    }

    #[test]
    fn a_limit_that_is_not_held_is_named_and_fails() {
        assert!(findings(&facts()).iter().all(|finding| finding.level == Level::Ok));
        let finding = limits(&EngineFacts { missing_limits: vec!["swap".into()], ..facts() });
        assert_eq!(finding.level, Level::Fail);
        assert!(
            finding.to_string().starts_with("FAIL  limits     not held: swap\n                 -> "),
            "{finding}"
        );
        assert_eq!(seccomp(&EngineFacts { seccomp: false, ..facts() }).level, Level::Fail);
    }
}
