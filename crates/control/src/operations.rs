//! Every operation of E2B's REST API: who may call it, and what answers it. Facts: reference/rest-api.md §2.3 and §7–§11, and the newest
//! SDKs for what came after.
//!
//! This table drives routing, and `spec/rest-operations.txt` and the OpenAPI page are compared with it. Paths are matched raw: a `%2F`
//! stays within its segment. Of two patterns that fit, the one with the earlier fixed segment wins.

use std::{cmp::Reverse, future::Future, pin::Pin};

use atoll_wire::body::Body;
use http::{Method, Response};
use percent_encoding::percent_decode_str;

use crate::{
    auth::Actor,
    control::Control,
    error::ApiError,
    request::Call,
    routes::{list, logs, metrics, public, sandboxes},
};

type Reply = Pin<Box<dyn Future<Output = Result<Response<Body>, ApiError>> + Send>>;

/// What answers an operation.
#[derive(Clone, Copy)]
pub(crate) enum Action {
    /// A route for everybody.
    Public(fn(Control) -> Reply),
    /// A route for whoever has a key.
    Team(fn(Control, Actor, Call) -> Reply),
    /// Nothing yet.
    NotServed,
}

/// How a caller may say who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// `X-API-Key`.
    Key,
    /// `Authorization: Bearer sk_e2b_…`.
    UserToken,
    /// `Authorization: Bearer <JWT>`.
    Jwt,
    /// The same with `X-Team-ID`.
    TeamJwt,
    /// `X-Admin-Token`.
    Admin,
    /// The same with `X-Team-ID`.
    TeamAdmin,
    /// The token of one volume.
    Volume,
}

use Scheme::{Admin, Jwt, Key, TeamAdmin, TeamJwt, UserToken, Volume};

const ANYONE: &[Scheme] = &[];
const TEAM: &[Scheme] = &[Key, TeamJwt, TeamAdmin];
const TEAM_OR_USER: &[Scheme] = &[Key, UserToken, TeamJwt, TeamAdmin];
const USER_OR_TEAM: &[Scheme] = &[UserToken, Key, TeamJwt, TeamAdmin];
const USER: &[Scheme] = &[UserToken, TeamJwt];
const MEMBER: &[Scheme] = &[TeamJwt, TeamAdmin];
const USER_TOKEN_OR_JWT: &[Scheme] = &[UserToken, Jwt];
const TEAM_JWT: &[Scheme] = &[TeamJwt];
const JWT: &[Scheme] = &[Jwt];
const ADMIN: &[Scheme] = &[Admin];
const VOLUME: &[Scheme] = &[Volume];

/// One row of the table.
pub(crate) struct Operation {
    pub(crate) method: Method,
    /// `{name}` stands for one segment.
    pub(crate) path: &'static str,
    schemes: &'static [Scheme],
    pub(crate) action: Action,
}

impl Operation {
    /// Whether an API key is a credential for it.
    pub(crate) fn takes_api_key(&self) -> bool {
        self.schemes.contains(&Key)
    }
}

macro_rules! table {
    ($($method:ident $path:literal $schemes:ident $action:expr;)*) => {
        &[$(Operation { method: Method::$method, path: $path, schemes: $schemes, action: $action }),*]
    };
}

macro_rules! open {
    ($route:path) => {
        Action::Public(|control| Box::pin($route(control)))
    };
}

macro_rules! team {
    ($route:path) => {
        Action::Team(|control, actor, call| Box::pin($route(control, actor, call)))
    };
}

const LATER: Action = Action::NotServed;

