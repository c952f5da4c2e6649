//! What outlives an execution and the server: the data folder with its lock, the database with records and keys, files
//! named by their content, and the rule by which finished executions are forgotten.

mod blobs;
mod data_dir;
mod database;
mod keys;
mod readers;
mod records;
mod reserve;
mod retention;
#[allow(clippy::module_inception, reason = "the type that the module is about")]
mod store;
#[cfg(test)]
mod tests;
mod verified;
mod writer;

pub use blobs::{ContentHash, Hold, Pin};
pub use data_dir::{DataDir, DataDirError, check_room, is_in_use, keep_files_private};
pub use database::{Database, DatabaseError};
pub use keys::{ApiKey, KeySpec, Keys, LintRule, PREFIX as KEY_PREFIX, Scope, UnknownLintRule, UnknownScope};
pub use records::{Acceptance, Accepted, Ending, Kept, Unfinished};
pub use retention::RetentionPolicy;
pub use store::{Store, StoreError};
pub use verified::{verified, verify};
