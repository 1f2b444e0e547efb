//! What a sandbox shall be: the control plane's request, parsed once.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use atoll_types::{Egress, Resources, SandboxId, Secret, TemplateId, Timestamp};
use atoll_wire::node::{self as wire, SandboxSpec};

/// A sandbox to run. No `Debug`: its variables may hold secrets.
#[derive(Clone)]
pub(crate) struct Spec {
    pub id: SandboxId,
    pub generation: u64,
    pub template_id: TemplateId,
    pub layers: Vec<LayerName>,
    pub resources: Resources,
    /// When its start has failed at the latest.
    pub deadline: Timestamp,
    /// How long it runs from when it is up.
    pub length: Duration,
    pub envs: BTreeMap<String, String>,
    pub access_token: Option<Secret>,
    pub default_user: String,
    pub default_workdir: Option<String>,
    pub egress: Egress,
}

/// Why a request describes no sandbox.
#[derive(Debug, thiserror::Error)]
#[error("{field}: {problem}")]
pub(crate) struct SpecError {
    field: &'static str,
    problem: String,
}

fn wrong(field: &'static str, problem: impl fmt::Display) -> SpecError {
    SpecError { field, problem: problem.to_string() }
}

/// Reads a sandbox ID of a request.
pub(crate) fn sandbox_id(text: &str) -> Result<SandboxId, SpecError> {
    text.parse().map_err(|e| wrong("sandbox_id", e))
}

/// Reads a deadline of a request.
pub(crate) fn deadline(at: Option<atoll_wire::Timestamp>) -> Result<Timestamp, SpecError> {
    at.ok_or_else(|| wrong("deadline", "missing"))?.to_utc().ok_or_else(|| wrong("deadline", "outside the calendar"))
}

impl TryFrom<SandboxSpec> for Spec {
    type Error = SpecError;

    fn try_from(spec: SandboxSpec) -> Result<Self, SpecError> {
        let SandboxSpec {
            sandbox_id: id,
            generation,
            template_id,
            layers,
            resources,
            deadline: at,
            envs,
            access_token,
            default_user,
            default_workdir,
            egress,
            length_ms,
        } = spec;
        let wire::Resources { cpu_count, memory_mib, disk_mib } = resources.ok_or_else(|| wrong("resources", "missing"))?;
        if cpu_count == 0 || memory_mib == 0 {
            return Err(wrong("resources", "cpu_count and memory_mib must not be zero"));
        }
        let wire::Egress { internet } = egress.ok_or_else(|| wrong("egress", "missing"))?;
        if let Some((name, _)) = envs.iter().find(|(k, v)| k.is_empty() || k.contains(['=', '\0']) || v.contains('\0')) {
            return Err(wrong("envs", format!("`{}` cannot be a variable of a process", name.escape_debug())));
        }
        if access_token.as_deref() == Some("") {
            return Err(wrong("access_token", "empty"));
        }
        Ok(Self {
            id: sandbox_id(&id)?,
            generation,
            template_id: template_id.parse().map_err(|e| wrong("template_id", e))?,
            layers: layers.iter().map(|layer| layer.parse()).collect::<Result<_, _>>().map_err(|e| wrong("layers", e))?,
            resources: Resources { cpu_count, memory_mib, disk_mib, ..Resources::default() },
            deadline: deadline(at)?,
            length: Duration::from_millis(length_ms),
            envs,
            access_token: access_token.map(Secret::new),
            default_user,
            default_workdir: default_workdir.filter(|dir| !dir.is_empty()),
            egress: Egress { internet },
        })
    }
}

/// The name of a layer in the layer store: `[a-z0-9._-]+` without a leading dot, so that it cannot leave the store's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LayerName(Box<str>);

/// A text that is no [`LayerName`].
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not the name of a layer")]
pub(crate) struct BadLayerName(String);

impl LayerName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LayerName {
    type Err = BadLayerName;

    fn from_str(text: &str) -> Result<Self, BadLayerName> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        if (1..=128).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(fits) {
            Ok(Self(text.into()))
        } else {
            Err(BadLayerName(text.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> SandboxSpec {
        SandboxSpec {
            sandbox_id: "i1".into(),
            generation: 1,
            template_id: "base".into(),
            layers: vec!["sha256-00ff".into()],
            resources: Some(wire::Resources { cpu_count: 1, memory_mib: 128, disk_mib: 512 }),
            deadline: Some(atoll_wire::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            envs: BTreeMap::from([("A".into(), "1".into())]),
            access_token: Some("secret".into()),
            default_user: "user".into(),
            default_workdir: None,
            egress: Some(wire::Egress { internet: true }),
            length_ms: 60_000,
        }
    }

    #[test]
    fn layers_stay_in_their_store() {
        for bad in ["", ".", "..", ".hidden", "a/b", "../a", "A", "a b", "a\0", &"a".repeat(129)] {
            assert!(bad.parse::<LayerName>().is_err(), "{bad:?}");
        }
        assert_eq!("sha256-0a.b_c".parse::<LayerName>().unwrap().as_str(), "sha256-0a.b_c");
    }

    #[test]
    fn says_which_field_is_wrong() {
        assert!(Spec::try_from(request()).is_ok());
        type Change = fn(&mut SandboxSpec);
        let broken: [(&str, Change); 8] = [
            ("sandbox_id", |s| s.sandbox_id = "../x".into()),
            ("template_id", |s| s.template_id = String::new()),
            ("layers", |s| s.layers.push("..".into())),
            ("resources", |s| s.resources = None),
            ("deadline", |s| s.deadline = Some(atoll_wire::Timestamp { seconds: i64::MAX, nanos: -1 })),
            ("envs", |s| drop(s.envs.insert("A=B".into(), String::new()))),
            ("access_token", |s| s.access_token = Some(String::new())),
            ("egress", |s| s.egress = None),
        ];
        for (field, change) in broken {
            let mut spec = request();
            change(&mut spec);
            let Err(error) = Spec::try_from(spec) else { panic!("{field} was accepted") };
            assert!(error.to_string().starts_with(field), "{error}");
        }
    }
}
