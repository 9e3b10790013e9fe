//! Where the locks are kept and how.

mod redlock;

use std::fmt;

use percent_encoding::percent_decode_str;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion};
use tenure_core::{Error, ErrorKind, Result};

use crate::tls::Files;

const KNOWN: &str = "prefix, min_replicas, ca, cert, key, db, sentinel_username, sentinel_password";
/// The variables that `redis://` alone reads.
const URL_VARIABLE: &str = "REDIS_URL";

/// Where a [`RedisBackend`](crate::RedisBackend) keeps its locks, and how.
#[derive(Clone, Default)]
pub struct RedisConfig {
    pub(crate) place: Place,
    pub(crate) prefix: String,
    pub(crate) min_replicas: u32,
    pub(crate) test_clock: Option<String>,
}

/// Which servers.
#[derive(Clone)]
pub(crate) enum Place {
    Node(ConnectionInfo),
    Sentinel { sentinels: Vec<ConnectionInfo>, service: String, node: ConnectionInfo },
    Cluster(Vec<ConnectionInfo>),
}

impl Default for Place {
    fn default() -> Self {
        Self::Cluster(Vec::new())
    }
}

impl RedisConfig {
    /// Reads an address:
    ///
    /// - `redis://[[user]:password@]host[:port][/db]`: one server
    /// - `redis+unix://[[user]:password@]/path[?db=n]`: one server's socket
    /// - `redis+sentinel://[[user]:password@]host[:port],…/service[/db]`: the primary that Sentinels
    ///   name
    /// - `redis+cluster://[[user]:password@]host[:port],…`: a cluster
    /// - `redis://` alone: what `REDIS_URL` says, with `REDIS_DB` if it is set; without it, the server
    ///   on this host
    ///
    /// each with `?prefix=text` before every key, none if it is not given, and `?min_replicas=n`:
    /// how many replicas have to have a grant before it counts.
    ///
    /// An address without a password has that of `REDIS_PASSWORD`, if it is set. It is for the servers;
    /// Sentinels that ask for one as well get `?sentinel_username=…&sentinel_password=…`, or the password
    /// of `REDIS_SENTINEL_PASSWORD`.
    ///
    /// With the feature `tls`, `rediss://…`, `rediss+sentinel://…` and `rediss+cluster://…` go over
    /// TLS, with the root certificates of the web, or `?ca=/file.pem` and nothing else. A server that
    /// asks for a certificate gets that of `?cert=/file.pem&key=/file.pem`.
    ///
    /// # Errors
    /// `Invalid` if it is not understood; the message never repeats a password.
    pub fn from_url(url: &str) -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let password = variable("REDIS_PASSWORD");
        if address.trim_end_matches('/') != "redis:" {
            let config = Self::parse(&with_parts(url, password, None)?)?;
            return Ok(config.with_sentinels_password(variable("REDIS_SENTINEL_PASSWORD")));
        }
        let url = variable(URL_VARIABLE).unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned());
        let mut url = with_parts(&url, password, variable("REDIS_DB"))?;
        if !query.is_empty() {
            url = format!("{url}{}{query}", if url.contains('?') { '&' } else { '?' });
        }
        Ok(Self::parse(&url)?.with_sentinels_password(variable("REDIS_SENTINEL_PASSWORD")))
    }

    /// With a password for Sentinels that have none.
    fn with_sentinels_password(mut self, password: Option<String>) -> Self {
        if let (Place::Sentinel { sentinels, .. }, Some(password)) = (&mut self.place, password) {
            for sentinel in sentinels.iter_mut() {
                let settings = sentinel.redis_settings().clone();
                if settings.password().is_none() {
                    let settings = settings.set_password(&password);
                    *sentinel = sentinel.clone().set_redis_settings(settings);
                }
            }
        }
        self
    }

    fn parse(url: &str) -> Result<Self> {
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let (scheme, rest) =
            address.split_once("://").ok_or_else(|| invalid("it has no scheme and `://`"))?;
        check_for_escapes(scheme, rest)?;
        let mut config = Self::default();
        let (mut files, mut db) = (Files::default(), None);
        // Sentinels have users of their own.
        let mut asked_as = (None, None);
        let mut said = Vec::new();
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
                return Err(unescaped("it has a parameter that is none"));
            }
            if said.contains(&key) {
                return Err(invalid(&format!("it has the parameter {key:?} twice")));
            }
            said.push(key);
            match key {
                "prefix" => {
                    config.prefix = decoded(key, value)?;
                }
                "sentinel_username" if scheme.ends_with("+sentinel") => {
                    asked_as.0 = Some(decoded(key, value)?);
                }
                "sentinel_password" if scheme.ends_with("+sentinel") => {
                    asked_as.1 = Some(decoded(key, value)?);
                }
                "min_replicas" => {
                    config.min_replicas = value
                        .parse()
                        .map_err(|_| invalid("`min_replicas` is a number of replicas"))?;
                }
                "ca" => files.ca = Some(value.to_owned()),
                "cert" => files.cert = Some(value.to_owned()),
                "key" => files.key = Some(value.to_owned()),
                "db" if scheme == "redis+unix" => {
                    db = Some(value.parse().map_err(|_| invalid("`db` is a number"))?);
                }
                _ => {
                    return Err(invalid(&format!(
                        "it has no parameter {key:?}; known are {KNOWN}"
                    )));
                }
            }
        }
        let (base, kind) = scheme.split_once('+').unwrap_or((scheme, "node"));
        let one = |authority: &str| files.trusted_by(node(&format!("{base}://{authority}"))?);
        config.place = match (base, kind) {
            ("redis" | "rediss", "node") => Place::Node(one(rest)?),
            ("redis", "unix") => Place::Node(socket(rest, db.unwrap_or(0))?),
            ("redis" | "rediss", "sentinel") => {
                let (user, hosts, path) = parts(rest);
                let (service, db) = path.split_once('/').unwrap_or((path, "0"));
                if service.is_empty() {
                    return Err(invalid("it does not name the service: `…:26379/service`"));
                }
                let at = |host: &&str| {
                    let sentinel = one(&with_port(host, 26379))?;
                    let mut settings = sentinel.redis_settings().clone();
                    if let Some(user) = &asked_as.0 {
                        settings = settings.set_username(user);
                    }
                    if let Some(password) = &asked_as.1 {
                        settings = settings.set_password(password);
                    }
                    Ok(sentinel.set_redis_settings(settings))
                };
                Place::Sentinel {
                    sentinels: hosts.iter().map(at).collect::<Result<_>>()?,
                    service: service.to_owned(),
                    node: one(&format!("{user}127.0.0.1/{db}"))?,
                }
            }
            ("redis" | "rediss", "cluster") => {
                let (user, hosts, path) = parts(rest);
                if !path.is_empty() && path != "0" {
                    return Err(invalid("a cluster has one database only"));
                }
                let at = |host: &&str| one(&format!("{user}{}", with_port(host, 6379)));
                Place::Cluster(hosts.iter().map(at).collect::<Result<_>>()?)
            }
            _ => {
                return Err(invalid(
                    "its scheme is not one of redis, redis+unix, redis+sentinel, redis+cluster, or \
                     with TLS rediss, rediss+sentinel, rediss+cluster",
                ));
            }
        };
        Ok(config)
    }

    /// The servers of a client of the driver's version 1: its address, credentials and TLS. The
    /// connections are the backend's own, for it needs their messages, and may not wait for others.
    #[cfg(feature = "redis-1")]
    #[must_use]
    pub fn from_client(client: &redis::Client) -> Self {
        let info = client.get_connection_info().clone();
        Self { place: Place::Node(as_we_need_it(info)), ..Self::default() }
    }

    /// Text before every key.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How many replicas have to have a grant before it counts. Narrows the window in which a
    /// failover forgets a lock; does not close it.
    #[must_use]
    pub fn min_replicas(mut self, replicas: u32) -> Self {
        self.min_replicas = replicas;
        self
    }

    /// Tells the time by a hash that a test sets instead of the server's clock: fields `s`, `us`.
    #[doc(hidden)]
    #[must_use]
    pub fn test_clock(mut self, key: &str) -> Self {
        self.test_clock = Some(key.to_owned());
        self
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.place, Place::Cluster(_))
    }

    /// Whether it is always the same server.
    pub(crate) fn is_one_server(&self) -> bool {
        matches!(self.place, Place::Node(_))
    }

    /// As whom the servers know us.
    pub(crate) fn user(&self) -> &str {
        let node = match &self.place {
            Place::Node(node) | Place::Sentinel { node, .. } => Some(node),
            Place::Cluster(nodes) => nodes.first(),
        };
        node.and_then(|node| node.redis_settings().username()).unwrap_or("default")
    }

    /// The address without credentials.
    pub(crate) fn masked(&self) -> String {
        let hosts = |nodes: &[ConnectionInfo]| {
            nodes.iter().map(|node| shown(node.addr())).collect::<Vec<_>>().join(",")
        };
        match &self.place {
            Place::Node(node) => {
                let db = node.redis_settings().db();
                let db = if db == 0 { String::new() } else { format!("/{db}") };
                match node.addr() {
                    ConnectionAddr::Unix(path) => {
                        let db = db.trim_start_matches('/');
                        let db = if db.is_empty() { String::new() } else { format!("?db={db}") };
                        format!("redis+unix://{}{db}", path.display())
                    }
                    addr => format!("{}://{}{db}", scheme(node), shown(addr)),
                }
            }
            Place::Sentinel { sentinels, service, node } => {
                format!("{}+sentinel://{}/{service}", scheme(node), hosts(sentinels))
            }
            Place::Cluster(nodes) => {
                let scheme = nodes.first().map_or("redis", scheme);
                format!("{scheme}+cluster://{}", hosts(nodes))
            }
        }
    }
}

