//! The control plane as one value: what its routes and reconcilers share, and the way a request goes.

use std::{sync::Arc, time::Instant};

use atoll_store::{Store, StoreError};
use atoll_types::{Clock, Timestamp};
use atoll_wire::{
    body::{self, Body},
    connect::Client,
};
use http::{Method, Request, Response, StatusCode, header, request::Parts};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

use crate::{
    auth::Actor,
    config::ControlConfig,
    cors,
    error::{ApiError, Kind},
    node::Node,
    operations::{self, Action, Found},
    reconcile::Reconcilers,
    request::Call,
};

/// The running control plane. Cheap to clone.
#[derive(Clone)]
pub struct Control(Arc<Shared>);

struct Shared {
    config: ControlConfig,
    store: Store,
    node: Node,
    clock: Arc<dyn Clock>,
    tasks: TaskTracker,
    reconcilers: Reconcilers,
}

impl Control {
    /// Starts the control plane. Its tasks run under `tasks` until `stop`.
    pub async fn start(
        config: ControlConfig,
        store: Store,
        node: Client,
        clock: Arc<dyn Clock>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, StoreError> {
        let node = Node::new(node);
        let left = store.fleet().abandon_starting("the daemon stopped while it was starting the sandbox", clock.now()).await?;
        if left > 0 {
            tracing::warn!("{left} sandboxes were starting when the daemon stopped; they are recorded as failed");
        }
        let reconcilers = Reconcilers::start(store.fleet(), node.clone(), clock.clone(), config.retention(), &tasks, &stop);
        Ok(Self(Arc::new(Shared { config, store, node, clock, tasks, reconcilers })))
    }

    /// Waits until the node is connected and what it runs agrees with the store.
    pub async fn ready(&self) {
        self.reconcilers().ready().await;
    }

    /// Answers a request.
    pub async fn serve(&self, request: Request<Body>) -> Response<Body> {
        let started = Instant::now();
        let (head, body) = request.into_parts();
        let mut response = match head.method {
            Method::OPTIONS => cors::preflight(),
            _ => self.answer(&head, body).await.unwrap_or_else(|error| error.into_response(&head)),
        };
        cors::allow(response.headers_mut());
        let (method, path, status) = (&head.method, head.uri.path(), response.status().as_u16());
        debug!(http.status = status, duration_ms = started.elapsed().as_secs_f64() * 1e3, "{method} {path}: {status}");
        response
    }

    async fn answer(&self, head: &Parts, body: Body) -> Result<Response<Body>, ApiError> {
        let (operation, params) = match operations::find(&head.method, head.uri.path()) {
            Found::Operation(operation, params) => (operation, params),
            Found::OtherMethods(methods) => {
                let error = ApiError::new(Kind::WrongMethod, format!("this path is served for {methods} only"));
                let mut response = error.into_response(head);
                response.headers_mut().insert(header::ALLOW, methods.parse().map_err(ApiError::bug)?);
                return Ok(response);
            }
            Found::Nothing(why) => return Err(ApiError::new(Kind::Missing, why)),
        };
        match operation.action {
            Action::Public(route) => route(self.clone()).await,
            Action::Team(route) => {
                let actor = Actor::authenticate(self, &head.headers).await?;
                route(self.clone(), actor, Call::new(head, params, body)?).await
            }
            Action::NotServed => {
                if operation.takes_api_key() {
                    Actor::authenticate(self, &head.headers).await?;
                }
                let what = format!("{} {} is not served by this version of Atoll", operation.method, operation.path);
                Err(ApiError::new(Kind::NotServed, what))
            }
        }
    }

    pub(crate) fn config(&self) -> &ControlConfig {
        &self.0.config
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(crate) fn node(&self) -> &Node {
        &self.0.node
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }

    pub(crate) fn reconcilers(&self) -> &Reconcilers {
        &self.0.reconcilers
    }
}

/// A reply with nothing in it.
pub(crate) fn no_content() -> Response<Body> {
    body::status(StatusCode::NO_CONTENT)
}