static OPERATIONS: &[Operation] = table! {
    GET "/health" ANYONE open!(public::health);
    GET "/openapi.json" ANYONE open!(public::openapi);

    GET "/teams" USER_TOKEN_OR_JWT LATER;
    GET "/teams/{teamID}/metrics" TEAM LATER;
    GET "/teams/{teamID}/metrics/max" TEAM LATER;

    POST "/sandboxes" TEAM team!(sandboxes::create);
    POST "/v2/sandboxes" TEAM team!(sandboxes::create_v2);
    GET "/sandboxes" TEAM team!(list::all);
    GET "/v2/sandboxes" TEAM team!(list::page);
    GET "/sandboxes/metrics" TEAM team!(metrics::of_many);
    GET "/sandboxes/{sandboxID}" TEAM team!(sandboxes::get);
    DELETE "/sandboxes/{sandboxID}" TEAM team!(sandboxes::kill);
    GET "/sandboxes/{sandboxID}/metrics" TEAM team!(metrics::of_one);
    GET "/sandboxes/{sandboxID}/logs" TEAM team!(logs::both_forms);
    GET "/v2/sandboxes/{sandboxID}/logs" TEAM team!(logs::entries);
    POST "/sandboxes/{sandboxID}/connect" TEAM team!(sandboxes::connect);
    POST "/v2/sandboxes/{sandboxID}/connect" TEAM team!(sandboxes::connect_v2);
    POST "/sandboxes/{sandboxID}/timeout" TEAM team!(sandboxes::set_timeout);
    POST "/sandboxes/{sandboxID}/refreshes" TEAM team!(sandboxes::refresh);
    POST "/sandboxes/{sandboxID}/pause" TEAM LATER;
    POST "/sandboxes/{sandboxID}/resume" TEAM LATER;
    POST "/sandboxes/{sandboxID}/fork" TEAM LATER;
    PUT "/sandboxes/{sandboxID}/network" TEAM LATER;
    POST "/sandboxes/{sandboxID}/snapshots" TEAM LATER;
    GET "/snapshots" TEAM LATER;

    GET "/default-templates" TEAM LATER;
    POST "/v3/templates" TEAM LATER;
    POST "/v2/templates" TEAM LATER;
    GET "/v2/templates" TEAM_OR_USER LATER;
    PATCH "/v2/templates/{templateID}" TEAM_OR_USER LATER;
    POST "/v2/templates/{templateID}/builds/{buildID}" TEAM LATER;
    GET "/templates" TEAM_OR_USER LATER;
    POST "/templates" USER LATER;
    POST "/templates/tags" TEAM LATER;
    DELETE "/templates/tags" TEAM LATER;
    GET "/templates/aliases/{alias}" TEAM LATER;
    GET "/templates/{templateID}" TEAM LATER;
    POST "/templates/{templateID}" USER LATER;
    DELETE "/templates/{templateID}" TEAM_OR_USER LATER;
    PATCH "/templates/{templateID}" TEAM_OR_USER LATER;
    GET "/templates/{templateID}/tags" TEAM LATER;
    GET "/templates/{templateID}/tags/groups" TEAM LATER;
    GET "/templates/{templateID}/tags/count" TEAM LATER;
    GET "/templates/{templateID}/tags/exists" TEAM LATER;
    GET "/templates/{templateID}/tags/{tag}/assignments" TEAM LATER;
    GET "/templates/{templateID}/files/{hash}" USER_OR_TEAM LATER;
    POST "/templates/{templateID}/builds/{buildID}" USER LATER;
    GET "/templates/{templateID}/builds/{buildID}/status" USER_OR_TEAM LATER;
    GET "/templates/{templateID}/builds/{buildID}/logs" USER_OR_TEAM LATER;

    GET "/api-keys" MEMBER LATER;
    POST "/api-keys" TEAM_JWT LATER;
    PATCH "/api-keys/{apiKeyID}" MEMBER LATER;
    DELETE "/api-keys/{apiKeyID}" MEMBER LATER;
    POST "/access-tokens" JWT LATER;
    DELETE "/access-tokens/{accessTokenID}" JWT LATER;

    GET "/nodes" ADMIN LATER;
    GET "/nodes/{nodeID}" ADMIN LATER;
    POST "/nodes/{nodeID}" ADMIN LATER;
    POST "/admin/teams/{teamID}/sandboxes/kill" ADMIN LATER;
    GET "/admin/sandboxes/running-counts" ADMIN LATER;
    POST "/admin/teams/{teamID}/builds/cancel" ADMIN LATER;
    POST "/admin/teams/{teamID}/api-keys" ADMIN LATER;
    DELETE "/admin/teams/{teamID}/api-keys/{apiKeyID}" ADMIN LATER;

    GET "/volumes" TEAM LATER;
    POST "/volumes" TEAM LATER;
    GET "/volumes/{volumeID}" TEAM LATER;
    DELETE "/volumes/{volumeID}" TEAM LATER;
    GET "/volumecontent/{volumeID}/path" VOLUME LATER;
    PATCH "/volumecontent/{volumeID}/path" VOLUME LATER;
    DELETE "/volumecontent/{volumeID}/path" VOLUME LATER;
    GET "/volumecontent/{volumeID}/dir" VOLUME LATER;
    POST "/volumecontent/{volumeID}/dir" VOLUME LATER;
    GET "/volumecontent/{volumeID}/file" VOLUME LATER;
    PUT "/volumecontent/{volumeID}/file" VOLUME LATER;

    GET "/secrets" TEAM LATER;
    POST "/secrets" TEAM LATER;
    GET "/secrets/{selector}" TEAM LATER;
    POST "/secrets/{selector}" TEAM LATER;
    DELETE "/secrets/{selector}" TEAM LATER;
};

