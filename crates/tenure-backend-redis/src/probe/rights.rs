//! Whether this user may do all that locks need: each command is tried, on a lock of our own.

use redis::{ErrorKind, RedisError};
use tenure_core::probe::good;
use tenure_core::{Finding, Standing};

use super::Probe;
use crate::config::Place;

/// What the channels' names begin with.
const CHANNEL: &str = "tenure:wake:";

impl Probe<'_> {
    pub(super) async fn rights(&mut self) -> Finding {
        let user = self.backend.config().user().to_owned();
        let mut missing = Vec::new();
        let (lock, cell) = (self.keys.lock.clone(), self.keys.cell.clone());
        let channel = format!("{CHANNEL}doctor");
        let prefix = self.backend.config().prefix.clone();
        let lock_rule = format!("~{prefix}*");
        let tries: [(&str, &[&str]); 16] = [
            ("~", &["SET", &lock, "doctor", "NX", "PX", "1000"]),
            ("~", &["GET", &lock]),
            ("~", &["PTTL", &lock]),
            ("~", &["DEL", &lock]),
            ("{", &["HSET", &cell, "f", "0"]),
            ("{", &["HMGET", &cell, "f"]),
            ("{", &["HGET", &cell, "f"]),
            ("{", &["HDEL", &cell, "f"]),
            ("{", &["PEXPIREAT", &cell, "1"]),
            ("{", &["DEL", &cell]),
            ("", &["TIME"]),
            ("", &["EVAL", "return 1", "0"]),
            ("", &["EVALSHA", "0000000000000000000000000000000000000000", "0"]),
            ("", &["PING"]),
            ("", &["SCAN", "0", "COUNT", "1"]),
            ("&", &["PUBLISH", &channel, ""]),
        ];
        for (on, words) in tries {
            if let Err(error) = self.ask(words).await {
                missing.extend(Missing::of(&error, on, words[0]));
            }
        }
        let config = self.backend.config();
        let of_replicas: &[&[&str]] = &[&["EXISTS", &cell], &["WAIT", "0", "1"]];
        let of_cluster: &[&[&str]] =
            &[&["ASKING"], &["CLUSTER", "SLOTS"], &["CLUSTER", "NODES"], &["CLUSTER", "INFO"]];
        let of_sentinel: &[&[&str]] = &[&["ROLE"]];
        let further = [
            (0 < config.min_replicas, of_replicas),
            (config.is_cluster(), of_cluster),
            (matches!(config.place, Place::Sentinel { .. }), of_sentinel),
        ];
        for words in further.iter().filter(|(asked, _)| *asked).flat_map(|(_, words)| *words) {
            if let Err(error) = self.ask(words).await {
                let rule = if words[0] == "CLUSTER" { words.join("|") } else { words[0].into() };
                missing.extend(Missing::of(&error, "", &rule));
            }
        }
        if let Err(error) = self.servers.listen(&channel).await {
            missing.extend(Missing::of(&error, "&", "SUBSCRIBE"));
        }
        told(&user, &missing, &lock_rule)
    }
}

/// A right that is missing.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Missing {
    Command(String),
    /// Keys or channels: `~` those of locks, `{` those of cells, `&` channels.
    On(String),
}

impl Missing {
    /// What of `error` is about rights, after `command` was sent about something of the kind `on`.
    fn of(error: &RedisError, on: &str, command: &str) -> Option<Self> {
        let says = error.to_string();
        let gone = error.kind() == ErrorKind::Server(redis::ServerErrorKind::ResponseError)
            && says.contains("unknown command");
        let denied = error.code() == Some("NOPERM") || says.contains("NOPERM");
        if !denied && !gone {
            return None;
        }
        let about_place =
            says.contains("keys") || says.contains("channel") || says.contains(" key ");
        Some(match denied && about_place && !on.is_empty() {
            true => Self::On(on.to_owned()),
            false => Self::Command(command.to_owned()),
        })
    }
}

fn told(user: &str, missing: &[Missing], lock_rule: &str) -> Finding {
    let mut rules: Vec<String> = Vec::new();
    for one in missing {
        let rule = match one {
            Missing::Command(command) => format!("+{}", command.to_lowercase()),
            Missing::On(kind) if kind == "~" => lock_rule.to_owned(),
            Missing::On(kind) if kind == "{" => "~tenure:{*".to_owned(),
            Missing::On(_) => format!("&{CHANNEL}*"),
        };
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    let only_looking = !rules.is_empty() && rules.iter().all(|rule| rule == "+scan");
    let finding = if rules.is_empty() {
        good("rights", format!("the user {user} may do all that locks need"))
    } else if only_looking {
        let detail = format!("the user {user} may lock, but not list the locks");
        Finding::new("rights", Standing::Note, detail)
    } else {
        let detail = format!("the user {user} may not do all that locks need");
        Finding::new("rights", Standing::Bad, detail)
    };
    let finding = finding.with_fact("user", user).with_fact("missing", rules.clone());
    match rules.is_empty() {
        true => finding,
        false => finding.with_help(format!("ACL SETUSER {user} {}", rules.join(" "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_as_rules() {
        let missing = [
            Missing::Command("EVAL".into()),
            Missing::On("{".into()),
            Missing::On("{".into()),
            Missing::On("~".into()),
            Missing::On("&".into()),
        ];
        let finding = told("app", &missing, "~locks:*");
        assert_eq!(finding.standing, Standing::Bad);
        let help = "ACL SETUSER app +eval ~tenure:{* ~locks:* &tenure:wake:*";
        assert_eq!(finding.help.as_deref(), Some(help));
        let finding = told("app", &[Missing::Command("SCAN".into())], "~*");
        assert_eq!(finding.standing, Standing::Note);
        assert_eq!(told("app", &[], "~*").standing, Standing::Good);
    }
}
