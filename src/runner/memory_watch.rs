//! Holds the program's own memory to its limit: reads the container's counters again and again while a phase runs, and
//! once more when it is over.
//!
//! The program's own memory is anonymous memory, shared memory that is not a file of a file system with a budget of its
//! own (memfd, shared mappings, System V), and page tables. The container's limit, the wall behind, is higher: it has
//! room for those files, and for the runner.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{SysconfVar, sysconf};

use crate::limits::MIB;
use crate::runner::sys;
use crate::runner::usage::{Charges, Counters, PageTables};

/// Shortest time from one reading to the next while the memory does not grow. At 500 MB/s a program grows by 13 MB
/// meanwhile.
const LEAST_PAUSE: Duration = Duration::from_millis(26);
/// The same while it grows.
const LEAST_PAUSE_GROWING: Duration = Duration::from_millis(4);
/// Longest time from one reading to the next.
const MOST_PAUSE: Duration = Duration::from_millis(250);
/// Growth per millisecond at which the limit is reached not before the next reading: as fast as a thread touches pages.
const GROWTH: u64 = 3 * MIB / 2;
/// Less growth than this from one reading to the next is none.
const STEADY: u64 = MIB;
/// As long, what is charged and its peak are enough to know while both stay: all counters together take as much time as
/// waking up for them.
const FRESH: Duration = Duration::from_millis(150);
/// Files, and the kernel's memory for pipes and sockets, that may have come and gone per millisecond between two readings:
/// more than one thread can write and remove.
const TRANSIENT: u64 = 2 * MIB;
/// Pages by which a counter may be wrong for each processor: the kernel adds them up in batches of 64, on two ways.
const LAG_PAGES: u64 = 128;
/// A counter is taken to be no more wrong than this, on however many processors.
const MOST_LAG: u64 = 16 * MIB;

/// The watch over one execution.
pub(super) struct MemoryWatch {
    sources: Option<Sources>,
    ledger: Ledger,
    due: Instant,
    /// The last time that all counters were read.
    read: Instant,
    /// Largest process that had ended when the phase began, in bytes.
    ended_before: u64,
    /// Most that one process had of files in its memory, in bytes.
    mapped: u64,
}

impl MemoryWatch {
    /// For a program that has not started. `limit` is in bytes; `places` are the file systems whose files are not the
    /// program's memory. Those of them that are not in memory cost nothing of it.
    ///
    /// # Errors
    /// A file system can't be asked for its use.
    pub(super) fn new(limit: u64, places: &[&str]) -> io::Result<Self> {
        let now = Instant::now();
        let mut watch = Self {
            sources: Sources::open(places)?,
            ledger: Ledger::new(limit, lag()),
            due: now,
            read: now,
            ended_before: 0,
            mapped: 0,
        };
        watch.begin_phase()?;
        watch.ledger.first = watch.ledger.last;
        Ok(watch)
    }

    /// Takes what happened since the last reading for the runner's doing.
    ///
    /// # Errors
    /// A file system can't be asked for its use.
    pub(super) fn begin_phase(&mut self) -> io::Result<()> {
        self.ledger.last = self.read()?;
        (self.ledger.rise, self.ledger.suspect) = (None, false);
        self.ended_before = sys::largest_child();
        self.due = Instant::now() + self.ledger.pause();
        Ok(())
    }

    /// Until the next reading.
    pub(super) fn pause(&self) -> Duration {
        match self.sources {
            Some(_) => self.due.saturating_duration_since(Instant::now()),
            None => Duration::MAX,
        }
    }

    /// Reads when it is time. True when the program has to be stopped.
    ///
    /// # Errors
    /// A file system can't be asked for its use.
    pub(super) fn look(&mut self) -> io::Result<bool> {
        if !self.pause().is_zero() {
            return Ok(false);
        }
        if !self.is_quiet() {
            return self.end_phase();
        }
        self.due = Instant::now() + self.ledger.pause();
        Ok(false)
    }

    /// Reads now. True when the program has passed its limit, though it may be gone.
    ///
    /// # Errors
    /// A file system can't be asked for its use.
    pub(super) fn end_phase(&mut self) -> io::Result<bool> {
        if let Some(now) = self.read()? {
            self.ledger.take(now);
        }
        if self.ledger.suspect {
            let largest = self.largest_process();
            self.ledger.confirm(largest);
        }
        self.due = Instant::now() + self.ledger.pause();
        Ok(self.ledger.over)
    }

