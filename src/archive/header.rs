//! One tar header: 512 bytes, in the ustar, GNU or v7 layout, read strictly.
//!
//! Where two readers of the field could understand a header differently, it is refused.

use super::path::quoted;
use super::{ArchiveError, RefusalCode};

/// Everything in a tar archive comes in blocks of this many bytes.
pub(super) const BLOCK: usize = 512;

const NAME: std::ops::Range<usize> = 0..100;
const MODE: std::ops::Range<usize> = 100..108;
const UID: std::ops::Range<usize> = 108..116;
const GID: std::ops::Range<usize> = 116..124;
const SIZE: std::ops::Range<usize> = 124..136;
const MTIME: std::ops::Range<usize> = 136..148;
const LINK: std::ops::Range<usize> = 157..257;
const CHECKSUM: std::ops::Range<usize> = 148..156;
const TYPE: usize = 156;
const MAGIC: std::ops::Range<usize> = 257..265;
const PREFIX: std::ops::Range<usize> = 345..500;
/// The mark of star's own format, in which other fields stand in the prefix.
const XSTAR: std::ops::Range<usize> = 508..512;
const OWNER_MAY_EXECUTE: u64 = 0o100;

/// A header whose checksum and layout are right.
#[derive(Debug)]
pub(super) struct Header {
    block: [u8; BLOCK],
    layout: Layout,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Ustar,
    Gnu,
    V7,
}

/// What a header announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    File,
    Dir,
    /// Another name of an earlier file.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// Extended header of the next entry.
    Pax,
    /// Extended header of everything that follows.
    GlobalPax,
    /// Name of the next entry.
    LongName,
    /// Target of the next entry, a link.
    LongTarget,
}

impl Header {
    /// Reads a block.
    ///
    /// # Errors
    /// What is wrong with it, as the rest of a sentence.
    pub(super) fn read(block: [u8; BLOCK]) -> Result<Self, &'static str> {
        if octal(&block[CHECKSUM]) != Some(checksum(&block)) {
            return Err("has a wrong checksum");
        }
        if block[MAGIC] == *b"ustar\x0000" && block[XSTAR] == *b"tar\0" {
            return Err("is in star's own format (xstar); pack with `tar --format=pax`");
        }
        let layout = match &block[MAGIC] {
            b"ustar\x0000" => Layout::Ustar,
            b"ustar  \0" => Layout::Gnu,
            [0, 0, 0, 0, 0, 0, 0, 0] => Layout::V7,
            _ => return Err("is in no known format (ustar, GNU, PAX or v7)"),
        };
        Ok(Self { block, layout })
    }

    /// What it announces. `name` is the entry's real name, which may come from an extended header.
    pub(super) fn entry_type(&self, name: &[u8]) -> Result<Type, ArchiveError> {
        match self.block[TYPE] {
            // Folders of v7 are files with a slash at the end. Some readers look for it here, some in the real name.
            0 if !self.agrees_on_slash(name) => {
                let message = format!("{} is a file to some readers and a folder to others", quoted(name));
                Err(ArchiveError::refused(RefusalCode::BadPath, message))
            }
            0 if self.layout == Layout::V7 && name.ends_with(b"/") => Ok(Type::Dir),
            b'0' | 0 => Ok(Type::File),
            b'5' => Ok(Type::Dir),
            b'1' => Ok(Type::HardLink),
            b'2' => Ok(Type::Symlink),
            b'x' => Ok(Type::Pax),
            b'g' => Ok(Type::GlobalPax),
            b'L' => Ok(Type::LongName),
            b'K' => Ok(Type::LongTarget),
            other => Err(unsupported(name, &type_name(other))),
        }
    }

    /// Looks at the fields of an entry that is taken.
    ///
    /// # Errors
    /// What is wrong with them, as the rest of a sentence.
    pub(super) fn check_fields(&self) -> Result<(), &'static str> {
        // Some readers take these bytes for a prefix of the name in every layout.
        if self.layout != Layout::Ustar && self.block[PREFIX].iter().any(|byte| *byte != 0) {
            return Err("has bytes where its format has no field");
        }
        let mode = &self.block[MODE];
        if !is_octal(mode) && base256(mode).is_none() {
            return Err("has a mode that is not a number");
        }
        if ![UID, GID, MTIME].into_iter().all(|field| is_number(&self.block[field])) {
            return Err("has an owner or time that is not a number");
        }
        Ok(())
    }

    /// Announces an extended header and no entry.
    pub(super) fn is_metadata(&self) -> bool {
        matches!(self.block[TYPE], b'x' | b'g' | b'L' | b'K')
    }

    /// Bytes that follow.
    pub(super) fn size(&self) -> Result<u64, ArchiveError> {
        let field = &self.block[SIZE];
        octal(field).or_else(|| base256(field)).ok_or_else(|| {
            let name = quoted(&self.shown_name());
            let message =
                format!("the size of {name} is not a plain octal number, nor a positive binary one");
            ArchiveError::refused(RefusalCode::AmbiguousSize, message)
        })
    }

    /// The owner may execute it. Nothing else of the mode counts: clients in Go write the kind of file into it, as a bit
    /// that only the binary form has room for.
    pub(super) fn executable(&self) -> bool {
        let mode = octal(&self.block[MODE]).or_else(|| base256(&self.block[MODE]));
        mode.is_some_and(|mode| mode & OWNER_MAY_EXECUTE != 0)
    }

    /// The name in the header itself.
    pub(super) fn name(&self) -> Result<Vec<u8>, ArchiveError> {
        let inside = || {
            let message = format!("the name {} has a NUL inside", quoted(&self.block[NAME]));
            ArchiveError::refused(RefusalCode::BadPath, message)
        };
        let name = until_nul(&self.block[NAME]).ok_or_else(inside)?;
        // Empty in the other layouts.
        let prefix = until_nul(&self.block[PREFIX]).ok_or_else(inside)?;
        if prefix.is_empty() { Ok(name.to_vec()) } else { Ok([prefix, b"/", name].concat()) }
    }

    /// The target of a link, in the header itself.
    pub(super) fn target(&self) -> Result<Vec<u8>, ArchiveError> {
        let target = until_nul(&self.block[LINK]).ok_or_else(|| {
            let name = quoted(&self.shown_name());
            let message = format!("the target of the link {name} has a NUL inside");
            ArchiveError::refused(RefusalCode::BadPath, message)
        })?;
        Ok(target.to_vec())
    }

    /// The name as far as it can be told, for messages.
    pub(super) fn shown_name(&self) -> Vec<u8> {
        self.name().unwrap_or_else(|_| self.block[NAME].to_vec())
    }

    fn agrees_on_slash(&self, name: &[u8]) -> bool {
        // A name that fills the field was cut there, and may end in any of its slashes.
        let cut = self.block[NAME.end - 1] != 0;
        cut || name.ends_with(b"/") == self.shown_name().ends_with(b"/")
    }
}

