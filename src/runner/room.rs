//! Rooms: how a container of one tenant serves several executions. Each gets namespaces of its own (user, mount, pid,
//! ipc, uts) with empty file systems, a new `/proc`, and a second system call filter that forbids what made the room.
//! When its first process ends the kernel takes everything in it away, and what it can't be seen to have taken ends
//! the container.
//!
//! The container's first process only makes rooms and looks whether they are gone. It never reads what the server
//! sends: that is for the room's first process, which is the runner of one execution. A room is made before its
//! execution comes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;

use caps::CapSet;
use nix::errno::Errno;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::unistd::{Gid, Uid, getgid, getuid};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::runner::emptiness::Emptiness;
use crate::runner::link::LinkError;
use crate::runner::machine_files::{Covers, HostFiles};
use crate::runner::message::{RoomFolder, RoomSpec, Start};
use crate::runner::sys::Ended;
use crate::runner::{TMP, WORKSPACE, sys};

/// Programs in it can't be started, set-user-id or not, and it holds no devices.
pub(super) const DATA: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);
const NO_DATA: Option<&str> = None;

/// A room, as every execution of the container gets one.
pub(super) struct Room {
    spec: RoomSpec,
    filter: BpfProgram,
    host: HostFiles,
}

/// A room, seen from inside, before its program runs.
pub(super) struct Furnished<'a> {
    room: &'a Room,
    covers: Covers,
}

/// Makes one room after the other, until the server goes or something is left of one.
pub(super) fn serve(spec: &OsStr) -> Result<(), LinkError> {
    sys::hide()?;
    let room =
        Room { spec: serde_json::from_slice(spec.as_bytes())?, filter: filter()?, host: HostFiles::read()? };
    let empty = Emptiness::now()?;
    // Inside, they have no name before it is said who they are.
    let (uid, gid) = (getuid(), getgid());
    loop {
        let first = sys::in_namespaces(|| room.enter(uid, gid))?;
        match sys::wait(first)? {
            Ended::Code(0) => empty.again()?,
            Ended::Code(_) => return Err(LinkError::Gone),
            Ended::Signal(signal) => {
                let message = format!("the room's first process was ended by signal {signal}");
                return Err(io::Error::other(message).into());
            }
        }
    }
}

impl Room {
    /// The life of a room's first process: its exit code.
    fn enter(&self, uid: Uid, gid: Gid) -> isize {
        let furnished = self.furnish(uid, gid).map_err(LinkError::from);
        let ended = furnished.and_then(|room| super::serve(Some(&room)));
        match ended {
            Ok(()) => 0,
            Err(error) => {
                // For the server's log; when the server is gone, so is its reader.
                let _ = writeln!(io::stderr(), "runner: {error}");
                1
            }
        }
    }

    fn furnish(&self, uid: Uid, gid: Gid) -> io::Result<Furnished<'_>> {
        become_the_same(uid, gid)?;
        step("the root", mount(NO_DATA, "/", NO_DATA, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NO_DATA))?;
        step("/proc", mount(Some("proc"), "/proc", Some("proc"), DATA, NO_DATA))?;
        // Under the room's own /tmp, so that no program finds the files that cover those of /proc.
        let covers = Covers::mount()?;
        for folder in &self.spec.folders {
            step(&folder.path, empty_folder(folder, uid, gid))?;
        }
        step("/dev/mqueue", present(mount(Some("mqueue"), "/dev/mqueue", Some("mqueue"), DATA, NO_DATA)))?;
        for path in &self.spec.masked {
            step(path, present(mask(path)))?;
        }
        for path in &self.spec.readonly {
            step(path, present(make_readonly(path)))?;
        }
        // What is not needed for the last step goes before anybody waits for it.
        for set in [CapSet::Bounding, CapSet::Ambient, CapSet::Inheritable] {
            caps::clear(None, set).map_err(io::Error::other)?;
        }
        sys::hide()?;
        Ok(Furnished { room: self, covers })
    }
}