    /// Highest memory of the program that was seen, in bytes.
    pub(super) fn peak(&self) -> Option<u64> {
        self.ledger.told(sys::largest_child())
    }

    /// Whether the container's own peak stands so high that it would not show that another program passes this limit.
    pub(super) fn is_blind(&self) -> bool {
        self.ledger.is_blind()
    }

    /// Whether nothing has come since the last reading, which is not old.
    fn is_quiet(&mut self) -> bool {
        let glance = self.sources.as_ref().and_then(|sources| sources.counters.glance());
        let fresh = self.read.elapsed() < FRESH;
        fresh && glance.is_some_and(|(charged, peak)| self.ledger.is_quiet(charged, peak, Instant::now()))
    }

    fn read(&mut self) -> io::Result<Option<Reading>> {
        self.read = Instant::now();
        let limit = self.ledger.limit;
        self.sources.as_ref().map_or(Ok(None), |sources| sources.read(limit))
    }

    /// The most that any one process of this phase had, files in its memory apart, in bytes.
    fn largest_process(&mut self) -> u64 {
        let mut largest = 0;
        for (most, of_files) in statuses().filter_map(|status| parse_most(&status)) {
            self.mapped = self.mapped.max(of_files);
            largest = largest.max(most.saturating_sub(of_files));
        }
        let ended = sys::largest_child();
        let ended = if ended > self.ended_before { ended.saturating_sub(self.mapped) } else { 0 };
        largest.max(ended)
    }
}

/// How wrong a counter may be, in bytes.
fn lag() -> u64 {
    let processors = sysconf(SysconfVar::_NPROCESSORS_CONF).ok().flatten().unwrap_or(1);
    let processors = u64::try_from(processors).unwrap_or(1);
    (processors * LAG_PAGES * page_bytes()).min(MOST_LAG)
}

fn page_bytes() -> u64 {
    sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(4_096)
}

/// Where readings come from.
struct Sources {
    counters: Counters,
    /// Pages of this process.
    statm: File,
    page_bytes: u64,
    /// File systems in memory.
    places: Vec<OwnedFd>,
    /// What is held when no program runs, beside the runner's own pages and the files: of what made the jail.
    base: u64,
    /// Page tables, or the bound on them, when no program runs.
    base_tables: u64,
}

