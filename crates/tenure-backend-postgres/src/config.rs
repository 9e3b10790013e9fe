//! Where the locks are kept and how.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tenure_core::{Error, ErrorKind, Result};
use tokio_postgres::Config as Driver;
use tokio_postgres::config::{Host, SslMode};

use crate::address::{Address, is_pairs};
use crate::tls::Tls;

/// What the parameters of our own are called.
const KNOWN: &str = "room, schema, listen, max_locks, and those of libpq";
/// The schema of the lease table, and of the fence of advisory locks.
const SCHEMA: &str = "tenure";
/// How long a schema's name may be, with room for what is put behind it.
const SCHEMA_MAX: usize = 40;
/// Variables with whole connection strings, the first one that is set counts.
const STRINGS: [&str; 2] = ["TENURE_LOCK_POSTGRES_CONNECTION", "PGCONNECTION"];
/// Variables with one part each, and the keys they are for.
const PARTS: [(&str, &str); 9] = [
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGPORT", "port"),
    ("PGDATABASE", "dbname"),
    ("PGUSER", "user"),
    ("PGPASSWORD", "password"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
];
/// Where Debian's servers have their socket.
const SOCKETS: &str = "/var/run/postgresql";
/// How long a server is given to answer when a connection is made.
const CONNECT: Duration = Duration::from_secs(5);

/// How locks are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Room {
    /// Leases in a table.
    Lease,
    /// Session advisory locks.
    Advisory,
}

/// Where the locks are kept, and how.
#[derive(Clone)]
pub struct PostgresConfig {
    pub(crate) room: Room,
    pub(crate) server: Server,
    /// A server to listen at that is not behind a pooler.
    pub(crate) listen: Option<Server>,
    pub(crate) schema: Arc<str>,
    /// The most locks that this process holds at a time, if it was said.
    pub(crate) max_locks: Option<usize>,
}

/// A server, and who it has to be.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) driver: Driver,
    pub(crate) tls: Tls,
}