/// A refusal for what is no file, folder or link.
pub(super) fn unsupported(name: &[u8], what: &str) -> ArchiveError {
    let message = format!("{} is {what}; only files, folders and links are taken", quoted(name));
    ArchiveError::refused(RefusalCode::UnsupportedType, message)
}

fn type_name(byte: u8) -> String {
    let known = match byte {
        b'3' => "a character device",
        b'4' => "a block device",
        b'6' => "a FIFO",
        b'7' => "a contiguous file",
        b'D' => "a folder of an incremental dump",
        b'M' => "the rest of a file from another volume",
        b'N' => "a list of long names",
        b'S' => "a sparse file",
        b'V' => "a volume label",
        other => return format!("of the unknown type {:?}", char::from(other)),
    };
    known.to_owned()
}

/// The field up to its first NUL, if nothing but NUL follows.
fn until_nul(field: &[u8]) -> Option<&[u8]> {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    field[end..].iter().all(|byte| *byte == 0).then_some(&field[..end])
}

/// Sum of the bytes, with the checksum's own field as spaces.
fn checksum(block: &[u8; BLOCK]) -> u64 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    sum(block) - sum(&block[CHECKSUM]) + CHECKSUM.len() as u64 * u64::from(b' ')
}

/// Spaces, at least one octal digit, then spaces or NUL to the end. At most 12 digits fit a field, so it fits u64.
fn octal(field: &[u8]) -> Option<u64> {
    let start = field.iter().position(|byte| *byte != b' ')?;
    let digits = field[start..].iter().take_while(|byte| matches!(byte, b'0'..=b'7')).count();
    let (digits, rest) = field[start..].split_at(digits);
    if digits.is_empty() || rest.iter().any(|byte| !matches!(byte, b' ' | 0)) {
        return None;
    }
    Some(digits.iter().fold(0, |value, digit| value << 3 | u64::from(digit - b'0')))
}

/// GNU's binary form: a byte of 0x80, then a big-endian number, here of at most 63 bits.
fn base256(field: &[u8]) -> Option<u64> {
    let (first, number) = field.split_first()?;
    let (high, low) = number.split_at(number.len().saturating_sub(8));
    let value = low.iter().fold(0, |value: u64, byte| value << 8 | u64::from(*byte));
    (*first == 0x80 && high.iter().all(|byte| *byte == 0) && i64::try_from(value).is_ok()).then_some(value)
}

/// Octal, or blank for none.
fn is_octal(field: &[u8]) -> bool {
    octal(field).is_some() || field.iter().all(|byte| *byte == 0) || field.iter().all(|byte| *byte == b' ')
}

/// Something that every reader takes for a number: octal, blank, or binary of either sign.
fn is_number(field: &[u8]) -> bool {
    is_octal(field) || matches!(field.first(), Some(0x80 | 0xff))
}
