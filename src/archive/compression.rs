//! What an archive is packed in, told by its first bytes, and the way from there to the tar parser.

use std::io::{self, Write};

use flate2::write::GzDecoder;
use zstd::stream::raw::{DParameter, Decoder as ZstdOperation};
use zstd::stream::zio::Writer as ZstdWriter;

use super::parser::TarParser;
use super::{ArchiveError, Project, RefusalCode};

/// Members of one gzip stream. Each costs a new decoder and may hold nothing, so an endless row of them would burn the
/// processor without ever meeting the cap on bytes. Block-wise writers (bgzip) put 64 KiB in each: 4 GiB.
const MAX_GZIP_MEMBERS: u32 = 65_536;
/// Window of a zstd frame: 8 MiB of memory for each upload, what RFC 8878 asks of every reader. Enough for all levels
/// up to 19 (not for `--ultra` and `--long`).
const ZSTD_WINDOW_LOG: u32 = 23;
/// The same in bytes, with what the decoder holds beside its window.
const ZSTD_BYTES: usize = (1 << ZSTD_WINDOW_LOG) + (512 << 10);
/// Window and tables of a gzip decoder, with its buffer.
const GZIP_BYTES: usize = 96 << 10;
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// A zstd frame that readers pass over, as some writers put first: the lower half of its first byte is free.
const ZSTD_SKIPPABLE: &[u8] = &[0x50, 0x2a, 0x4d, 0x18];

/// What a piece of a plain archive can add: an entry for each block, with its name, and the buffer of the spool.
const PLAIN_GROWTH: usize = 768 << 10;

/// The way of the bytes, from the body to the tar parser.
pub(super) enum Pipeline {
    /// Fewer bytes came than are needed to tell.
    Undecided(Vec<u8>, Sink),
    Plain(Sink),
    Gzip(Gzip),
    Zstd(ZstdWriter<Sink, ZstdOperation<'static>>),
}

impl Pipeline {
    /// Takes the next bytes of the body. The pipeline is gone after an error, with all it held.
    pub(super) fn push(self, bytes: &[u8]) -> Result<Self, ArchiveError> {
        match self {
            Self::Undecided(mut first, sink) => {
                first.extend_from_slice(bytes);
                match decide(&first) {
                    None => Ok(Self::Undecided(first, sink)),
                    Some(packing) => packing.pipeline(sink)?.push(&first),
                }
            }
            Self::Plain(mut sink) => {
                sink.take(bytes)?;
                Ok(Self::Plain(sink))
            }
            Self::Gzip(gzip) => gzip.push(bytes).map(Self::Gzip),
            Self::Zstd(mut zstd) => match zstd.write_all(bytes) {
                Ok(()) => Ok(Self::Zstd(zstd)),
                Err(error) => Err(zstd_fault(zstd.writer_mut(), &error)),
            },
        }
    }

    /// Bytes of memory that it holds by now: of a window only what was unpacked into it.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Self::Undecided(first, sink) => first.len() + sink.parser.memory_bytes(),
            Self::Plain(sink) => sink.parser.memory_bytes(),
            Self::Gzip(gzip) => GZIP_BYTES + gzip.member.get_ref().parser.memory_bytes(),
            Self::Zstd(zstd) => {
                let sink = zstd.writer();
                let unpacked = usize::try_from(sink.taken).unwrap_or(usize::MAX);
                unpacked.saturating_add(GZIP_BYTES).min(ZSTD_BYTES) + sink.parser.memory_bytes()
            }
        }
    }

    /// Bytes that these can add to that.
    pub(super) fn growth(&self, bytes: &[u8]) -> usize {
        let packed = |sink: &Sink| sink.parser.most_names();
        match self {
            Self::Undecided(first, sink) => {
                let first: Vec<u8> = first.iter().chain(bytes).take(ZSTD_MAGIC.len()).copied().collect();
                match decide(&first) {
                    Some(Packing::Plain) => PLAIN_GROWTH,
                    Some(Packing::Gzip) => GZIP_BYTES + packed(sink),
                    Some(Packing::Zstd) | None => ZSTD_BYTES + packed(sink),
                }
            }
            Self::Plain(_) => PLAIN_GROWTH,
            Self::Gzip(gzip) => packed(gzip.member.get_ref()),
            Self::Zstd(zstd) => ZSTD_BYTES + packed(zstd.writer()),
        }
    }

    /// The body is over.
    pub(super) fn finish(self) -> Result<Project, ArchiveError> {
        match self {
            Self::Undecided(first, mut sink) => {
                sink.take(&first)?;
                sink.parser.finish()
            }
            Self::Plain(sink) => sink.parser.finish(),
            Self::Gzip(gzip) => gzip.finish_member()?.parser.finish(),
            Self::Zstd(mut zstd) => match zstd.finish() {
                Ok(()) => zstd.into_inner().0.parser.finish(),
                Err(error) => Err(zstd_fault(zstd.writer_mut(), &error)),
            },
        }
    }
}

#[derive(Clone, Copy)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// No tar archive that we take starts like gzip or zstd: those bytes can't be in a name.
fn decide(first: &[u8]) -> Option<Packing> {
    let could_be = |magic: &[u8]| magic.iter().zip(first).all(|(a, b)| a == b);
    let mut upper = first.to_vec();
    upper.first_mut().into_iter().for_each(|byte| *byte &= 0xf0);
    let could_be_skippable = ZSTD_SKIPPABLE.iter().zip(&upper).all(|(a, b)| a == b);
    match first {
        _ if could_be_skippable => (first.len() >= ZSTD_SKIPPABLE.len()).then_some(Packing::Zstd),
        _ if could_be(GZIP_MAGIC) => (first.len() >= GZIP_MAGIC.len()).then_some(Packing::Gzip),
        _ if could_be(ZSTD_MAGIC) => (first.len() >= ZSTD_MAGIC.len()).then_some(Packing::Zstd),
        _ => Some(Packing::Plain),
    }
}

