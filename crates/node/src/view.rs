//! What the outside sees of one run of a sandbox.

use atoll_types::{Ending, SandboxId, Timestamp};
use atoll_wire::{connect::Code, envd::ENVD_VERSION, node as wire};

/// One run of a sandbox, as told to watchers.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub id: SandboxId,
    pub generation: u64,
    pub standing: Standing,
    pub started_at: Option<Timestamp>,
    pub deadline: Timestamp,
}

/// Where it stands.
#[derive(Debug, Clone)]
pub(crate) enum Standing {
    Starting,
    Running,
    Stopping,
    /// With the code for whoever still waits for it to become ready.
    Ended(Ending, Code),
}

impl View {
    /// How it ended, if it has.
    pub(crate) fn ending(&self) -> Option<&Ending> {
        match &self.standing {
            Standing::Ended(ending, _) => Some(ending),
            _ => None,
        }
    }
}

impl From<View> for wire::Sandbox {
    fn from(view: View) -> Self {
        let View { id, generation, standing, started_at, deadline } = view;
        let (state, ending) = match standing {
            Standing::Starting => (wire::SandboxState::Starting, None),
            Standing::Running => (wire::SandboxState::Running, None),
            Standing::Stopping => (wire::SandboxState::Stopping, None),
            Standing::Ended(ending, _) => (wire::SandboxState::Ended, Some(ending)),
        };
        Self {
            sandbox_id: id.to_string(),
            generation,
            state: state.into(),
            started_at: started_at.map(Into::into),
            deadline: Some(deadline.into()),
            envd_version: ENVD_VERSION.into(),
            ending: ending.map(|Ending { reason, exit_code, at, detail }| wire::Ending {
                reason: reason.to_string(),
                exit_code,
                at: Some(at.into()),
                detail,
            }),
        }
    }
}
