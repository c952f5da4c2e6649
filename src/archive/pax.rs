//! The extended headers of PAX: records of `length key=value\n`.

use super::{ArchiveError, RefusalCode};

/// What a PAX header says about the next entry. Times, owners, extended attributes and unknown keys are dropped.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    /// `path`
    pub(super) path: Option<Vec<u8>>,
    /// `linkpath`
    pub(super) target: Option<Vec<u8>>,
    /// `size`
    pub(super) size: Option<u64>,
    /// What the entry is, by a key that only sparse files have.
    pub(super) unsupported: Option<&'static str>,
}

impl Pax {
    /// Reads the records.
    ///
    /// # Errors
    /// `bad_archive` for anything but exact records, `ambiguous_size` for a size that is no plain number.
    pub(super) fn read(mut body: &[u8]) -> Result<Self, ArchiveError> {
        let mut pax = Self::default();
        while !body.is_empty() {
            let (key, value, rest) = split_record(body).ok_or_else(|| bad("a malformed record"))?;
            pax.take(key, value)?;
            body = rest;
        }
        Ok(pax)
    }

    /// It changes how entries are read.
    pub(super) fn is_significant(&self) -> bool {
        *self != Self::default()
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), ArchiveError> {
        match key {
            b"linkpath" if self.target.is_some() => Err(bad("two targets of a link")),
            b"linkpath" => {
                self.target = Some(value.to_vec());
                Ok(())
            }
            b"path" if self.path.is_some() => Err(bad("two paths")),
            b"path" if value.is_empty() => Err(bad("an empty path")),
            b"path" => {
                self.path = Some(value.to_vec());
                Ok(())
            }
            b"size" if self.size.is_some() => Err(bad("two sizes")),
            b"size" => {
                let message = "the size in a PAX header is not a plain decimal number";
                let refusal = || ArchiveError::refused(RefusalCode::AmbiguousSize, message);
                self.size = Some(decimal(value).ok_or_else(refusal)?);
                Ok(())
            }
            // Some readers cut records at line ends, some end a key at a NUL: they would see others than we do.
            other if !is_plain(other) || !is_attribute(other) && !is_plain(value) => {
                Err(bad("a line end or a NUL inside a record"))
            }
            other => {
                self.unsupported = self.unsupported.or(unsupported(other));
                Ok(())
            }
        }
    }
}

fn unsupported(key: &[u8]) -> Option<&'static str> {
    (key.starts_with(b"GNU.sparse.") || key == b"SCHILY.realsize").then_some("a sparse file")
}

fn is_plain(text: &[u8]) -> bool {
    !text.iter().any(|byte| matches!(byte, 0 | b'\n'))
}

/// Extended attributes may be binary.
fn is_attribute(key: &[u8]) -> bool {
    key.starts_with(b"SCHILY.xattr.") || key.starts_with(b"LIBARCHIVE.xattr.")
}

fn bad(what: &str) -> ArchiveError {
    ArchiveError::refused(RefusalCode::BadArchive, format!("a PAX header has {what}"))
}

/// The first record's key and value, and what follows it.
fn split_record(body: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = body.iter().position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&body[..space])?).ok()?;
    let record = body.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    (!key.is_empty()).then_some((key, value, &body[length..]))
}

/// Digits without leading zeros, below 2^63.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 1 && text[0] == b'0' || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = std::str::from_utf8(text).ok()?.parse().ok()?;
    i64::try_from(value).is_ok().then_some(value)
}
