//! What a command printed, kept to be replayed.

use std::io::{self, Write};
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};
use tenure::recipes::once::RESULT_MAX;
use tokio::net::unix::pipe::Receiver;

/// Bytes as JSON: as text where they are UTF-8, else as hex.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub(super) struct Bytes(pub(super) Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Written {
    Text(String),
    Hex(String),
}

impl From<Bytes> for Written {
    fn from(Bytes(bytes): Bytes) -> Self {
        String::from_utf8(bytes).map_or_else(
            |not| {
                let digits = |text: String, byte: &u8| text + &format!("{byte:02x}");
                Written::Hex(not.as_bytes().iter().fold(String::new(), digits))
            },
            Written::Text,
        )
    }
}

impl TryFrom<Written> for Bytes {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let text = match written {
            Written::Text(text) => return Ok(Self(text.into_bytes())),
            Written::Hex(text) => text,
        };
        let pairs = text.as_bytes().chunks(2);
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        pairs.map(byte).collect::<Option<_>>().map(Self).ok_or("these are no hex digits")
    }
}

/// Both streams of a command while it runs.
#[derive(Debug, Default)]
pub(super) struct Captured {
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    /// It is too long to be kept: what was captured has been printed, and the rest is as it comes.
    pub(super) passes_through: bool,
    /// Nobody wants it.
    discards: bool,
}

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub(super) fn print(self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes).and_then(|()| stdout.flush())
            }
            Stream::Stderr => io::stderr().lock().write_all(bytes),
        }
    }
}

impl Captured {
    /// Takes whatever comes and keeps nothing of it.
    pub(super) fn nothing() -> Self {
        Self { discards: true, ..Self::default() }
    }

    fn take(&mut self, stream: Stream, bytes: &[u8]) {
        if self.discards {
            return;
        }
        if self.passes_through {
            // Nobody reads it: the command goes on, as it would behind `tee`.
            let _ = stream.print(bytes);
            return;
        }
        match stream {
            Stream::Stdout => self.stdout.extend_from_slice(bytes),
            Stream::Stderr => self.stderr.extend_from_slice(bytes),
        }
        // As JSON it is no shorter, so from here on it cannot be kept.
        if RESULT_MAX < self.stdout.len() + self.stderr.len() {
            self.passes_through = true;
            let _ = Stream::Stdout.print(&self.stdout);
            let _ = Stream::Stderr.print(&self.stderr);
        }
    }
}

/// The reading end of a pipe that a command prints into.
#[derive(Debug)]
pub(super) struct Pipe {
    stream: Stream,
    /// `None` when nobody can write into it any more.
    end: Option<Receiver>,
}

impl Pipe {
    pub(super) fn new(stream: Stream, end: OwnedFd) -> io::Result<Self> {
        Ok(Self { stream, end: Some(Receiver::from_owned_fd(end)?) })
    }

    /// Waits until something can be taken in; for ever once nothing can come.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn read_ready(&self) {
        match &self.end {
            // An error is found by the read that follows.
            Some(end) => drop(end.readable().await),
            None => std::future::pending().await,
        }
    }

    /// Takes in what was there when [`read_ready`](Self::read_ready) ended.
    pub(super) fn take_in(&mut self, captured: &mut Captured) {
        self.read(captured, |end, buffer| end.try_read(buffer));
    }

    /// Takes in all that was printed so far, whether or not the event loop has heard of it yet. For
    /// the end: the event loop does not hear that nothing is left.
    pub(super) fn drain(&mut self, captured: &mut Captured) {
        self.read(captured, |end, buffer| Ok(rustix::io::read(end, buffer)?));
    }

    fn read(
        &mut self,
        captured: &mut Captured,
        some: impl Fn(&Receiver, &mut [u8]) -> io::Result<usize>,
    ) {
        let mut buffer = [0; 8192];
        while let Some(end) = &self.end {
            match some(end, &mut buffer) {
                Ok(0) => self.end = None,
                Ok(length) => captured.take(self.stream, &buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.end = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_every_kind_come_back() {
        for bytes in [Vec::new(), b"a\nb\0".to_vec(), "é".into(), (0..=255).collect()] {
            let text = serde_json::to_string(&Bytes(bytes.clone())).unwrap();
            assert_eq!(serde_json::from_str::<Bytes>(&text).unwrap().0, bytes, "{text}");
        }
        assert!(serde_json::from_str::<Bytes>(r#"{"hex":"0g"}"#).is_err());
    }
}