/// A server's address as an address of a store has it: colons of a host stand in brackets.
fn shown(addr: &ConnectionAddr) -> String {
    let shown = addr.to_string();
    match shown.rsplit_once(':') {
        Some((host, port)) if host.contains(':') && !host.starts_with('[') => {
            format!("[{host}]:{port}")
        }
        _ => shown,
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("address", &self.masked())
            .field("prefix", &self.prefix)
            .field("min_replicas", &self.min_replicas)
            .finish()
    }
}

fn decoded(parameter: &str, value: &str) -> Result<String> {
    let text = percent_decode_str(value).decode_utf8();
    let text = text.map_err(|_| invalid(&format!("`{parameter}` is not UTF-8")))?;
    Ok(text.into_owned())
}

/// Credentials with their `@`, hosts, and what comes after the first `/`.
fn parts(rest: &str) -> (&str, Vec<&str>, &str) {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let at = authority.rfind('@').map_or(0, |at| at + 1);
    let (user, hosts) = authority.split_at(at);
    (user, hosts.split(',').collect(), path.trim_end_matches('/'))
}

fn with_port(host: &str, port: u16) -> String {
    let has_port = host.rfind(':').is_some_and(|at| !host[at..].contains(']'));
    if has_port { host.to_owned() } else { format!("{host}:{port}") }
}