impl PostgresConfig {
    /// Reads an address:
    ///
    /// - `postgres://[user[:password]@]host[:port],…/database`, also `postgresql://…`: a lease table
    /// - `postgres+advisory://…`: session advisory locks
    /// - `host=… port=… dbname=… user=… password=…`: a lease table, or with `room=advisory`
    ///   advisory locks
    /// - `postgres://` or `postgres+advisory://` alone: what `TENURE_LOCK_POSTGRES_CONNECTION`
    ///   says, or else `PGCONNECTION`; what that lacks is taken from `PGHOST`, `PGHOSTADDR`, `PGPORT`,
    ///   `PGDATABASE`, `PGUSER`, `PGPASSWORD`, `PGSSLMODE`, `PGSSLROOTCERT`, `PGCONNECT_TIMEOUT`
    ///
    /// Parameters are those of libpq that the driver knows, among them `sslmode` (`disable`,
    /// `prefer`, `require`, `verify-ca`, `verify-full`) and `sslrootcert` (a file, or `system`); and
    /// `schema` (`tenure` if it is not given), `listen` (an address that is not behind a pooler),
    /// and `max_locks` (how many advisory locks this process holds at most).
    ///
    /// # Errors
    /// `Invalid` if it is not understood; the message never repeats a password.
    pub fn from_url(url: &str) -> Result<Self> {
        Self::read(url, &|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn read(url: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let mut room = room(url)?;
        let mut address = Address::parse(url).map_err(invalid)?;
        if is_alone(url) {
            let string = STRINGS.iter().find_map(|name| Some((name, variable(name)?)));
            if let Some((name, string)) = string {
                let said = Address::parse(&string)
                    .map_err(|what| invalid(&format!("of the variable {name}: {what}")))?;
                for (key, value) in said.pairs {
                    // Which room is said by the address that was given.
                    if key != "room" {
                        address.set_missing(&key, value);
                    }
                }
            }
            for (name, key) in PARTS {
                if let Some(value) = variable(name) {
                    address.set_missing(key, value);
                }
            }
        }
        match address.take("room").as_deref() {
            None => {}
            Some("lease") => room = Room::Lease,
            Some("advisory") => room = Room::Advisory,
            Some(_) => return Err(invalid("`room` is `lease` or `advisory`")),
        }
        let listen = match address.take("listen") {
            Some(listen) => Some(Server::of(
                Address::parse(&listen)
                    .map_err(|what| invalid(&format!("of its parameter `listen`: {what}")))?,
            )?),
            None => None,
        };
        let max_locks = match address.take("max_locks").map(|max| max.parse()) {
            None => None,
            Some(Ok(max)) if 0 < max => Some(max),
            Some(_) => return Err(invalid("`max_locks` is a number of locks")),
        };
        let schema = address.take("schema").unwrap_or_else(|| SCHEMA.to_owned());
        check_schema(&schema)?;
        Ok(Self { room, server: Server::of(address)?, listen, schema: schema.into(), max_locks })
    }

    /// A configuration for a driver's own, without TLS.
    pub fn from_driver(room: Room, driver: Driver) -> Self {
        let server = Server { driver, tls: Tls::Off };
        Self { room, server, listen: None, schema: SCHEMA.into(), max_locks: None }
    }

    /// How locks are kept.
    pub fn room(&self) -> Room {
        self.room
    }

    /// Names the schema of what is installed on the server.
    ///
    /// # Errors
    /// `Invalid` if it is not small letters, digits and `_`, beginning with a letter.
    pub fn schema(mut self, schema: &str) -> Result<Self> {
        check_schema(schema)?;
        self.schema = schema.into();
        Ok(self)
    }

    /// How many advisory locks this process holds at most.
    #[must_use]
    pub fn max_locks(mut self, max: usize) -> Self {
        self.max_locks = Some(max);
        self
    }

    /// The address without credentials.
    pub(crate) fn masked(&self) -> String {
        let scheme = match self.room {
            Room::Lease => "postgres",
            Room::Advisory => "postgres+advisory",
        };
        let schema = match &*self.schema {
            SCHEMA => String::new(),
            schema => format!("?schema={schema}"),
        };
        format!("{scheme}://{}{schema}", self.server.masked())
    }
}

impl Server {
    fn of(mut address: Address) -> Result<Self> {
        let mode = address.take("sslmode");
        let tls = Tls::new(mode.as_deref(), address.take("sslrootcert"))?;
        if address.get("host").is_none() && address.get("hostaddr").is_none() {
            let local = if std::path::Path::new(SOCKETS).is_dir() { SOCKETS } else { "localhost" };
            address.set_missing("host", local.to_owned());
        }
        // Sessions are named by us, so that people see who holds what.
        address.take("application_name");
        // The library's own message may repeat what it does not understand.
        let mut driver: Driver = address.as_pairs().parse().map_err(|_| {
            invalid(&format!("a parameter or a value of it is not known; known are {KNOWN}"))
        })?;
        driver.ssl_mode(match tls {
            Tls::Off => SslMode::Disable,
            Tls::Preferred(_) => SslMode::Prefer,
            Tls::Required(_) => SslMode::Require,
        });
        if driver.get_connect_timeout().is_none() {
            driver.connect_timeout(CONNECT);
        }
        Ok(Self { driver, tls })
    }

    fn masked(&self) -> String {
        let ports = self.driver.get_ports();
        let port = |at: usize| ports.get(at).or(ports.first()).copied().unwrap_or(5432);
        let mut hosts: Vec<String> = Vec::new();
        for (at, host) in self.driver.get_hosts().iter().enumerate() {
            hosts.push(match host {
                Host::Tcp(host) if host.contains(':') => format!("[{host}]:{}", port(at)),
                Host::Tcp(host) => format!("{host}:{}", port(at)),
                #[cfg(unix)]
                Host::Unix(folder) => format!("{}:{}", folder.display(), port(at)),
            });
        }
        if hosts.is_empty() {
            let addresses = self.driver.get_hostaddrs().iter().enumerate();
            hosts = addresses.map(|(at, ip)| format!("{ip}:{}", port(at))).collect();
        }
        let database = self.driver.get_dbname().or(self.driver.get_user()).unwrap_or_default();
        format!("{}/{database}", hosts.join(","))
    }
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("address", &self.masked())
            .field("tls", &self.server.tls)
            .field("listen", &self.listen)
            .field("max_locks", &self.max_locks)
            .finish()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

fn room(url: &str) -> Result<Room> {
    if is_pairs(url) {
        return Ok(Room::Lease);
    }
    match url.split_once("://").map(|(scheme, _)| scheme) {
        Some("postgres" | "postgresql") => Ok(Room::Lease),
        Some("postgres+advisory" | "postgresql+advisory") => Ok(Room::Advisory),
        _ => Err(invalid("its scheme is not one of postgres, postgresql, postgres+advisory")),
    }
}

/// Whether a URL says nothing but its scheme, and parameters.
fn is_alone(url: &str) -> bool {
    !is_pairs(url)
        && url.split_once("://").is_some_and(|(_, rest)| {
            rest.split('?').next().is_none_or(|rest| rest.trim_matches('/').is_empty())
        })
}

fn check_schema(schema: &str) -> Result<()> {
    let fits = schema.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && schema.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && schema.len() <= SCHEMA_MAX
        && !schema.starts_with("pg_");
    if fits {
        return Ok(());
    }
    Err(invalid("`schema` is up to 40 small letters, digits and `_`, beginning with a letter"))
}

pub(crate) fn invalid(what: &str) -> Error {
    Error::new(
        ErrorKind::Invalid,
        format!("the address of a PostgreSQL store is not understood: {what}"),
    )
    .with_help("for example `postgres://user:password@host:5432/database?sslmode=verify-full`")
    .with_nothing_changed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str, variables: &[(&str, &str)]) -> Result<PostgresConfig> {
        PostgresConfig::read(url, &|name| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn masked(url: &str, variables: &[(&str, &str)]) -> String {
        read(url, variables).expect("it is understood").masked()
    }

    #[test]
    fn addresses_are_read_and_shown_without_credentials() {
        assert_eq!(masked("postgres://u:secret@db/app", &[]), "postgres://db:5432/app");
        assert_eq!(masked("postgresql://u:secret@a:1,b/app", &[]), "postgres://a:1,b:5432/app");
        assert_eq!(
            masked("postgres+advisory://u:secret@db:6432/app?schema=locks", &[]),
            "postgres+advisory://db:6432/app?schema=locks"
        );
        assert_eq!(
            masked("host=db port=1 user=u password=secret dbname=app", &[]),
            "postgres://db:1/app"
        );
        assert_eq!(masked("host=db user=u room=advisory", &[]), "postgres+advisory://db:5432/u");
        let config = read("postgres://u:secret@db?listen=postgres://u:secret@db:1", &[]).unwrap();
        assert_eq!(format!("{:?}", config.listen), "Some(db:1/u)");
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn a_scheme_alone_reads_the_environment() {
        let all = [
            ("TENURE_LOCK_POSTGRES_CONNECTION", "host=first user=u password=x"),
            ("PGCONNECTION", "postgres://u@second/db"),
            ("PGHOST", "third"),
            ("PGDATABASE", "app"),
            ("PGPORT", "7"),
        ];
        assert_eq!(masked("postgres://", &all), "postgres://first:7/app");
        assert_eq!(masked("postgres://", &all[1..]), "postgres://second:5432/db");
        assert_eq!(masked("postgres+advisory://", &all[2..]), "postgres+advisory://third:7/app");
        assert_eq!(masked("postgres://?schema=s", &all[2..]), "postgres://third:7/app?schema=s");
        assert_eq!(masked("postgres://h/d", &all), "postgres://h:5432/d");
        let url = [("PGCONNECTION", "postgres+advisory://h/d")];
        assert_eq!(masked("postgres://", &url), "postgres://h:5432/d");
    }

    #[test]
    fn what_is_not_understood_is_refused_without_repeating_a_password() {
        for bad in [
            "postgres:secret",
            "http://u:secret@h",
            "postgres://u:secret@h:port",
            "postgres://u:secret@h?nonsense=secret",
            "postgres://u:secret@h?schema=Secret",
            "postgres://u:secret@h?schema=pg_secret",
            "postgres://u:secret@h?sslmode=secret",
            "postgres://u:secret@h?listen=secret",
            "postgres://u:secret@h?room=secret",
            "postgres://u:secret@h?max_locks=secret",
            "postgres://u:secret@h?schema=a&schema=b",
            "host=h password='secret",
            "host=h password=secret secret",
        ] {
            let error = read(bad, &[]).expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{bad}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        }
        let variables = [("PGCONNECTION", "secret")];
        let error = read("postgres://", &variables).expect_err("it is no address").to_string();
        assert!(error.contains("PGCONNECTION") && !error.contains("secret"), "{error}");
    }
}
