//! Length-prefixed frames, the one language between server and runner. Used by both sides.
//!
//! A frame is one byte of [`Kind`], four bytes of payload length (little endian), and the payload.

/// Longest payload. Messages (arguments, environment) must fit; file content is cut into [`DATA_CHUNK`] pieces.
pub const MAX_PAYLOAD: usize = 1 << 20;
/// Size of the pieces that file content and output are cut into: one pipe's worth.
pub const DATA_CHUNK: usize = 64 << 10;
/// Bytes before the payload.
pub const HEADER: usize = 5;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// To the runner: [`super::message::Start`], always first.
    Start = 0x01,
    /// To the runner: [`super::message::FileHead`] of a folder.
    Dir = 0x02,
    /// To the runner: [`super::message::FileHead`] of a file; `Data` frames with its content follow.
    File = 0x03,
    /// Either way: bytes of the file or artifact that was announced last.
    Data = 0x04,
    /// To the runner: all files are in; compile and run.
    Go = 0x05,
    /// To the runner: bytes for the program's standard input, never more than was granted by `Credit`.
    Stdin = 0x06,
    /// To the runner: the end of the program's standard input.
    StdinEnd = 0x07,
    /// To the runner: kill the program now, and report.
    Kill = 0x08,
    /// To a runner that serves several executions: nothing more comes for the one that ended.
    Settle = 0x09,
    /// To the runner: [`super::message::LinkHead`]; links are made after all files.
    Link = 0x0a,
    /// To the runner: [`super::message::Lower`]; done after all files, and before links.
    Lower = 0x0b,
    /// To the runner: [`super::message::Unmark`]; done after all files, and before links.
    Unmark = 0x0c,
    /// From the runner: ready for `Start`.
    Hello = 0x81,
    /// From the runner: [`super::message::PhaseStart`].
    Phase = 0x82,
    /// From the runner: bytes that the program wrote to standard output.
    Stdout = 0x83,
    /// From the runner: bytes that the program wrote to standard error.
    Stderr = 0x84,
    /// From the runner: how many more bytes of standard input it takes (u32, little endian).
    Credit = 0x85,
    /// From the runner: bytes that the language's helper wrote to the result channel.
    Result = 0x86,
    /// From the runner: [`super::message::FileHead`] of an artifact; `Data` frames follow.
    Artifact = 0x87,
    /// From the runner: a sentence for the caller (UTF-8).
    Notice = 0x88,
    /// From the runner: [`super::message::End`], always last.
    End = 0x89,
    /// From the runner: `Start` is here, and this runner lives.
    Accepted = 0x8a,
}

impl Kind {
    const ALL: [Self; 22] = [
        Self::Start,
        Self::Dir,
        Self::File,
        Self::Data,
        Self::Go,
        Self::Stdin,
        Self::StdinEnd,
        Self::Kill,
        Self::Settle,
        Self::Link,
        Self::Lower,
        Self::Unmark,
        Self::Hello,
        Self::Phase,
        Self::Stdout,
        Self::Stderr,
        Self::Credit,
        Self::Result,
        Self::Artifact,
        Self::Notice,
        Self::End,
        Self::Accepted,
    ];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// One frame, borrowed from the decoder's buffer.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it carries.
    pub kind: Kind,
    /// The payload.
    pub payload: &'a [u8],
}

/// Why bytes are not a frame. There is no way back to the next frame: the stream is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No kind has this number.
    #[error("unknown frame kind {0:#04x}")]
    UnknownKind(u8),
    /// The length is over [`MAX_PAYLOAD`].
    #[error("a frame of {0} bytes is over the limit of {MAX_PAYLOAD}")]
    TooLong(u32),
}

/// The header of a frame. `payload` is at most [`MAX_PAYLOAD`] long.
#[must_use]
pub fn header(kind: Kind, payload: usize) -> [u8; HEADER] {
    debug_assert!(payload <= MAX_PAYLOAD, "callers cut data into chunks");
    let [a, b, c, d] = u32::try_from(payload).unwrap_or(u32::MAX).to_le_bytes();
    [kind as u8, a, b, c, d]
}

