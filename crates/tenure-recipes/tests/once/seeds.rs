//! Latent bugs of the designs that this one follows, none of which it may have.

use tenure_recipes::once::{Key, Source};
use tokio::sync::oneshot;

use crate::stage::{Stage, calls, find, says, until, until_followers};

/// What a caller saw.
#[derive(Debug)]
struct Seen {
    value: String,
    /// Whether it is of the caller's own work.
    own: bool,
}

/// What is wrong with what callers of one key saw: more than one accepted result, or readers that
/// disagree.
fn judge(seen: &[Seen]) -> Result<(), String> {
    let accepted = seen.iter().filter(|s| s.own).count();
    if 1 < accepted {
        return Err(format!("{accepted} results were accepted"));
    }
    match seen.iter().find(|s| s.value != seen[0].value) {
        Some(other) => Err(format!("{:?} and {:?} were both read", seen[0].value, other.value)),
        None => Ok(()),
    }
}

/// A leader is given up, its successor ends, and then the leader ends, too.
pub(crate) async fn a_late_done_is_refused(stage: &Stage) {
    let config = stage.config();
    let once = stage.once(&config);
    let (end, ends) = oneshot::channel();
    let late = calls(&once, "key", move |_| async move {
        let _ = ends.await;
        Ok("the late one's".to_owned())
    });
    until("it works", async || once.status("key").await.unwrap().attempt == Some(1)).await;
    let successor = says(&stage.once(&config), "key", "the successor's");
    until_followers(&once, "key", 1).await;
    let name = Key::from("key").lock_name(config.scope()).unwrap();
    stage.manager().force_release(name, None, "it is slow").await.unwrap();
    let mut ended = vec![successor.await.unwrap(), find(&once, "key").await];
    // It may have been told, and its work dropped, before it could end.
    let _ = end.send(());
    ended.push(late.await.unwrap());
    ended.push(find(&once, "key").await);
    let seen: Vec<Seen> = ended
        .into_iter()
        .map(|ended| ended.unwrap())
        .map(|o| Seen { value: o.value, own: o.source == Source::Executed })
        .collect();
    judge(&seen).unwrap();
    assert!(seen.iter().all(|s| s.value == "the successor's"), "{seen:?}");
}

/// Control N14: a leader that writes `done` without asking whether it still leads.
mod unconditional_done {
    use super::*;

    #[derive(Default)]
    struct Naive {
        /// `None` in progress, `Some` done.
        record: Option<Option<String>>,
    }

    impl Naive {
        fn leads(&mut self) -> bool {
            let leads = self.record.is_none();
            self.record.get_or_insert(None);
            leads
        }

        /// The mark of a leader expires although the leader is at it.
        fn expire(&mut self) {
            self.record = None;
        }

        fn done(&mut self, result: &str) -> String {
            self.record = Some(Some(result.to_owned()));
            result.to_owned()
        }

        fn read(&self) -> Option<String> {
            self.record.clone().flatten()
        }
    }

    #[test]
    fn the_control_with_an_unconditional_done_is_caught() {
        let mut naive = Naive::default();
        assert!(naive.leads());
        naive.expire();
        assert!(naive.leads(), "the successor");
        let mut ended = vec![
            Seen { value: naive.done("the successor's"), own: true },
            Seen { value: naive.read().unwrap(), own: false },
        ];
        assert_eq!(judge(&ended), Ok(()));
        ended.push(Seen { value: naive.done("the late one's"), own: true });
        ended.push(Seen { value: naive.read().unwrap(), own: false });
        let caught = judge(&ended).unwrap_err();
        assert!(caught.contains("2 results were accepted"), "{caught}");
        // Even if the late one is not counted, readers disagree.
        ended.remove(2);
        assert!(judge(&ended).unwrap_err().contains("both read"));
    }
}