/// What a method and a path lead to.
pub(crate) enum Found {
    /// An operation, with its path's parameters decoded.
    Operation(&'static Operation, Vec<(&'static str, String)>),
    /// Nothing, but these methods would lead somewhere.
    OtherMethods(String),
    /// Nothing, and why.
    Nothing(&'static str),
}

/// Finds the operation for a request.
pub(crate) fn find(method: &Method, path: &str) -> Found {
    let fitting = || OPERATIONS.iter().filter_map(|operation| Some((operation, fit(operation.path, path)?)));
    // No parameter is best, and of two the one that comes later.
    let rank = |params: &[(usize, _, _)]| params.iter().map(|(position, ..)| Reverse(*position)).collect::<Vec<_>>();
    let best = fitting().filter(|(operation, _)| operation.method == *method).min_by_key(|(_, params)| rank(params));
    if let Some((operation, params)) = best {
        let decoded = params.into_iter().map(|(_, name, raw)| Some((name, percent_decode_str(raw).decode_utf8().ok()?.into_owned())));
        return match decoded.collect() {
            Some(params) => Found::Operation(operation, params),
            None => Found::Nothing("the path is not percent-encoded UTF-8"),
        };
    }
    let methods: Vec<&str> = fitting().map(|(operation, _)| operation.method.as_str()).collect();
    if !methods.is_empty() {
        return Found::OtherMethods(methods.join(", "));
    }
    let old = ["/instances", "/envs"].iter().any(|old| path.strip_prefix(old).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    Found::Nothing(if old { "this route is deprecated and gone; update the SDK" } else { "there is no such route" })
}

/// `(position, name, raw value)` of each parameter, if the path fits the pattern.
fn fit<'a>(pattern: &'static str, path: &'a str) -> Option<Vec<(usize, &'static str, &'a str)>> {
    let (mut patterns, mut segments) = (pattern.split('/'), path.split('/'));
    let mut params = Vec::new();
    for position in 0.. {
        match (patterns.next(), segments.next()) {
            (None, None) => break,
            (Some(pattern), Some(segment)) => match pattern.strip_prefix('{').and_then(|pattern| pattern.strip_suffix('}')) {
                Some(name) if !segment.is_empty() => params.push((position, name, segment)),
                None if pattern == segment => {}
                _ => return None,
            },
            _ => return None,
        }
    }
    Some(params)
}

