//! Fuzz targets: whatever reads the bytes of strangers, each with what must hold for any input.
//!
//! `cargo xtask fuzz` looks for inputs that break a target; the test `seeds` runs what is committed in `seeds/<target>/`. Inputs are
//! lines of fields and then the rest, so that seeds can be written and read by hand.

mod connect;
mod envd;
mod form;
mod input;
mod node;
mod proxy;
mod rest;
mod sys;

/// Something that reads the bytes of strangers.
pub struct Target {
    /// Its name; that of the directory of its seeds too.
    pub name: &'static str,
    /// Reads an input; panics when something does not hold that must.
    pub run: fn(&[u8]),
}

macro_rules! targets {
    ($($room:ident: $($name:ident)*;)*) => {
        /// All of them.
        pub const TARGETS: &[Target] = &[$($(Target { name: stringify!($name), run: $room::$name }),*),*];
    };
}

targets! {
    connect: connect_envelope connect_stream protobuf_messages;
    proxy: proxy_host proxy_path proxy_head;
    envd: files_path files_query files_headers signature init;
    form: files_multipart files_form;
    node: state_file log_line;
    rest: rest_bodies rest_query rest_cursor rest_names;
    sys: netlink listeners;
}