impl Furnished<'_> {
    /// Prepares the room for its program: the workspace and /tmp get the size that is asked for, the files about the
    /// machine tell the execution's limits, and the means that made the room go.
    pub(super) fn close(&self, start: &Start) -> io::Result<()> {
        let Room { spec, filter, host } = self.room;
        self.covers.fill(host, start.memory_bytes, start.cpu_millis)?;
        let disk = start.disk;
        let size = format!("size={},nr_inodes={}", disk.bytes, disk.inodes);
        for folder in spec.folders.iter().filter(|folder| [WORKSPACE, TMP].contains(&&*folder.path)) {
            let flags = flags(folder) | MsFlags::MS_REMOUNT;
            step(&folder.path, mount(NO_DATA, folder.path.as_str(), NO_DATA, flags, Some(size.as_str())))?;
        }
        for set in [CapSet::Effective, CapSet::Permitted] {
            caps::clear(None, set).map_err(io::Error::other)?;
        }
        seccompiler::apply_filter(filter).map_err(io::Error::other)
    }
}

/// The same user and group as outside, so that files have the owner they had.
fn become_the_same(uid: Uid, gid: Gid) -> io::Result<()> {
    // Our files in /proc are root's while nobody may look at us. No program runs in this room yet.
    nix::sys::prctl::set_dumpable(true)?;
    for (file, content) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("{uid} {uid} 1")),
        ("gid_map", format!("{gid} {gid} 1")),
    ] {
        std::fs::write(format!("/proc/self/{file}"), content)
            .map_err(|error| io::Error::other(format!("a room could not be made: {file}: {error}")))?;
    }
    Ok(())
}

/// Names what failed: it is read in a log, by somebody whose host refuses it.
pub(super) fn step(what: &str, result: nix::Result<()>) -> io::Result<()> {
    result.map_err(|errno| io::Error::other(format!("a room could not be made: {what}: {errno}")))
}

/// What the container has not needs no cover.
fn present(result: nix::Result<()>) -> nix::Result<()> {
    result.or_else(|errno| if errno == Errno::ENOENT { Ok(()) } else { Err(errno) })
}

fn flags(folder: &RoomFolder) -> MsFlags {
    if folder.exec { MsFlags::MS_NOSUID | MsFlags::MS_NODEV } else { DATA }
}

fn empty_folder(folder: &RoomFolder, uid: Uid, gid: Gid) -> nix::Result<()> {
    let RoomFolder { path, bytes, inodes, mode, .. } = folder;
    let options = format!("size={bytes},nr_inodes={inodes},mode={mode:o},uid={uid},gid={gid}");
    mount(Some("tmpfs"), path.as_str(), Some("tmpfs"), flags(folder), Some(options.as_str()))
}

/// As the OCI runtime does it: files become `/dev/null`, folders empty ones.
fn mask(path: &str) -> nix::Result<()> {
    match mount(Some("/dev/null"), path, NO_DATA, MsFlags::MS_BIND, NO_DATA) {
        Err(Errno::ENOTDIR) => {
            mount(Some("tmpfs"), path, Some("tmpfs"), DATA | MsFlags::MS_RDONLY, Some("nr_inodes=1"))
        }
        other => other,
    }
}

fn make_readonly(path: &str) -> nix::Result<()> {
    cover(path, path)
}

/// Shows a file or folder at another place, where nobody can write to it.
pub(super) fn cover(source: &str, path: &str) -> nix::Result<()> {
    mount(Some(source), path, NO_DATA, MsFlags::MS_BIND | MsFlags::MS_REC, NO_DATA)?;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | DATA;
    mount(NO_DATA, path, NO_DATA, flags, NO_DATA)
}

/// Namespaces, as flags of `clone`.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Forbids what the filter of such a container allows beyond the usual one. Both apply to the program.
fn filter() -> io::Result<BpfProgram> {
    let of_namespace = |flag: &libc::c_int| {
        let flag = u64::from(flag.unsigned_abs());
        let sets = SeccompCmpOp::MaskedEq(flag);
        SeccompRule::new(vec![SeccompCondition::new(0, SeccompCmpArgLen::Qword, sets, flag)?])
    };
    let namespaces: Result<Vec<_>, _> = NAMESPACES.iter().map(of_namespace).collect();
    let always = Vec::new;
    let rules = BTreeMap::from([
        (libc::SYS_mount, always()),
        (libc::SYS_capset, always()),
        (libc::SYS_clone, namespaces.map_err(io::Error::other)?),
    ]);
    let refuse = SeccompAction::Errno(Errno::EPERM as u32);
    let arch = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)
        .and_then(TryInto::try_into)
        .map_err(io::Error::other)
}