/// Every operation as `(method, path, served, takes an API key)`, for whoever examines them.
pub fn operations() -> impl Iterator<Item = (&'static Method, &'static str, bool, bool)> {
    OPERATIONS.iter().map(|o| (&o.method, o.path, !matches!(o.action, Action::NotServed), o.takes_api_key()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn found(method: Method, path: &str) -> String {
        match find(&method, path) {
            Found::Operation(operation, params) => {
                let params: Vec<_> = params.iter().map(|(name, value)| format!(" {name}={value}")).collect();
                format!("{}{}", operation.path, params.concat())
            }
            Found::OtherMethods(methods) => format!("not {method}, but {methods}"),
            Found::Nothing(why) => why.into(),
        }
    }

    #[test]
    fn paths_are_matched_raw_and_fixed_segments_win() {
        assert_eq!(found(Method::GET, "/sandboxes/i1"), "/sandboxes/{sandboxID} sandboxID=i1");
        assert_eq!(found(Method::GET, "/sandboxes/metrics"), "/sandboxes/metrics");
        assert_eq!(found(Method::DELETE, "/templates/tags"), "/templates/tags");
        assert_eq!(found(Method::GET, "/templates/tags"), "/templates/{templateID} templateID=tags");
        assert_eq!(found(Method::DELETE, "/templates/acme%2Fx%3Av1"), "/templates/{templateID} templateID=acme/x:v1");
        assert_eq!(found(Method::GET, "/templates/aliases/tags"), "/templates/aliases/{alias} alias=tags");
        assert_eq!(found(Method::PUT, "/sandboxes"), "not PUT, but POST, GET");
        for nowhere in ["/", "", "/sandboxes/", "/sandboxes//logs", "/Sandboxes", "/sandboxes/a/b/c", "//sandboxes"] {
            assert_eq!(found(Method::GET, nowhere), "there is no such route", "{nowhere}");
        }
        assert_eq!(found(Method::GET, "/instances/x"), "this route is deprecated and gone; update the SDK");
        assert_eq!(found(Method::GET, "/sandboxes/%ff"), "the path is not percent-encoded UTF-8");
    }

    #[test]
    fn the_list_in_spec_says_what_the_table_says() {
        let written = include_str!("../../../spec/rest-operations.txt");
        let written: Vec<&str> = written.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        let real: Vec<String> = operations()
            .map(|(method, path, served, _)| format!("{:<6} {:<6} {path}", if served { "served" } else { "501" }, method.as_str()))
            .collect();
        assert_eq!(written, real, "change both together; what is served stays served");
        assert_eq!(real.iter().collect::<BTreeSet<_>>().len(), real.len(), "an operation is listed twice");
    }

    #[test]
    fn the_openapi_page_describes_what_is_served_and_nothing_else() {
        let page: &'static serde_json::Value = Box::leak(serde_json::from_str(public::OPENAPI).unwrap());
        assert_eq!(page["openapi"], "3.1.0");
        assert_eq!(page["info"]["version"], env!("CARGO_PKG_VERSION"));
        let mut described = BTreeSet::new();
        for (path, item) in page["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let public = operation["security"].as_array().is_some_and(Vec::is_empty);
                described.insert((method.to_uppercase(), path.clone(), public));
                let named: BTreeSet<_> = path.split('/').filter_map(|s| s.strip_prefix('{')?.strip_suffix('}')).collect();
                let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
                let resolve = |p: &'static serde_json::Value| p["$ref"].as_str().map_or(p, |target| page.pointer(&target[1..]).unwrap());
                let declared = parameters.iter().map(resolve).filter(|p| p["in"] == "path").map(|p| p["name"].as_str().unwrap()).collect();
                assert_eq!(named, declared, "{path}: path parameters");
            }
        }
        let served = operations().filter(|(_, _, served, _)| *served);
        assert_eq!(described, served.map(|(method, path, _, key)| (method.to_string(), path.to_owned(), !key)).collect());

        let mut open = vec![page];
        while let Some(value) = open.pop() {
            match value {
                serde_json::Value::Object(map) => {
                    if let Some(target) = map.get("$ref").and_then(|r| r.as_str()) {
                        assert!(page.pointer(target.strip_prefix('#').unwrap()).is_some(), "{target} is nowhere");
                    }
                    open.extend(map.values());
                }
                serde_json::Value::Array(items) => open.extend(items),
                _ => {}
            }
        }
    }
}
