//! The REST API over a real node: what clients see, and what becomes of it when parts fail.

#![allow(clippy::unwrap_used)]

mod control {
    mod auth;
    mod create;
    mod faults;
    mod life;
    mod lists;
    mod observe;
    mod openapi;
}
