//! The node service: `spec/node.proto` over Connect.

use atoll_types::EndReason;
use atoll_wire::{
    body::{self, Body},
    connect::{Call, RpcError, server_stream, unary},
    envd::ENVD_VERSION,
    node::{self as wire, rpc},
};
use http::{Request, Response, StatusCode};

use crate::{
    node::NodeHandle,
    spec::{Spec, SpecError, deadline, sandbox_id},
};

impl From<SpecError> for RpcError {
    fn from(error: SpecError) -> Self {
        RpcError::invalid_argument(error.to_string())
    }
}

impl NodeHandle {
    /// Answers one request of a control plane.
    pub async fn serve(&self, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let path = head.uri.path();
        if ![rpc::DESCRIBE, rpc::ENSURE_SANDBOX, rpc::REMOVE_SANDBOX, rpc::SET_DEADLINE, rpc::LIST_SANDBOXES, rpc::WATCH].contains(&path) {
            return body::status(StatusCode::NOT_FOUND);
        }
        let call = match Call::parse(&head) {
            Ok(call) => call,
            Err(answer) => return answer,
        };
        match path {
            rpc::DESCRIBE => unary(&call, body, async |wire::DescribeRequest {}| Ok(self.describe())).await,
            rpc::ENSURE_SANDBOX => unary(&call, body, |request| self.ensure_sandbox(request)).await,
            rpc::REMOVE_SANDBOX => unary(&call, body, |request| self.remove_sandbox(request)).await,
            rpc::SET_DEADLINE => unary(&call, body, |request| self.set_deadline(request)).await,
            rpc::LIST_SANDBOXES => unary(&call, body, async |wire::ListSandboxesRequest {}| Ok(self.list_sandboxes())).await,
            _ => {
                let (mut watcher, idle) = (self.0.board.watch(), self.0.idle.clone());
                let watch = async move |wire::WatchRequest {}, mut sink: atoll_wire::connect::Sink<_>| {
                    loop {
                        let event = tokio::select! {
                            biased;
                            event = watcher.next() => event,
                            () = idle.cancelled() => return Ok(()),
                        };
                        sink.send(wire::WatchResponse { event: Some(event) }).await;
                    }
                };
                server_stream(&call, body, watch).await
            }
        }
    }

    fn describe(&self) -> wire::DescribeResponse {
        let node = &self.0;
        let abilities = node.runtime.abilities();
        let named = [
            (abilities.pause, "pause"),
            (abilities.snapshot, "snapshot"),
            (abilities.fork_memory, "fork_memory"),
            (abilities.disk_limit, "disk_limit"),
        ];
        wire::DescribeResponse {
            node_id: node.config.id.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            runtime: node.runtime.name().into(),
            envd_version: ENVD_VERSION.into(),
            sandboxes: u32::try_from(node.count()).unwrap_or(u32::MAX),
            max_sandboxes: u32::try_from(node.config.max_sandboxes).unwrap_or(u32::MAX),
            abilities: named.iter().filter(|(able, _)| *able).map(|(_, name)| (*name).into()).collect(),
        }
    }

    async fn ensure_sandbox(&self, request: wire::EnsureSandboxRequest) -> Result<wire::EnsureSandboxResponse, RpcError> {
        let spec = request.spec.ok_or_else(|| RpcError::invalid_argument("spec: missing"))?;
        let view = self.0.ensure(Spec::try_from(spec)?).await?;
        Ok(wire::EnsureSandboxResponse { sandbox: Some(view.into()) })
    }

    async fn remove_sandbox(&self, request: wire::RemoveSandboxRequest) -> Result<wire::RemoveSandboxResponse, RpcError> {
        let wire::RemoveSandboxRequest { sandbox_id: id, generation, reason } = request;
        let reason: EndReason = reason.parse().map_err(|e| RpcError::invalid_argument(format!("reason: {e}")))?;
        Ok(wire::RemoveSandboxResponse { found: self.0.remove(&sandbox_id(&id)?, generation, reason).await })
    }

    async fn set_deadline(&self, request: wire::SetDeadlineRequest) -> Result<wire::SetDeadlineResponse, RpcError> {
        let wire::SetDeadlineRequest { sandbox_id: id, generation, deadline: at } = request;
        let moved = self.0.set_deadline(&sandbox_id(&id)?, generation, deadline(at)?).await;
        moved.map_err(|_| RpcError::not_found(format!("generation {generation} of sandbox `{id}` does not run here")))?;
        Ok(wire::SetDeadlineResponse {})
    }

    fn list_sandboxes(&self) -> wire::ListSandboxesResponse {
        let here = self.0.board.views().into_iter().filter(|view| view.ending().is_none());
        wire::ListSandboxesResponse { sandboxes: here.map(Into::into).collect() }
    }
}
