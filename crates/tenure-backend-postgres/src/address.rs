//! What is written in a connection string: a URL or keys and values, taken apart.

use percent_encoding::percent_decode_str;

/// Keys that connection strings begin with.
const FIRST_KEYS: [&str; 11] = [
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "sslmode",
    "sslrootcert",
    "room",
    "schema",
    "connect_timeout",
];

/// A connection string, taken apart. Values are as they are meant, no longer escaped.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Address {
    /// Keys of libpq and our own with their values, in their order.
    pub(crate) pairs: Vec<(String, String)>,
}

impl Address {
    /// Takes a URL, whose scheme is not looked at, or keys and values apart.
    ///
    /// # Errors
    /// What is wrong, without any part of the text.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if is_pairs(text) {
            return Ok(Self { pairs: pairs(text)? });
        }
        let (_, rest) = text.split_once("://").ok_or("it has no scheme and `://`")?;
        url(rest)
    }

    /// The last value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// The last value of a key, which is removed.
    pub(crate) fn take(&mut self, key: &str) -> Option<String> {
        let value = self.get(key)?.to_owned();
        self.pairs.retain(|(k, _)| k != key);
        Some(value)
    }

    /// Sets a key unless it is set.
    pub(crate) fn set_missing(&mut self, key: &str, value: String) {
        if self.get(key).is_none() {
            self.pairs.push((key.to_owned(), value));
        }
    }

    /// As keys and values, as the driver reads them.
    pub(crate) fn as_pairs(&self) -> String {
        let escaped = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
        let all = self.pairs.iter().map(|(key, value)| format!("{key}='{}'", escaped(value)));
        all.collect::<Vec<_>>().join(" ")
    }
}

/// Whether a text is keys and values rather than a URL.
pub(crate) fn is_pairs(text: &str) -> bool {
    text.split_once('=').is_some_and(|(key, _)| FIRST_KEYS.contains(&key.trim()))
}

/// `user:password@host:port,host/database?key=value&…`
fn url(rest: &str) -> Result<Address, &'static str> {
    let decoded = |text: &str| -> Result<String, &'static str> {
        percent_decode_str(text).decode_utf8().map(Into::into).map_err(|_| "it is not UTF-8")
    };
    let mut address = Address::default();
    let mut add = |key: &str, value: String| address.pairs.push((key.to_owned(), value));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (credentials, hosts) = match authority.rsplit_once('@') {
        Some((credentials, hosts)) => (Some(credentials), hosts),
        None => (None, authority),
    };
    if let Some(credentials) = credentials {
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (credentials, None),
        };
        if !user.is_empty() {
            add("user", decoded(user)?);
        }
        if let Some(password) = password {
            add("password", decoded(password)?);
        }
    }
    if !hosts.is_empty() {
        let (mut names, mut ports) = (Vec::new(), Vec::new());
        for host in hosts.split(',') {
            let (name, port) = host_and_port(host)?;
            names.push(decoded(name)?);
            ports.push(port.to_owned());
        }
        if !names.iter().all(String::is_empty) {
            add("host", names.join(","));
        }
        add("port", ports.join(","));
    }
    if !database.is_empty() {
        add("dbname", decoded(database)?);
    }
    let mut said = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or("a parameter has no `=`")?;
        let key = decoded(key)?;
        if said.contains(&key) {
            return Err("it has a parameter twice");
        }
        add(&key, decoded(value)?);
        said.push(key);
    }
    Ok(address)
}

fn host_and_port(host: &str) -> Result<(&str, &str), &'static str> {
    const PORT: &str = "5432";
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (name, rest) = rest.split_once(']').ok_or("a `[` has no `]`")?;
            (name, rest.strip_prefix(':'))
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    let port = port.filter(|port| !port.is_empty()).unwrap_or(PORT);
    if port.parse::<u16>().is_err() {
        return Err("a port is not a number");
    }
    Ok((name, port))
}

/// `key = value key='a \'value\''`
fn pairs(text: &str) -> Result<Vec<(String, String)>, &'static str> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or("a key has no `=`")?;
        let key = key.trim_end();
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err("a key has no `=`");
        }
        let (value, after) = value(after.trim_start())?;
        pairs.push((key.to_owned(), value));
        rest = after.trim_start();
    }
    Ok(pairs)
}

/// The value at the beginning of a text, and what comes after it.
fn value(text: &str) -> Result<(String, &str), &'static str> {
    let quoted = text.starts_with('\'');
    let mut chars = text.char_indices().skip(usize::from(quoted));
    let mut value = String::new();
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            '\\' => value.push(chars.next().ok_or("a `\\` stands before nothing")?.1),
            c if !quoted && c.is_whitespace() => return Ok((value, &text[at..])),
            c => value.push(c),
        }
    }
    if quoted { Err("a quote is not closed") } else { Ok((value, "")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        Address::parse(text).expect("it is understood").as_pairs()
    }

    #[test]
    fn urls_are_taken_apart() {
        assert_eq!(
            parsed("postgres://us%40er:p%2Fw@[::1]:1,b/d%20b?sslmode=require&host=%2Ftmp"),
            "user='us@er' password='p/w' host='::1,b' port='1,5432' dbname='d b' \
             sslmode='require' host='/tmp'"
        );
        assert_eq!(parsed("postgres:///db"), "dbname='db'");
        assert_eq!(parsed("postgres://"), "");
        for bad in ["postgres:", "x", "postgres://h:x", "postgres://[h", "postgres://h?a"] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_and_values_are_taken_apart() {
        let text = r"host = h password='it\'s a \\' dbname=d\ b port=1 ";
        assert_eq!(parsed(text), r"host='h' password='it\'s a \\' dbname='d b' port='1'");
        assert!(is_pairs("dbname=x") && !is_pairs("postgres://h?host=x") && !is_pairs("a=b"));
        for bad in ["host", "host='x", "host=x y", r"host=x\"] {
            assert!(pairs(bad).is_err(), "{bad}");
        }
    }
}
