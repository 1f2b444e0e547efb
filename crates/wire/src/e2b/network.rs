//! The network of a sandbox: §6.4.

use std::collections::BTreeMap;

use atoll_types::Secret;
use serde::{Deserialize, Serialize};

use super::present;

/// What a sandbox may reach, and who may reach it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkConfig {
    /// Whether its ports are open to everybody; they are unless this says otherwise. Null is fine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_public_traffic: Option<bool>,
    /// Destinations it may reach in spite of `deny_out`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub allow_out: Option<Vec<String>>,
    /// Destinations it may not reach.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub deny_out: Option<Vec<String>>,
    /// Name servers it may reach when domains are allowed.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub dns_servers: Option<Vec<std::net::Ipv4Addr>>,
    /// Its ports that speak HTTPS themselves.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub https_ports: Option<Vec<u16>>,
    /// A proxy for what it reaches. Null is fine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_proxy: Option<EgressProxy>,
    /// The `Host` its servers see.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub mask_request_host: Option<String>,
    /// Changes to its requests, by domain.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub rules: Option<BTreeMap<String, Vec<NetworkRule>>>,
}

/// A SOCKS5 proxy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EgressProxy {
    /// `host:port`.
    pub address: String,
    /// Its account.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Never returned.
    #[serde(default, deserialize_with = "present", skip_serializing)]
    pub password: Option<Secret>,
}

/// One change to requests.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NetworkRule {
    /// What changes.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub transform: Option<Transform>,
}

/// What changes in a request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Transform {
    /// Headers to set; often credentials.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub headers: Option<BTreeMap<String, Secret>>,
}