impl Packing {
    fn pipeline(self, sink: Sink) -> Result<Pipeline, ArchiveError> {
        Ok(match self {
            Self::Plain => Pipeline::Plain(sink),
            Self::Gzip => Pipeline::Gzip(Gzip { member: GzDecoder::new(sink), members: 1 }),
            Self::Zstd => {
                let mut operation = ZstdOperation::new()?;
                operation.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG))?;
                Pipeline::Zstd(ZstdWriter::new(sink, operation))
            }
        })
    }
}

/// A gzip stream of one or more members.
pub(super) struct Gzip {
    member: GzDecoder<Sink>,
    members: u32,
}

impl Gzip {
    fn push(mut self, mut bytes: &[u8]) -> Result<Self, ArchiveError> {
        while !bytes.is_empty() {
            match self.member.write(bytes) {
                // The member is over, and something follows it.
                Ok(0) => self = self.next_member()?,
                Ok(taken) => bytes = &bytes[taken..],
                Err(error) => return Err(gzip_fault(self.member.get_mut(), &error)),
            }
        }
        Ok(self)
    }

    fn next_member(self) -> Result<Self, ArchiveError> {
        let members = self.members + 1;
        if members > MAX_GZIP_MEMBERS {
            let message = format!("the gzip stream has more than {MAX_GZIP_MEMBERS} members");
            return Err(ArchiveError::refused(RefusalCode::BadArchive, message));
        }
        Ok(Self { member: GzDecoder::new(self.finish_member()?), members })
    }

    fn finish_member(mut self) -> Result<Sink, ArchiveError> {
        // Separately, because `finish` drops the sink, and the reason in it, when it fails.
        if let Err(error) = self.member.try_finish() {
            return Err(gzip_fault(self.member.get_mut(), &error));
        }
        Ok(self.member.finish()?)
    }
}

/// The end of a pipeline: counts what came out of the decompression, and hands it to the parser.
pub(super) struct Sink {
    parser: TarParser,
    limit: u64,
    taken: u64,
    /// The real reason, while the decoder in front only sees an I/O error.
    failure: Option<ArchiveError>,
}

impl Sink {
    /// Stops after `limit` bytes.
    pub(super) fn new(parser: TarParser, limit: u64) -> Self {
        Self { parser, limit, taken: 0, failure: None }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.taken += bytes.len() as u64;
        if self.taken > self.limit {
            let message = format!("the archive unpacks to more than {} bytes, the limit", self.limit);
            return Err(ArchiveError::refused(RefusalCode::TooLarge, message));
        }
        self.parser.push(bytes)
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Decoders flush what they hold when they are dropped: after a failure nothing more is taken.
        if self.failure.is_none() {
            self.failure = self.take(bytes).err();
        }
        match self.failure {
            None => Ok(bytes.len()),
            Some(_) => Err(io::Error::other("the archive was refused")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gzip_fault(sink: &mut Sink, error: &io::Error) -> ArchiveError {
    sink.failure.take().unwrap_or_else(|| {
        let message =
            format!("the gzip stream is damaged, cut short, or followed by something else: {error}");
        ArchiveError::refused(RefusalCode::BadArchive, message)
    })
}

fn zstd_fault(sink: &mut Sink, error: &io::Error) -> ArchiveError {
    sink.failure.take().unwrap_or_else(|| {
        let mebibytes = (1_u64 << ZSTD_WINDOW_LOG) >> 20;
        let message = format!(
            "the zstd stream can't be read: {error} (taken are whole streams with a window of at most {mebibytes} MiB: \
             levels up to 19, without --long)"
        );
        ArchiveError::refused(RefusalCode::BadArchive, message)
    })
}

/// First bytes of what people send instead of a tar archive.
const FOREIGN: &[(&[u8], &str)] = &[
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"BZh", "compressed with bzip2"),
    (b"\xfd7zXZ\0", "compressed with xz"),
    (b"\x5d\0\0", "compressed with lzma"),
    (b"LZIP", "compressed with lzip"),
    (b"\x04\x22\x4d\x18", "compressed with lz4"),
    (b"\x89LZO", "compressed with lzop"),
    (b"\x1f\x9d", "compressed with compress"),
    (b"\x1f\x8b", "compressed twice, with gzip"),
    (b"\x28\xb5\x2f\xfd", "compressed twice, with zstd"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"!<arch>\n", "an ar archive"),
    (b"070701", "a cpio archive"),
    (b"070702", "a cpio archive"),
    (b"070707", "a cpio archive"),
];

/// A refusal that says what was sent instead of a tar archive, if that can be told. Only for bytes that are no tar header: a
/// file's name may look like any of these.
pub(super) fn foreign_format(first: &[u8]) -> Option<ArchiveError> {
    let Some((_, what)) = FOREIGN.iter().find(|(magic, _)| first.starts_with(magic)) else {
        return starts_like_text(first).then(|| {
            let message =
                "this is not a tar archive: it starts like text; create one with `tar -cf p.tar FILES`";
            ArchiveError::refused(RefusalCode::BadArchive, message)
        });
    };
    let message =
        format!("the body is {what}; taken are tar archives, plain or compressed with gzip or zstd");
    Some(ArchiveError::refused(RefusalCode::UnsupportedMediaType, message))
}

/// Whether these first bytes are printable, in UTF-8 that may be cut at the end.
fn starts_like_text(first: &[u8]) -> bool {
    let text = match std::str::from_utf8(first) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&first[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.is_empty() && text.chars().all(|c| !c.is_control() || c.is_ascii_whitespace())
}
