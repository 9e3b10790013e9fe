//! What a store keeps of a call, as the value of its lock: a line of JSON, and the result.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tenure_core::{Error, ErrorKind, Result};

use super::config::Executions;
use super::key::hex;

/// What a record of this version begins with.
const FORMAT: &str = "tenure-once/1";
/// The longest message of a failure, in bytes.
const MESSAGE_MAX: usize = 4096;
/// The room that the line of a record with a result takes at most, in bytes.
pub(super) const HEADER_MAX: usize = 1024;

/// In which state a call was left.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// An attempt began. Whether it still runs, only the lock tells: nobody holds the lock, it is over.
    InProgress,
    /// There is a result.
    Done,
    /// An attempt failed and may be tried again.
    FailedRetry,
    /// An attempt failed, and that is the last word.
    Failed,
    /// The leader of a call that may run only once vanished.
    Unknown,
}

/// A stage with the attempt that led to it and the policy it was under.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Note {
    pub(super) stage: Stage,
    pub(super) attempt: u32,
    pub(super) executions: Executions,
}

/// The line of JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    format: String,
    stage: Stage,
    /// The fingerprint, as hex.
    pub(super) fp: String,
    attempt: u32,
    executions: Executions,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
    /// The length of the result in bytes.
    size: usize,
    sha256: String,
}

impl Record {
    pub(super) fn new(note: Note, fp: &str, message: Option<&str>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            stage: note.stage,
            fp: fp.to_owned(),
            attempt: note.attempt,
            executions: note.executions,
            message: message.map(shortened),
            size: 0,
            sha256: String::new(),
        }
    }

    pub(super) fn note(&self) -> Note {
        Note { stage: self.stage, attempt: self.attempt, executions: self.executions }
    }

    /// The record with its result as bytes to keep.
    pub(super) fn encode(mut self, result: &[u8]) -> Vec<u8> {
        self.size = result.len();
        self.sha256 = hex(&Sha256::digest(result));
        let mut bytes = serde_json::to_vec(&self).expect("texts and numbers are JSON");
        bytes.push(b'\n');
        bytes.extend_from_slice(result);
        bytes
    }

    /// The result in the bytes that this record was read from.
    pub(super) fn result_in<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[bytes.len() - self.size..]
    }

    /// Reads a record and its result.
    ///
    /// # Errors
    /// `Corrupt` for everything else.
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, &[u8])> {
        let corrupt = |what: &str| {
            Error::new(ErrorKind::Corrupt, format!("the value of this lock is no record: {what}"))
                .with_help("the lock is used for something else, or by a newer version")
        };
        let end =
            bytes.iter().position(|b| *b == b'\n').ok_or_else(|| corrupt("it has no line"))?;
        let (line, result) = (&bytes[..end], &bytes[end + 1..]);
        let record: Self = serde_json::from_slice(line).map_err(|e| corrupt(&e.to_string()))?;
        if record.format != FORMAT {
            return Err(corrupt("it has another format"));
        }
        if record.size != result.len() || record.sha256 != hex(&Sha256::digest(result)) {
            return Err(corrupt("its result is damaged"));
        }
        Ok((record, result))
    }
}

fn shortened(message: &str) -> String {
    let mut end = message.len().min(MESSAGE_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTE: Note = Note { stage: Stage::Done, attempt: 3, executions: Executions::AtLeastOnce };

    #[test]
    fn a_record_comes_back_with_its_result() {
        for result in [&b"null"[..], b"", b"\"a\\nb\"", &[0xff, b'\n', 0]] {
            let bytes = Record::new(NOTE, "ab", None).encode(result);
            let (record, read) = Record::decode(&bytes).unwrap();
            assert_eq!((record.note(), record.fp.as_str(), read), (NOTE, "ab", result));
        }
    }

    #[test]
    fn what_is_no_record_is_corrupt() {
        let whole = Record::new(NOTE, "ab", None).encode(b"123");
        let mut other = whole.clone();
        *other.last_mut().unwrap() = b'4';
        let newer = String::from_utf8(whole.clone()).unwrap().replace("once/1", "once/2");
        for bad in
            [&b""[..], b"so far", b"{}\n", &whole[..whole.len() - 1], &other, newer.as_bytes()]
        {
            assert_eq!(Record::decode(bad).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn a_line_with_a_result_has_its_room_and_a_long_message_is_cut() {
        let note = Note { attempt: u32::MAX, executions: Executions::AtLeastOnce, ..NOTE };
        let record = Record::new(note, &"f".repeat(64), None);
        assert!(record.encode(&[]).len() <= HEADER_MAX - 16);
        let long = "é".repeat(3000);
        let cut = Record::new(NOTE, "", Some(&long)).message.unwrap();
        assert!(cut.len() <= MESSAGE_MAX && long.starts_with(&cut));
    }
}
