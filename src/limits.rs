//! What one execution may use, and the check of what a caller asks for against the server's ceilings.

use serde::{Deserialize, Serialize};

/// Bytes in a mebibyte, the unit of the `*_mb` request fields.
pub const MIB: u64 = 1 << 20;
/// Bytes in a kibibyte, the unit of the `*_kb` request fields.
pub const KIB: u64 = 1 << 10;

/// The limits of one execution. If it exists, it is within the server's ceilings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Wall time of the run phase, in milliseconds.
    pub timeout_ms: u64,
    /// Wall time of the compile phase, in milliseconds.
    pub compile_timeout_ms: u64,
    /// Memory of the program with everything it starts, in bytes. Files in the workspace have their own budget.
    pub memory_bytes: u64,
    /// Size of the workspace, and of the largest file in it, in bytes.
    pub disk_bytes: u64,
    /// Files and folders in the workspace.
    pub disk_inodes: u64,
    /// Processors, in thousandths of one.
    pub cpu_millis: u64,
    /// Processes and threads together.
    pub pids: u64,
    /// What is kept of stdout, and again of stderr, in bytes.
    pub output_bytes: u64,
    /// Sum of the artifacts' sizes, in bytes.
    pub artifact_bytes: u64,
    /// Number of artifacts.
    pub artifact_count: u64,
}

/// What a caller asked for, in the wire's own units. `None` takes the server's default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RequestedLimits {
    /// `timeout_seconds`
    pub timeout_seconds: Option<f64>,
    /// `compile_timeout_seconds`
    pub compile_timeout_seconds: Option<f64>,
    /// `memory_mb`
    pub memory_mb: Option<f64>,
    /// `disk_mb`
    pub disk_mb: Option<f64>,
    /// `cpus`
    pub cpus: Option<f64>,
    /// `pids`
    pub pids: Option<f64>,
    /// `output_kb`
    pub output_kb: Option<f64>,
}

/// The server's defaults and ceilings, field by field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LimitPolicy {
    /// Taken where the caller asks for nothing.
    pub default: Limits,
    /// More than this is refused.
    pub ceiling: Limits,
    /// Which of the ceilings are those of the caller's key.
    pub key: KeyCeilings,
    /// Bytes of data that a request may hand to its program, as JSON.
    pub input_bytes: u64,
}

/// What a key allows where that is less than the server does. `None` leaves the server's ceiling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KeyCeilings {
    /// Wall time of the run phase, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Size of the workspace, in bytes.
    pub disk_bytes: Option<u64>,
    /// Processors, in thousandths of one.
    pub cpu_millis: Option<u64>,
}

/// Why a requested limit was refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LimitError {
    /// Over the server's ceiling, or the key's.
    #[error("config.{field} is {asked}, over {whose} ceiling of {ceiling}")]
    TooHigh {
        /// The wire's name of the field.
        field: &'static str,
        /// What was asked for, in the field's unit.
        asked: f64,
        /// The ceiling, in the field's unit.
        ceiling: f64,
        /// `this server's` or `this key's`.
        whose: &'static str,
    },
    /// Zero, negative, not finite, or too small to run anything.
    #[error("config.{field} is {asked}; it must be at least {least}")]
    TooLow {
        /// The wire's name of the field.
        field: &'static str,
        /// What was asked for, in the field's unit.
        asked: f64,
        /// The least that is accepted, in the field's unit.
        least: f64,
    },
}

/// One row of the table that turns a wire field into a limit.
struct Field {
    name: &'static str,
    /// How many of the limit's own unit one of the wire's unit is.
    unit: u64,
    /// The least value, in the limit's own unit.
    least: u64,
}

const TIMEOUT: Field = Field { name: "timeout_seconds", unit: 1000, least: 1 };
const COMPILE_TIMEOUT: Field = Field { name: "compile_timeout_seconds", unit: 1000, least: 1 };
// The Engine refuses containers under 6 MiB; the runner itself takes 4.
const MEMORY: Field = Field { name: "memory_mb", unit: MIB, least: 8 * MIB };
const DISK: Field = Field { name: "disk_mb", unit: MIB, least: MIB };
const CPUS: Field = Field { name: "cpus", unit: 1000, least: 10 };
// The runner, the program, and one more.
const PIDS: Field = Field { name: "pids", unit: 1, least: 3 };
const OUTPUT: Field = Field { name: "output_kb", unit: KIB, least: 1 };

impl LimitPolicy {
    /// The same with the key's ceilings where they are lower.
    #[must_use]
    pub fn narrowed(mut self, by: &KeyCeilings) -> Self {
        let lower = |ceiling: &mut u64, by: Option<u64>| {
            let by = by.filter(|by| *by < *ceiling);
            *ceiling = by.unwrap_or(*ceiling);
            by
        };
        self.key = KeyCeilings {
            timeout_ms: lower(&mut self.ceiling.timeout_ms, by.timeout_ms),
            memory_bytes: lower(&mut self.ceiling.memory_bytes, by.memory_bytes),
            disk_bytes: lower(&mut self.ceiling.disk_bytes, by.disk_bytes),
            cpu_millis: lower(&mut self.ceiling.cpu_millis, by.cpu_millis),
        };
        self.default.timeout_ms = self.default.timeout_ms.min(self.ceiling.timeout_ms);
        self.default.memory_bytes = self.default.memory_bytes.min(self.ceiling.memory_bytes);
        self.default.disk_bytes = self.default.disk_bytes.min(self.ceiling.disk_bytes);
        self.default.cpu_millis = self.default.cpu_millis.min(self.ceiling.cpu_millis);
        self
    }

