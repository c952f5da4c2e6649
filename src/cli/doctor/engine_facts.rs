//! What the Engine says of itself, judged.

use super::finding::Finding;
use crate::sandbox::docker::EngineFacts;

pub(super) fn findings(facts: &EngineFacts) -> Vec<Finding> {
    let mut findings = vec![
        engine(facts),
        Finding::ok("api", format!("version {}", facts.api_version)),
        oci_runtime(facts),
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
    match facts.against_engine() {
        Some(said) => Finding::warn("engine", what, said),
        None => Finding::ok("engine", what),
    }
}

fn oci_runtime(facts: &EngineFacts) -> Finding {
    let what = format!("runc {}", facts.oci_runtime_version);
    match facts.against_oci_runtime() {
        Some(said) => Finding::warn("runtime", what, said),
        None => Finding::ok("runtime", what),
    }
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
    fn versions_with_known_holes_are_warned_of_by_name() {
        let old =
            EngineFacts { version: "29.4.3".into(), oci_runtime_version: "1.1.5+ds1".into(), ..facts() };
        for (finding, hole) in [(engine(&old), "CVE-2026-41567"), (oci_runtime(&old), "CVE-2024-21626")] {
            assert_eq!(finding.level, Level::Warn);
            assert!(finding.to_string().contains(hole), "{finding}");
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
