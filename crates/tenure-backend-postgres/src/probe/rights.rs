//! Whether this user may do all that locks need, and what is missing, as statements that grant it.

use tenure_core::probe::good;
use tenure_core::{Finding, Standing};

use super::Place;
use super::asked::Asked;
use crate::config::Room;
use crate::install::{self, quoted};
use crate::lease::VERSION;

/// Whether everything is on the server that locks need.
pub(super) fn is_installed(asked: &Asked, place: &Place) -> bool {
    match place.room {
        Room::Lease => asked.installed.is_some_and(|version| VERSION <= version),
        Room::Advisory => asked.schema.as_ref().is_some_and(|s| s.usage && s.fence == Some(true)),
    }
}

pub(super) fn rights(asked: &Asked, place: &Place) -> Finding {
    let user = &asked.user;
    let finding = match missing(asked, place) {
        Missing::Nothing => good("rights", format!("the user {user} may do all that locks need")),
        Missing::Install { by_us: true, what } => Finding::new(
            "rights",
            Standing::Note,
            format!("{what}: the first use does that, or `tenure install`; the user {user} may"),
        ),
        Missing::Install { by_us: false, what } => Finding::new(
            "rights",
            Standing::Bad,
            format!("{what}, and the user {user} may not do that"),
        )
        .with_help(format!(
            "let `tenure install` be run by the owner of the schema, or by a user with CREATE on the \
             database; `tenure install --print` shows the SQL. Then: {}",
            grants(&install::rights(place.room, &place.schema), user)
        ))
        .with_fact("missing", install::rights(place.room, &place.schema)),
        Missing::Grants(rights) => {
            let detail = format!("the user {user} may not do all that locks need");
            Finding::new("rights", Standing::Bad, detail)
                .with_help(grants(&rights, user))
                .with_fact("missing", rights)
        }
    };
    let schema = asked.schema.as_ref();
    finding
        .with_fact("user", user.as_str())
        .with_fact("schema", place.schema.as_str())
        .with_fact("owner", schema.map(|schema| schema.owner.as_str()))
        .with_fact("installed", asked.installed)
}

enum Missing {
    Nothing,
    /// Something has to be installed first, or brought up to date; perhaps we may.
    Install {
        by_us: bool,
        what: String,
    },
    /// These rights.
    Grants(Vec<String>),
}

fn missing(asked: &Asked, place: &Place) -> Missing {
    let name = &place.schema;
    let Some(schema) = &asked.schema else {
        let what = format!("the schema {name} has to be installed");
        return Missing::Install { by_us: asked.may_create, what };
    };
    let what = match place.room {
        Room::Lease if !schema.version => {
            Some(format!("the lease table has to be installed in {name}"))
        }
        Room::Lease if asked.installed.is_some_and(|version| version < VERSION) => Some(format!(
            "the lease table in {name} is of version {}, and has to become version {VERSION}",
            asked.installed.unwrap_or_default()
        )),
        Room::Advisory if schema.fence.is_none() => {
            Some(format!("the sequence {name}.fence has to be made"))
        }
        _ => None,
    };
    if let Some(what) = what {
        return Missing::Install { by_us: schema.owned || asked.superuser, what };
    }
    let needed = install::rights(place.room, name);
    // In that order.
    let has = [schema.usage, schema.fence == Some(true)];
    let mut rights: Vec<_> =
        needed.into_iter().zip(has).filter(|(_, has)| !has).map(|(right, _)| right).collect();
    if place.room == Room::Lease && !schema.refused.is_empty() {
        rights.push(format!("EXECUTE ON ALL FUNCTIONS IN SCHEMA {name}"));
    }
    if rights.is_empty() { Missing::Nothing } else { Missing::Grants(rights) }
}

/// As statements.
fn grants(rights: &[String], user: &str) -> String {
    let user = quoted(user);
    let all: Vec<_> = rights.iter().map(|right| format!("GRANT {right} TO {user};")).collect();
    all.join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::asked::Schema;
    use super::*;

    fn about(room: Room, asked: &Asked) -> Finding {
        let schema = "tenure".into();
        rights(asked, &Place { room, pooled: false, listens: false, max_locks: None, schema })
    }

    #[test]
    fn what_is_missing_is_told_as_the_statements_that_grant_it() {
        let user = "My App".to_owned();
        let schema = Schema { version: true, refused: vec!["look".into()], ..Schema::default() };
        let asked = Asked { user, schema: Some(schema.clone()), ..Asked::default() };
        let finding = about(Room::Lease, &asked);
        assert_eq!(finding.standing, Standing::Bad);
        assert_eq!(
            finding.help.as_deref(),
            Some(
                "GRANT USAGE ON SCHEMA tenure TO \"My App\"; \
                 GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA tenure TO \"My App\";"
            )
        );
        let schema = Schema { usage: true, fence: Some(false), ..schema };
        let finding = about(Room::Advisory, &Asked { schema: Some(schema), ..asked });
        assert_eq!(finding.facts["missing"], serde_json::json!(["USAGE ON SEQUENCE tenure.fence"]));
    }

    #[test]
    fn what_is_not_installed_is_bad_only_if_we_may_not_install_it() {
        for (may_create, standing) in [(true, Standing::Note), (false, Standing::Bad)] {
            let asked = Asked { may_create, user: "app".into(), ..Asked::default() };
            assert_eq!(about(Room::Lease, &asked).standing, standing);
            assert_eq!(about(Room::Advisory, &asked).standing, standing);
        }
        let schema = Schema { usage: true, version: true, ..Schema::default() };
        let old = Asked { schema: Some(schema), installed: Some(0), ..Asked::default() };
        assert!(about(Room::Lease, &old).detail.contains("has to become version"));
        assert!(!is_installed(
            &old,
            &Place {
                room: Room::Lease,
                pooled: false,
                listens: false,
                max_locks: None,
                schema: "tenure".into()
            }
        ));
    }
}
