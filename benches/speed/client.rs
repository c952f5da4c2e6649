//! A caller that costs little: it shares the processors with what it measures. One connection that is kept, requests that
//! are made beforehand, and no more of the answer is read than its length and a few words.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::Result;

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(120);
const END_OF_HEAD: &[u8] = b"\r\n\r\n";
/// A sync hello in Python.
const HELLO: &str = r#"{"code":"print('hello')"}"#;
/// What its answer has in it.
const SAID_HELLO: &[u8] = br#""stdout":"hello\n""#;

pub(crate) struct Client {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Client {
    /// `url` without a path.
    pub(crate) fn connect(url: &str) -> Result<Self> {
        let stream = TcpStream::connect(url.trim_start_matches("http://"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, answer: Vec::with_capacity(16 << 10) })
    }

    /// Sends a whole request, or the next piece of one.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// The body of the answer, which has this status.
    pub(crate) fn receive(&mut self, status: &str) -> Result<&[u8]> {
        self.answer.clear();
        let head = loop {
            self.more()?;
            if let Some(at) = find(&self.answer, END_OF_HEAD) {
                break at + END_OF_HEAD.len();
            }
        };
        let text = std::str::from_utf8(&self.answer[..head])?.to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
        let whole = head + length.ok_or("an answer without a length")?.trim().parse::<usize>()?;
        while self.answer.len() < whole {
            self.more()?;
        }
        if text.split(' ').nth(1) == Some(status) {
            Ok(&self.answer[head..])
        } else {
            Err(String::from_utf8_lossy(&self.answer).into_owned().into())
        }
    }

    /// A sync hello.
    pub(crate) fn hello(&mut self, request: &[u8]) -> Result<()> {
        self.send(request)?;
        let body = self.receive("200")?;
        match find(body, SAID_HELLO) {
            Some(_) => Ok(()),
            None => Err(format!("no hello: {}", String::from_utf8_lossy(body)).into()),
        }
    }

    fn more(&mut self) -> Result<()> {
        let mut piece = [0; 8 << 10];
        let read = self.stream.read(&mut piece)?;
        if read == 0 {
            return Err("the server closed the connection".into());
        }
        self.answer.extend_from_slice(&piece[..read]);
        Ok(())
    }
}

/// The request of a hello.
pub(crate) fn hello() -> Vec<u8> {
    post("/api/v1/eval", "application/json", HELLO.as_bytes())
}

/// A request with its body.
pub(crate) fn post(path: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let mut request = head(path, content_type, body.len() as u64).into_bytes();
    request.extend_from_slice(body);
    request
}

/// A request whose body of this length follows.
pub(crate) fn head(path: &str, content_type: &str, length: u64) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
    )
}

fn find(text: &[u8], words: &[u8]) -> Option<usize> {
    text.windows(words.len()).position(|window| window == words)
}
