//! The calls that the control plane makes to its node.

use std::time::Duration;

use atoll_types::{EndReason, Ending, SandboxId, Timestamp};
use atoll_wire::{
    connect::{Client, Code, RpcError},
    node::{self as wire, rpc},
};

/// For calls that take no time on a healthy node.
const TIMEOUT: Duration = Duration::from_secs(10);
/// For calls that wait for processes to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// A node.
#[derive(Clone)]
pub(crate) struct Node(Client);

/// A sandbox that came up.
pub(crate) struct Up {
    pub(crate) envd_version: String,
    pub(crate) at: Timestamp,
    pub(crate) deadline: Timestamp,
}

impl Node {
    pub(crate) fn new(client: Client) -> Self {
        Self(client)
    }

    /// What the node is.
    pub(crate) async fn describe(&self) -> Result<wire::DescribeResponse, RpcError> {
        self.0.clone().with_timeout(TIMEOUT).unary(rpc::DESCRIBE, &wire::DescribeRequest {}).await
    }

    /// Starts the sandbox, or finds that this run of it is up.
    pub(crate) async fn ensure(&self, spec: wire::SandboxSpec, timeout: Duration) -> Result<Up, RpcError> {
        let request = wire::EnsureSandboxRequest { spec: Some(spec) };
        let reply: wire::EnsureSandboxResponse = self.0.clone().with_timeout(timeout).unary(rpc::ENSURE_SANDBOX, &request).await?;
        let broken = || RpcError::internal("the node's answer lacks the sandbox, or when it came up and is to end");
        let sandbox = reply.sandbox.ok_or_else(broken)?;
        let moment = |at: Option<atoll_wire::Timestamp>| at.and_then(atoll_wire::Timestamp::to_utc).ok_or_else(broken);
        Ok(Up { envd_version: sandbox.envd_version, at: moment(sandbox.started_at)?, deadline: moment(sandbox.deadline)? })
    }

    /// Ends the sandbox, if it is there.
    pub(crate) async fn remove(&self, id: &SandboxId, generation: u64, reason: EndReason) -> Result<(), RpcError> {
        let request = wire::RemoveSandboxRequest { sandbox_id: id.to_string(), generation, reason: reason.to_string() };
        let reply: Result<wire::RemoveSandboxResponse, _> =
            self.0.clone().with_timeout(STOP_TIMEOUT).unary(rpc::REMOVE_SANDBOX, &request).await;
        reply.map(drop)
    }

    /// Moves the sandbox's end. `false` when this run of it is not there.
    pub(crate) async fn set_deadline(&self, id: &SandboxId, generation: u64, deadline: Timestamp) -> Result<bool, RpcError> {
        let request = wire::SetDeadlineRequest { sandbox_id: id.to_string(), generation, deadline: Some(deadline.into()) };
        let reply: Result<wire::SetDeadlineResponse, RpcError> =
            self.0.clone().with_timeout(TIMEOUT).unary(rpc::SET_DEADLINE, &request).await;
        match reply {
            Ok(_) => Ok(true),
            Err(error) if error.code == Code::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Everything that happens on the node, from now on.
    pub(crate) async fn watch(&self) -> Result<atoll_wire::connect::Messages<wire::WatchResponse>, RpcError> {
        self.0.server_stream(rpc::WATCH, &wire::WatchRequest {}).await
    }
}

/// An ending as the node tells it. What makes no sense in it is replaced: that it ended is certain.
pub(crate) fn ending(told: Option<wire::Ending>, now: Timestamp) -> Ending {
    let wire::Ending { reason, exit_code, at, detail } = told.unwrap_or_default();
    Ending {
        reason: reason.parse().unwrap_or(EndReason::NodeLost),
        exit_code,
        at: at.and_then(atoll_wire::Timestamp::to_utc).unwrap_or(now),
        detail,
    }
}