/// The address with a password and a database of its own.
fn with_parts(url: &str, password: Option<String>, db: Option<String>) -> Result<String> {
    let mut url = url.to_owned();
    if let Some(password) = password
        && !url.contains('@')
        && let Some(at) = url.find("://")
    {
        let escaped: String = password.bytes().map(|b| format!("%{b:02X}")).collect();
        url.insert_str(at + 3, &format!(":{escaped}@"));
    }
    if let Some(db) = db {
        if db.parse::<u32>().is_err() {
            return Err(invalid("REDIS_DB is not a number"));
        }
        let (address, query) = match url.split_once('?') {
            Some((address, query)) => (address, format!("?{query}")),
            None => (url.as_str(), String::new()),
        };
        let start = address.find("://").map_or(0, |at| at + 3);
        let end = address[start..].find('/').map_or(address.len(), |at| start + at);
        url = format!("{}/{db}{query}", &address[..end]);
    }
    Ok(url)
}

fn node(url: &str) -> Result<ConnectionInfo> {
    if cfg!(not(feature = "tls")) && url.starts_with("rediss") {
        return Err(crate::tls::missing());
    }
    // The library's own message may repeat the address with its password.
    let info = url.into_connection_info().map_err(|_| unescaped("host, port or database"))?;
    if !info.addr().is_supported() {
        return Err(crate::tls::missing());
    }
    Ok(as_we_need_it(info))
}

/// A server's socket: credentials with their `@`, and a path.
fn socket(rest: &str, db: i64) -> Result<ConnectionInfo> {
    let (user, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if path.is_empty() {
        return Err(invalid("it does not name the socket: `redis+unix:///path`"));
    }
    // Credentials are read as everywhere.
    let info = node(&format!("redis://{user}127.0.0.1"))?;
    let settings = info.redis_settings().clone().set_db(db);
    Ok(info.set_redis_settings(settings).set_addr(ConnectionAddr::Unix(path.into())))
}

/// With messages on the same connection, and without waiting for more to send.
fn as_we_need_it(info: ConnectionInfo) -> ConnectionInfo {
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    info.set_redis_settings(settings).set_tcp_settings(tcp)
}

fn scheme(node: &ConnectionInfo) -> &'static str {
    match node.addr() {
        ConnectionAddr::TcpTls { .. } => "rediss",
        _ => "redis",
    }
}

/// Refuses what a password may contain and an address does not, where it would be read as something
/// else: another host would be asked.
fn check_for_escapes(scheme: &str, rest: &str) -> Result<()> {
    let path = rest.split_once('/').map_or("", |(_, path)| path);
    if rest.contains('#') {
        return Err(unescaped("it has a `#`"));
    }
    if path.contains('@') && !scheme.ends_with("unix") {
        return Err(unescaped("it has a `/` before its `@`"));
    }
    Ok(())
}