/// Kind and payload length of a frame that begins like this.
///
/// # Errors
/// The bytes are no frame.
pub fn parse_header(header: [u8; HEADER]) -> Result<(Kind, usize), FrameError> {
    let [kind, a, b, c, d] = header;
    let kind = Kind::from_byte(kind).ok_or(FrameError::UnknownKind(kind))?;
    let declared = u32::from_le_bytes([a, b, c, d]);
    let length = declared as usize;
    if length > MAX_PAYLOAD { Err(FrameError::TooLong(declared)) } else { Ok((kind, length)) }
}

/// Appends one frame to `out`.
pub fn encode(kind: Kind, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&header(kind, payload.len()));
    out.extend_from_slice(payload);
}

/// One frame whose payload is a message in JSON.
///
/// # Errors
/// The message does not fit a frame.
pub fn encode_message<M: serde::Serialize>(
    kind: Kind,
    message: &M,
    out: &mut Vec<u8>,
) -> Result<(), FrameError> {
    // A message is made of strings and numbers; it always serialises.
    let payload = serde_json::to_vec(message).unwrap_or_default();
    if payload.len() > MAX_PAYLOAD {
        return Err(FrameError::TooLong(u32::try_from(payload.len()).unwrap_or(u32::MAX)));
    }
    encode(kind, &payload, out);
    Ok(())
}

/// Takes bytes as they come and gives whole frames.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Start of what is not yet given out; moved to the front when more bytes come.
    start: usize,
}

impl Decoder {
    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Kind and length of the next frame, once it is whole.
    fn peek(&self) -> Result<Option<(Kind, usize)>, FrameError> {
        let rest = &self.buffer[self.start..];
        let Some((&header, payload)) = rest.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let (kind, length) = parse_header(header)?;
        Ok((payload.len() >= length).then_some((kind, length)))
    }

    /// Whether [`Self::next_frame`] has one.
    ///
    /// # Errors
    /// The bytes are no frame; the stream can't be read on.
    pub fn has_frame(&self) -> Result<bool, FrameError> {
        Ok(self.peek()?.is_some())
    }

    /// The next whole frame, or `None` until more bytes come.
    ///
    /// # Errors
    /// The bytes are no frame; the stream can't be read on.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        let Some((kind, length)) = self.peek()? else { return Ok(None) };
        let payload = self.start + HEADER;
        self.start = payload + length;
        Ok(Some(Frame { kind, payload: &self.buffer[payload..self.start] }))
    }

    /// Bytes that are held for a frame that is not whole yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kinds() -> impl Strategy<Value = Kind> {
        (0..Kind::ALL.len()).prop_map(|index| Kind::ALL[index])
    }

    fn read_all(decoder: &mut Decoder, frames: &mut Vec<(Kind, Vec<u8>)>) -> Result<(), FrameError> {
        while let Some(frame) = decoder.next_frame()? {
            frames.push((frame.kind, frame.payload.to_vec()));
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_however_the_stream_is_cut(
            frames in prop::collection::vec((kinds(), prop::collection::vec(any::<u8>(), 0..300)), 0..20),
            cuts in prop::collection::vec(1usize..50, 1..40),
        ) {
            let mut stream = Vec::new();
            for (kind, payload) in &frames {
                encode(*kind, payload, &mut stream);
            }
            let (mut decoder, mut seen, mut rest) = (Decoder::default(), Vec::new(), stream.as_slice());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                decoder.push(now);
                read_all(&mut decoder, &mut seen).unwrap();
                rest = later;
            }
            prop_assert_eq!(seen, frames);
            prop_assert_eq!(decoder.pending(), 0);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic_and_bounded(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            let mut seen = Vec::new();
            let _ = read_all(&mut decoder, &mut seen);
            prop_assert!(seen.iter().map(|(_, payload)| payload.len() + HEADER).sum::<usize>() <= bytes.len());
        }
    }

    #[test]
    fn a_long_frame_is_refused_by_its_header() {
        let mut decoder = Decoder::default();
        decoder.push(&[Kind::Stdout as u8, 0, 0, 0x11, 0]);
        assert_eq!(decoder.next_frame(), Err(FrameError::TooLong(0x11_0000)));
    }

    #[test]
    fn every_kind_has_its_own_number() {
        let numbers: std::collections::HashSet<u8> = Kind::ALL.iter().map(|kind| *kind as u8).collect();
        assert_eq!(numbers.len(), Kind::ALL.len());
    }
}