    /// Checks a request against the ceilings and fills in the defaults.
    ///
    /// # Errors
    /// The first field that is out of range, with the range.
    pub fn resolve(&self, asked: &RequestedLimits) -> Result<Limits, LimitError> {
        let (low, high) = (&self.default, &self.ceiling);
        let key = &self.key;
        Ok(Limits {
            timeout_ms: TIMEOUT
                .resolve(asked.timeout_seconds, low.timeout_ms, high.timeout_ms)
                .map_err(of_key(key.timeout_ms))?,
            compile_timeout_ms: COMPILE_TIMEOUT.resolve(
                asked.compile_timeout_seconds,
                low.compile_timeout_ms,
                high.compile_timeout_ms,
            )?,
            memory_bytes: MEMORY
                .resolve(asked.memory_mb, low.memory_bytes, high.memory_bytes)
                .map_err(of_key(key.memory_bytes))?,
            disk_bytes: DISK
                .resolve(asked.disk_mb, low.disk_bytes, high.disk_bytes)
                .map_err(of_key(key.disk_bytes))?,
            cpu_millis: CPUS
                .resolve(asked.cpus, low.cpu_millis, high.cpu_millis)
                .map_err(of_key(key.cpu_millis))?,
            pids: PIDS.resolve(asked.pids, low.pids, high.pids)?,
            output_bytes: OUTPUT.resolve(asked.output_kb, low.output_bytes, high.output_bytes)?,
            ..self.default
        })
    }
}

impl Field {
    fn resolve(&self, asked: Option<f64>, default: u64, ceiling: u64) -> Result<u64, LimitError> {
        let Some(asked) = asked else { return Ok(default.min(ceiling)) };
        let scaled = asked * as_f64(self.unit);
        if scaled.is_nan() || scaled < as_f64(self.least) {
            let least = as_f64(self.least) / as_f64(self.unit);
            return Err(LimitError::TooLow { field: self.name, asked, least });
        }
        if scaled > as_f64(ceiling) {
            let ceiling = as_f64(ceiling) / as_f64(self.unit);
            return Err(LimitError::TooHigh { field: self.name, asked, ceiling, whose: "this server's" });
        }
        Ok(as_u64(scaled))
    }
}

/// Names the key where the ceiling is the key's.
fn of_key(ceiling: Option<u64>) -> impl Fn(LimitError) -> LimitError {
    move |error| match error {
        LimitError::TooHigh { field, asked, ceiling: value, .. } if ceiling.is_some() => {
            LimitError::TooHigh { field, asked, ceiling: value, whose: "this key's" }
        }
        other => other,
    }
}

/// Exact for every number below 2^53; limits are far below.
#[allow(clippy::cast_precision_loss)]
fn as_f64(value: u64) -> f64 {
    value as f64
}

/// Only called after the range check, so nothing is cut off but a fraction.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn as_u64(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> LimitPolicy {
        crate::config::Config::default().limit_policy()
    }

    #[test]
    fn nothing_asked_gives_the_defaults() {
        let policy = policy();
        assert_eq!(policy.resolve(&RequestedLimits::default()), Ok(policy.default));
    }

    #[test]
    fn a_fraction_of_a_second_is_kept() {
        let asked = RequestedLimits { timeout_seconds: Some(0.25), ..Default::default() };
        assert_eq!(policy().resolve(&asked).unwrap().timeout_ms, 250);
    }

    #[test]
    fn a_key_narrows_and_never_widens() {
        let by = KeyCeilings { timeout_ms: Some(2_000), memory_bytes: Some(u64::MAX), ..Default::default() };
        let policy = policy().narrowed(&by);
        assert_eq!(policy.resolve(&RequestedLimits::default()).unwrap().timeout_ms, 2_000);
        let words = |asked: RequestedLimits| policy.resolve(&asked).unwrap_err().to_string();
        assert_eq!(
            words(RequestedLimits { timeout_seconds: Some(3.0), ..Default::default() }),
            "config.timeout_seconds is 3, over this key's ceiling of 2"
        );
        assert_eq!(
            words(RequestedLimits { memory_mb: Some(5_000.0), ..Default::default() }),
            "config.memory_mb is 5000, over this server's ceiling of 4096"
        );
    }

    #[test]
    fn out_of_range_is_refused_with_the_field_and_the_range() {
        for bad in [0.0, -1.0, f64::NAN, f64::NEG_INFINITY] {
            let asked = RequestedLimits { memory_mb: Some(bad), ..Default::default() };
            let error = policy().resolve(&asked).unwrap_err();
            assert!(matches!(error, LimitError::TooLow { field: "memory_mb", .. }), "{bad}: {error}");
        }
        for bad in [1e12, 1e19, f64::INFINITY] {
            let asked = RequestedLimits { timeout_seconds: Some(bad), ..Default::default() };
            let error = policy().resolve(&asked).unwrap_err();
            assert!(matches!(error, LimitError::TooHigh { field: "timeout_seconds", .. }), "{bad}: {error}");
        }
    }
}