impl Sources {
    /// None where the container has no counters.
    fn open(places: &[&str]) -> io::Result<Option<Self>> {
        let Some(counters) = Counters::open() else { return Ok(None) };
        let mut in_memory = Vec::new();
        for place in places {
            let place = open(*place, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
            if fstatfs(&place)?.filesystem_type() == TMPFS_MAGIC {
                in_memory.push(place);
            }
        }
        let mut sources = Self {
            counters,
            statm: File::open("/proc/self/statm")?,
            page_bytes: page_bytes(),
            places: in_memory,
            base: 0,
            base_tables: 0,
        };
        let Some((charges, files)) = sources.charges_and_files()? else { return Ok(None) };
        sources.base = charges.held.saturating_sub(files).saturating_sub(sources.runner());
        sources.base_tables = match charges.page_tables {
            PageTables::Exactly(bytes) | PageTables::AtMost(bytes) => bytes,
        };
        Ok(Some(sources))
    }

    fn read(&self, limit: u64) -> io::Result<Option<Reading>> {
        let Some((charges, files)) = self.charges_and_files()? else { return Ok(None) };
        let not_the_programs = files + self.base + self.runner();
        let pages = charges.held.saturating_sub(not_the_programs);
        let tables = match charges.page_tables {
            PageTables::Exactly(bytes) => bytes.saturating_sub(self.base_tables),
            // Asking each process takes longer than all the rest.
            PageTables::AtMost(bytes) if pages + bytes.saturating_sub(self.base_tables) > limit => {
                statuses().filter_map(|status| kib(&status, "VmPTE:")).sum()
            }
            PageTables::AtMost(_) => 0,
        };
        Ok(Some(Reading {
            at: Instant::now(),
            charged: charges.charged,
            peak: charges.peak,
            own: pages + tables,
            files,
        }))
    }

    /// The files are counted before and after, and the higher count is taken: one that goes meanwhile is not the program's.
    fn charges_and_files(&self) -> io::Result<Option<(Charges, u64)>> {
        let before = self.files()?;
        let Some(charges) = self.counters.read() else { return Ok(None) };
        let after = self.files()?;
        Ok(Some((charges, before.max(after))))
    }

    /// Bytes in the file systems in memory.
    fn files(&self) -> io::Result<u64> {
        let mut all = 0;
        for place in &self.places {
            let place = fstatvfs(place)?;
            let blocks = place.blocks().saturating_sub(place.blocks_free());
            all += blocks.saturating_mul(place.fragment_size());
        }
        Ok(all)
    }

    /// Pages of this process that are not of a file, in bytes.
    fn runner(&self) -> u64 {
        let mut buffer = [0; 128];
        let count = self.statm.read_at(&mut buffer, 0).unwrap_or(0);
        let text = String::from_utf8_lossy(&buffer[..count]);
        let mut pages = text.split(' ').skip(1).filter_map(|pages| pages.parse::<u64>().ok());
        let (resident, of_files) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
        resident.saturating_sub(of_files) * self.page_bytes
    }
}

/// The kernel's words on each process but this one. Those that end meanwhile are left out.
fn statuses() -> impl Iterator<Item = String> {
    let names = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let others = names.filter(|name| name != "1" && name.bytes().all(|byte| byte.is_ascii_digit()));
    others.filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")).ok())
}

/// The most memory that a process had, and what it has of files, in bytes.
fn parse_most(status: &str) -> Option<(u64, u64)> {
    Some((kib(status, "VmHWM:")?, kib(status, "RssFile:")? + kib(status, "RssShmem:")?))
}

/// A size in KiB, in bytes.
fn kib(status: &str, field: &str) -> Option<u64> {
    let size = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(size.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

/// One reading of the container, in bytes.
#[derive(Debug, Clone, Copy)]
struct Reading {
    at: Instant,
    /// Everything in the container.
    charged: u64,
    /// Highest `charged` so far, where the kernel tells.
    peak: Option<u64>,
    /// The program's own memory.
    own: u64,
    /// Files in memory.
    files: u64,
}

impl Reading {
    /// What is not the program's own.
    fn others(&self) -> u64 {
        self.charged.saturating_sub(self.own)
    }
}

/// What the readings say, without a clock or a kernel.
struct Ledger {
    limit: u64,
    lag: u64,
    first: Option<Reading>,
    last: Option<Reading>,
    /// Highest own memory that was read, or follows from a peak between two readings.
    peak: u64,
    /// The last reading found more than the one before.
    grows: bool,
    /// The reading before the kernel's peak rose. The one after is not enough to judge by: pages on their way out are
    /// charged still, and nobody's any more.
    rise: Option<Reading>,
    /// A peak between two readings was over the limit, if it was the program's.
    suspect: bool,
    /// The limit was passed.
    over: bool,
}

impl Ledger {
    fn new(limit: u64, lag: u64) -> Self {
        Self {
            limit,
            lag,
            first: None,
            last: None,
            peak: 0,
            grows: false,
            rise: None,
            suspect: false,
            over: false,
        }
    }

    fn is_over(&self, own: u64) -> bool {
        own > self.limit.saturating_add(self.lag)
    }

    fn take(&mut self, now: Reading) {
        self.peak = self.peak.max(now.own);
        self.over |= self.is_over(now.own);
        if let Some(last) = self.last.replace(now) {
            let rose = now.peak > last.peak;
            self.grows = rose || now.own > last.own.saturating_add(STEADY);
            let since = if rose { Some(last) } else { self.rise.take() };
            if let Some(before) = since {
                self.between(&before, &now);
            }
            self.rise = since.filter(|_| rose);
        }
    }

    /// A peak that no reading met is the program's as far as it is more than all the rest was at either end, and for
    /// certain as far as it is more than what could have come and gone meanwhile in files and in the kernel.
    fn between(&mut self, last: &Reading, now: &Reading) {
        let Some(peak) = now.peak.filter(|peak| last.peak.is_some_and(|before| *peak > before)) else {
            return;
        };
        let own = peak.saturating_sub(last.others().max(now.others()));
        let millis = u64::try_from(now.at.duration_since(last.at).as_millis()).unwrap_or(u64::MAX);
        let transient = millis.saturating_add(1).saturating_mul(TRANSIENT);
        self.suspect |= self.is_over(own);
        self.over |= self.is_over(own.saturating_sub(transient));
        self.peak = self.peak.max(own);
    }

    /// The suspicion is right when one process was as large.
    fn confirm(&mut self, largest_process: u64) {
        self.over |= self.suspect && self.is_over(largest_process);
    }

    /// Whether no more is charged than at the last reading, and was not meanwhile, either. Then that reading holds, unless
    /// memory took the place of files: only as long as all together are within the limit, the program is.
    fn is_quiet(&mut self, charged: u64, peak: Option<u64>, now: Instant) -> bool {
        let Some(last) = &mut self.last else { return false };
        let quiet = charged <= self.limit
            && self.rise.is_none()
            && peak.is_some()
            && peak == last.peak
            && charged <= last.charged.saturating_add(STEADY);
        if quiet {
            last.at = now;
            self.grows = false;
        }
        quiet
    }

    /// Until the limit could be reached.
    fn pause(&self) -> Duration {
        let own = self.last.map_or(0, |last| last.own);
        let millis = self.limit.saturating_sub(own) / GROWTH;
        let least = if self.grows { LEAST_PAUSE_GROWING } else { LEAST_PAUSE };
        Duration::from_millis(millis).clamp(least, MOST_PAUSE)
    }

    /// The peak; within the limit unless that was passed. Where an earlier program's hides it, the largest process that
    /// has ended says more than the readings do.
    fn told(&self, largest_process: u64) -> Option<u64> {
        let (first, last) = self.first.zip(self.last)?;
        let hidden = match last.peak {
            Some(peak) if first.peak == last.peak => largest_process.min(peak.saturating_sub(last.others())),
            _ => 0,
        };
        Some(if self.over { self.peak } else { self.peak.max(hidden).min(self.limit) })
    }

    fn is_blind(&self) -> bool {
        let Some(last) = self.last else { return false };
        let stays = last.others().saturating_sub(last.files);
        last.peak.is_some_and(|peak| peak.saturating_sub(stays) > self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 64 * MIB;

    /// After so many milliseconds: own memory, files, and the kernel's peak, in MiB.
    fn reading(began: Instant, millis: u64, own: u64, files: u64, peak: u64) -> Reading {
        Reading {
            at: began + Duration::from_millis(millis),
            charged: (own + files) * MIB,
            peak: Some(peak * MIB),
            own: own * MIB,
            files: files * MIB,
        }
    }

    /// After these readings, the first before the program's start.
    fn ledger(readings: &[(u64, u64, u64, u64)]) -> Ledger {
        let began = Instant::now();
        let mut ledger = Ledger::new(LIMIT, MIB);
        let mut readings =
            readings.iter().map(|&(at, own, files, peak)| reading(began, at, own, files, peak));
        ledger.first = readings.next();
        ledger.last = ledger.first;
        readings.for_each(|reading| ledger.take(reading));
        ledger
    }

    #[test]
    fn a_program_is_over_when_a_reading_says_so_and_stays_it() {
        for (own, over) in [(64, false), (65, false), (66, true)] {
            let ledger = ledger(&[(0, 0, 0, 5), (20, own, 0, own), (40, 1, 0, own)]);
            assert_eq!(ledger.over, over, "{own} MiB");
            assert_eq!(ledger.told(0), Some(if over { own } else { 64 } * MIB), "{own} MiB");
        }
    }

    #[test]
    fn a_peak_between_two_readings_is_the_programs_as_far_as_it_can_be_nothing_else() {
        for (why, readings, over) in [
            ("it is far over", [(0, 5, 0, 5), (10, 5, 0, 105)], true),
            // 2 MiB for each of 11 ms, and 1 MiB of lag.
            ("what files could have been is not enough", [(0, 5, 0, 5), (10, 5, 0, 88)], true),
            ("it may have been files", [(0, 5, 0, 5), (10, 5, 0, 87)], false),
            ("it may have been files for longer", [(0, 5, 0, 5), (50, 5, 0, 150)], false),
            ("the files are there", [(0, 5, 0, 5), (10, 5, 90, 105)], false),
            ("the files were there", [(0, 5, 90, 95), (10, 5, 0, 105)], false),
            ("the peak is an earlier one", [(0, 5, 0, 900), (10, 5, 0, 900)], false),
        ] {
            assert_eq!(ledger(&readings).over, over, "{why}");
        }
    }

    #[test]
    fn pages_on_their_way_out_hide_no_peak() {
        let mut ledger = ledger(&[(0, 60, 0, 60)]);
        let began = ledger.last.unwrap().at;
        // Charged still, and read as the program's no more.
        ledger.take(Reading { charged: 70 * MIB, ..reading(began, 4, 5, 0, 80) });
        assert!(!ledger.suspect);
        assert!(!ledger.is_quiet(70 * MIB, Some(80 * MIB), began), "it is looked at again");
        ledger.take(reading(began, 8, 5, 0, 80));
        assert!(ledger.suspect);
    }

    #[test]
    fn a_process_as_large_as_a_doubtful_peak_says_whose_it_was() {
        for (readings, process, over) in [
            ([(0, 5, 0, 5), (10, 5, 0, 75)], 70, true),
            ([(0, 5, 0, 5), (10, 5, 0, 75)], 65, false),
            // Its files are in its memory, and were there all the time.
            ([(0, 5, 20, 25), (10, 5, 20, 75)], 90, false),
        ] {
            let mut ledger = ledger(&readings);
            assert!(!ledger.over);
            ledger.confirm(process * MIB);
            assert_eq!(ledger.over, over, "{readings:?}, {process} MiB");
        }
    }

    #[test]
    fn a_reading_holds_as_long_as_nothing_is_charged() {
        let mut of_files = ledger(&[(0, 20, 50, 70), (10, 20, 50, 70)]);
        let mut ledger = ledger(&[(0, 5, 0, 9), (10, 8, 0, 9)]);
        assert!(ledger.grows);
        let later = Instant::now() + Duration::from_secs(1);
        assert!(!ledger.is_quiet(8 * MIB, Some(10 * MIB), later), "a peak");
        assert!(!ledger.is_quiet(10 * MIB, Some(9 * MIB), later), "growth");
        assert!(!ledger.is_quiet(8 * MIB, None, later), "nothing is known of peaks");
        assert!(!of_files.is_quiet(70 * MIB, Some(70 * MIB), later), "files may have gone");
        assert!(ledger.is_quiet(9 * MIB, Some(9 * MIB), later) && !ledger.grows);
        assert_eq!(ledger.last.unwrap().at, later);
    }

    #[test]
    fn readings_come_as_often_as_the_limit_is_near_and_the_memory_grows() {
        let pause = |readings: &[_]| ledger(readings).pause().as_millis();
        assert_eq!(pause(&[(0, 0, 0, 5)]), 42);
        assert_eq!(pause(&[(0, 60, 0, 70), (20, 60, 0, 70)]), 26);
        assert_eq!(pause(&[(0, 50, 0, 70), (20, 60, 0, 70)]), 4);
        assert_eq!(pause(&[(0, 60, 0, 70), (20, 60, 0, 75)]), 4);
        assert_eq!(Ledger::new(4_096 * MIB, 0).pause(), MOST_PAUSE);
    }

    #[test]
    fn what_an_earlier_peak_hides_is_told_by_the_largest_process() {
        let told = |readings: &[_], process: u64| ledger(readings).told(process * MIB).map(|peak| peak / MIB);
        assert_eq!(told(&[(0, 0, 5, 50), (10, 2, 5, 50)], 20), Some(20));
        assert_eq!(told(&[(0, 0, 5, 50), (10, 2, 5, 50)], 90), Some(45));
        assert_eq!(told(&[(0, 0, 5, 500), (10, 2, 5, 500)], 90), Some(64));
        assert_eq!(told(&[(0, 0, 5, 15), (10, 2, 5, 50)], 90), Some(45), "it is its own");
        assert_eq!(Ledger::new(LIMIT, 0).told(9), None);
    }

    #[test]
    fn a_container_is_blind_when_its_peak_would_hide_the_limit() {
        assert!(!ledger(&[(0, 0, 0, 50)]).is_blind());
        assert!(ledger(&[(0, 0, 0, 65)]).is_blind());
        assert!(ledger(&[(0, 0, 90, 90)]).is_blind(), "files go");
    }

    #[test]
    fn sizes_are_found_in_a_status() {
        let status = "Name:\tx\nVmHWM:\t     900 kB\nRssFile:\t     30 kB\nRssShmem:\t     4 kB\nVmPTE:\t      44 kB\n";
        assert_eq!((kib(status, "VmPTE:"), parse_most(status)), (Some(45_056), Some((921_600, 34_816))));
        assert_eq!((kib("Name:\tkthreadd\n", "VmPTE:"), parse_most("Name:\tkthreadd\n")), (None, None));
    }
}
