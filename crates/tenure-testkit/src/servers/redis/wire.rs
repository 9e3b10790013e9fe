//! The few words of the Redis protocol that it takes to run servers.
//!
//! A connection of our own, and not `redis-cli`: a process for each look at a server would make
//! starting a cluster slow.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// A text, a number or nothing at all, as text.
    Text(String),
    /// An error.
    Error(String),
    /// Several of them.
    List(Vec<Reply>),
}

impl Reply {
    /// The text, if it is one.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Error(_) | Self::List(_) => None,
        }
    }

    /// The texts of a list.
    pub(super) fn texts(&self) -> Vec<&str> {
        match self {
            Self::List(replies) => replies.iter().filter_map(Self::text).collect(),
            Self::Text(_) | Self::Error(_) => Vec::new(),
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) | Self::Error(text) => f.write_str(text),
            Self::List(replies) => f.debug_list().entries(replies).finish(),
        }
    }
}

/// A connection to a server.
#[derive(Debug)]
pub(super) struct Wire {
    stream: BufReader<TcpStream>,
}

impl Wire {
    /// Connects, and authenticates if there is a password.
    pub(super) fn connect(port: u16, password: Option<&str>) -> io::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut wire = Self { stream: BufReader::new(stream) };
        if let Some(password) = password {
            wire.call(&["AUTH", password])?;
        }
        Ok(wire)
    }

    /// Sends a command and reads its reply, which may be an error of the server.
    pub(super) fn call(&mut self, words: &[&str]) -> io::Result<Reply> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.stream.get_mut().write_all(request.as_bytes())?;
        self.read()
    }

    fn read(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let Some(line) = line.strip_suffix("\r\n") else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let (kind, rest) = line.split_at_checked(1).ok_or_else(|| strange(line))?;
        match kind {
            "+" | ":" => Ok(Reply::Text(rest.to_owned())),
            "-" => Ok(Reply::Error(rest.to_owned())),
            "$" => match usize::try_from(number(rest)?) {
                Ok(length) => self.read_text(length),
                Err(_) => Ok(Reply::Text(String::new())),
            },
            // A length of -1 is a list that is not there: nobody here tells it from an empty one.
            "*" => {
                (0..number(rest)?).map(|_| self.read()).collect::<io::Result<_>>().map(Reply::List)
            }
            _ => Err(strange(line)),
        }
    }

    fn read_text(&mut self, length: usize) -> io::Result<Reply> {
        let mut text = vec![0; length + "\r\n".len()];
        self.stream.read_exact(&mut text)?;
        text.truncate(length);
        Ok(Reply::Text(String::from_utf8_lossy(&text).into_owned()))
    }
}

fn number(text: &str) -> io::Result<i64> {
    text.parse().map_err(|_| strange(text))
}

fn strange(line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not a reply of Redis: {line:?}"))
}
