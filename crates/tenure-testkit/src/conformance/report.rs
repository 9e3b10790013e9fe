//! What became of the rules.

use std::fmt;
use std::time::Duration;

use super::rules::Need;

/// What became of one rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It held.
    Held,
    /// It did not hold, and this is how it showed.
    Broken(String),
    /// It came to no end in time.
    Hung,
    /// The store declares that it cannot do this.
    Skipped(Vec<Need>),
}

/// What became of each rule, in the order of the table.
#[derive(Clone, Debug)]
pub struct Report {
    pub(super) store: String,
    pub(super) outcomes: Vec<(&'static str, Outcome)>,
    pub(super) took: Duration,
}

impl Report {
    /// The rules that do not hold.
    pub fn broken(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.outcomes
            .iter()
            .filter(|(_, o)| matches!(o, Outcome::Broken(_) | Outcome::Hung))
            .map(|(rule, _)| *rule)
    }

    /// The rules that were left out, with what the store declares to lack.
    pub fn skipped(&self) -> impl Iterator<Item = (&'static str, &[Need])> + '_ {
        self.outcomes.iter().filter_map(|(rule, outcome)| match outcome {
            Outcome::Skipped(lacks) => Some((*rule, lacks.as_slice())),
            _ => None,
        })
    }

    /// What became of one rule.
    pub fn outcome(&self, rule: &str) -> Option<&Outcome> {
        self.outcomes.iter().find(|(name, _)| *name == rule).map(|(_, outcome)| outcome)
    }

    /// Fails the test unless every rule holds, and those left out lack nothing but `lacks`.
    ///
    /// # Panics
    /// With the report, if not.
    pub fn assert_holds_but_for(&self, lacks: &[Need]) {
        println!("{self}");
        assert!(self.broken().next().is_none(), "{self}");
        for (rule, lacking) in self.skipped() {
            let known = lacking.iter().any(|need| lacks.contains(need));
            assert!(known, "{rule} was skipped for {lacking:?}, which this store should have");
        }
        for lack in lacks {
            let told = self.skipped().any(|(_, lacking)| lacking.contains(lack));
            assert!(told, "no rule was skipped for {lack:?}: the store has it after all");
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.outcomes.iter().filter(|(_, o)| *o == Outcome::Held).count();
        let (rules, skipped) = (self.outcomes.len(), self.skipped().count());
        write!(
            f,
            "{}: {held} of {rules} rules hold, {skipped} skipped, {:.1} s",
            self.store,
            self.took.as_secs_f64()
        )?;
        for (rule, outcome) in &self.outcomes {
            match outcome {
                Outcome::Held => {}
                Outcome::Broken(how) => write!(f, "\n  broken   {rule}: {how}")?,
                Outcome::Hung => write!(f, "\n  hung     {rule}")?,
                Outcome::Skipped(lacks) => write!(f, "\n  skipped  {rule}: it lacks {lacks:?}")?,
            }
        }
        Ok(())
    }
}