/// What is not understood may be a part of a password.
fn unescaped(what: &str) -> Error {
    invalid(what).with_help(
        "in a user or password write `%2F` for `/`, `%40` for `@`, `%23` for `#`, `%3F` for `?`, \
         `%25` for `%`, or keep the password in REDIS_PASSWORD, as it is; the address is \
         `redis://:password@host:6379/0?prefix=locks:`",
    )
}

pub(crate) fn invalid(what: &str) -> Error {
    Error::new(
        ErrorKind::Invalid,
        format!("the address of a Redis store is not understood: {what}"),
    )
    .with_help("for example `redis://:password@host:6379/0?prefix=locks:`")
    .with_nothing_changed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(url: &str) -> String {
        RedisConfig::parse(url).expect("it is understood").masked()
    }

    #[test]
    fn addresses_are_read_and_shown_without_credentials() {
        assert_eq!(masked("redis://:secret@db:6380/2"), "redis://db:6380/2");
        assert_eq!(masked("redis://user:secret@db"), "redis://db:6379");
        assert_eq!(masked("redis://user:secret@[::1]:7"), "redis://[::1]:7");
        assert_eq!(
            masked("redis+sentinel://:secret@a,b:1/main/3"),
            "redis+sentinel://a:26379,b:1/main"
        );
        assert_eq!(masked("redis+cluster://u:secret@a:7000,b"), "redis+cluster://a:7000,b:6379");
        assert_eq!(
            masked("redis+unix://u:secret@/run/redis.sock?db=3"),
            "redis+unix:///run/redis.sock?db=3"
        );
        assert_eq!(masked("redis+unix:///run/redis.sock"), "redis+unix:///run/redis.sock");
        assert_eq!(
            masked("redis+sentinel://a/main?sentinel_username=u&sentinel_password=secret"),
            "redis+sentinel://a:26379/main"
        );
        let config = RedisConfig::parse("redis://db?prefix=locks%3A&min_replicas=1").expect("read");
        assert_eq!((config.prefix.as_str(), config.min_replicas), ("locks:", 1));
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn the_environment_adds_what_the_address_lacks() {
        let with = |url, password: Option<&str>, db: Option<&str>| {
            with_parts(url, password.map(Into::into), db.map(Into::into)).expect("understood")
        };
        assert_eq!(with("redis://h", None, None), "redis://h");
        assert_eq!(with("redis://h:1", Some("p@"), Some("4")), "redis://:%70%40@h:1/4");
        assert_eq!(
            with("redis://:x@h/1?prefix=p", Some("y"), Some("4")),
            "redis://:x@h/4?prefix=p"
        );
        assert_eq!(
            with("redis+sentinel://a,b/main", Some("p"), None),
            "redis+sentinel://:%70@a,b/main"
        );
        let socket = with("redis+unix:///run/redis.sock", Some("p"), None);
        assert!(RedisConfig::parse(&socket).is_ok(), "{socket}");
        assert!(with_parts("redis://h", None, Some("x".into())).is_err());
    }

    #[test]
    fn what_is_not_understood_is_refused_without_repeating_a_password() {
        for bad in [
            "redis:secret",
            "http://:secret@h",
            "redis://:secret@h:port",
            "redis://:secret@h/db",
            "redis://:secret@h?prefx=secret2",
            "redis://:secret@h?min_replicas=secret",
            "redis+sentinel://:secret@h",
            "redis+cluster://:secret@h/3",
            "redis+unix://:secret@",
            "redis+unix:///run/redis.sock?db=secret",
            "redis+http://:secret@h",
            "rediss+unix:///secret",
            "redis://:secret@h?ca=/secret.pem",
            "redis://:secret@h?db=3",
            "redis://h?sentinel_password=secret",
            "redis+sentinel://h/main?sentinel_password=%ffsecret",
            "redis://:secret@h?prefix=a&prefix=b",
            "redis://:secret@h?min_replicas=1&min_replicas=1",
            "redis://:se/secret@h",
            "redis://u:12#secret@h",
            "redis://u:12/secret@h",
            "redis://:se?secret@h",
        ] {
            let error = RedisConfig::parse(bad).expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{bad}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        }
        for odd in ["redis://:a/b@h", "redis://u:1#b@h", "redis://:a?b@h", "redis://:a:b%@h:x"] {
            let error = RedisConfig::parse(odd).expect_err(odd);
            assert!(error.help().is_some_and(|help| help.contains("%2F")), "{odd}: {error}");
        }
        assert!(RedisConfig::parse("redis://:a%2Fb%40c%23@h?prefix=x").is_ok());
    }
}
