//! What became of the attempts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct as _};

use crate::table::{self, visible};

/// What became of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    NotApplicable,
    Held,
    Inconclusive,
    Breached,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::NotApplicable => "skipped",
            Self::Held => "held",
            Self::Inconclusive => "UNCLEAR",
            Self::Breached => "BREACHED",
        }
    }
}

/// One attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attempt {
    pub group: String,
    pub name: String,
    /// Who made it.
    #[serde(default)]
    pub user: String,
    pub outcome: Outcome,
    /// What shows it.
    pub how: String,
    /// What its packets carry.
    #[serde(skip_serializing)]
    pub label: String,
}

impl Attempt {
    /// One that was made from outside, as root.
    pub fn outside(group: &str, name: &str, outcome: Outcome, how: &str) -> Self {
        Self { group: group.into(), name: name.into(), user: "root".into(), outcome, how: how.into(), label: String::new() }
    }
}

/// All of them.
#[derive(Debug)]
pub struct Report {
    pub attempts: Vec<Attempt>,
    /// What is not as it was on the host.
    pub changed: Vec<String>,
    /// The host was watched.
    pub on_host: bool,
}

/// How much of an explanation fits into a table.
const EXPLANATION: usize = 90;

impl Report {
    /// Nothing is open, and nothing is unknown.
    pub fn all_held(&self) -> bool {
        self.changed.is_empty() && self.attempts.iter().all(|attempt| attempt.outcome <= Outcome::Held)
    }

    fn count(&self, outcome: Outcome) -> usize {
        self.attempts.iter().filter(|attempt| attempt.outcome == outcome).count()
    }

    /// For people: a line for each attempt, whoever made it, with the worst that came of it.
    pub fn table(&self) -> String {
        let mut names: Vec<(&str, &str)> = Vec::new();
        let mut made: BTreeMap<&str, Vec<&Attempt>> = BTreeMap::new();
        for attempt in &self.attempts {
            let tries = made.entry(&attempt.name).or_default();
            if tries.is_empty() {
                names.push((&attempt.group, &attempt.name));
            }
            tries.push(attempt);
        }
        let rows = names.iter().map(|(group, name)| {
            let tries = &made[name];
            let by = |user: &str| tries.iter().find(|attempt| attempt.user == user).map_or("", |attempt| attempt.outcome.word()).to_owned();
            let how = tries.iter().rev().max_by_key(|attempt| attempt.outcome).map_or("", |attempt| &attempt.how);
            let short: String = how.chars().take(EXPLANATION).collect();
            vec![(*group).into(), (*name).into(), by("root"), by("user"), visible(&short)]
        });
        let mut text = table::render(&["GROUP", "ATTEMPT", "AS ROOT", "AS USER", "HOW"], &rows.collect::<Vec<_>>());
        for change in &self.changed {
            text += &format!("CHANGED on the host: {}\n", visible(change));
        }
        if !self.on_host {
            text += "The API is on another machine: run this there, as root, to have the host watched as well.\n";
        }
        let [held, breached, unclear, skipped] =
            [Outcome::Held, Outcome::Breached, Outcome::Inconclusive, Outcome::NotApplicable].map(|outcome| self.count(outcome));
        text + &format!(
            "{} attempts, {} tries: {held} held, {breached} breached, {unclear} unclear, {skipped} skipped\n",
            names.len(),
            self.attempts.len()
        )
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Report", 7)?;
        fields.serialize_field("held", &self.count(Outcome::Held))?;
        fields.serialize_field("breached", &self.count(Outcome::Breached))?;
        fields.serialize_field("inconclusive", &self.count(Outcome::Inconclusive))?;
        fields.serialize_field("not_applicable", &self.count(Outcome::NotApplicable))?;
        fields.serialize_field("on_host", &self.on_host)?;
        fields.serialize_field("changed", &self.changed)?;
        fields.serialize_field("attempts", &self.attempts)?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(outcomes: &[(&str, &str, Outcome)]) -> Report {
        let attempt = |(name, user, outcome): &(&str, &str, Outcome)| Attempt {
            user: (*user).into(),
            ..Attempt::outside("kernel", name, *outcome, &format!("as {user}"))
        };
        Report { attempts: outcomes.iter().map(attempt).collect(), changed: Vec::new(), on_host: true }
    }

    #[test]
    fn the_worst_of_an_attempt_is_explained() {
        let found = report(&[("bpf", "root", Outcome::Held), ("bpf", "user", Outcome::Breached)]);
        let text = found.table();
        let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row, ["kernel", "bpf", "held", "BREACHED", "as", "user"]);
        assert!(text.ends_with("1 attempts, 2 tries: 1 held, 1 breached, 0 unclear, 0 skipped\n") && !found.all_held(), "{text}");
    }

    #[test]
    fn what_nobody_knows_has_not_held() {
        assert!(report(&[("a", "root", Outcome::Held), ("b", "root", Outcome::NotApplicable)]).all_held());
        assert!(!report(&[("a", "root", Outcome::Inconclusive)]).all_held());
        let changed = Report { changed: vec!["the clock".into()], ..report(&[]) };
        assert!(!changed.all_held() && changed.table().contains("CHANGED on the host: the clock"));
    }

    #[test]
    fn a_line_of_the_harness_is_read() {
        let line = r#"{"name":"bpf","group":"kernel","label":"<1 bpf 0>","outcome":"not_applicable","how":"x"}"#;
        let attempt: Attempt = serde_json::from_str(line).unwrap();
        assert_eq!((attempt.outcome, attempt.label.as_str()), (Outcome::NotApplicable, "<1 bpf 0>"));
        let json = serde_json::to_value(report(&[("bpf", "root", Outcome::Breached)])).unwrap();
        assert_eq!((&json["breached"], &json["attempts"][0]["outcome"]), (&1.into(), &"breached".into()));
    }
}
