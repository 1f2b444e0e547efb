//! The routes of `envd` that only the platform may call.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// One segment each: `envd` has no control route below the root.
const CONTROL: [&[u8]; 7] = [b"init", b"upgrade", b"freeze", b"unfreeze", b"fsfreeze", b"fsthaw", b"collapse"];

/// Whether the path, once decoded and cleaned (`//`, `.` and `..` resolved), is a control route.
pub fn is_control_route(path: &str) -> bool {
    let decoded = Cow::from(percent_decode_str(path));
    let mut segments = Vec::new();
    for segment in decoded.split(|byte| *byte == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    matches!(segments[..], [only] if CONTROL.contains(&only))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_gets_through() {
        for path in [
            "/init",
            "/upgrade",
            "/freeze",
            "/unfreeze",
            "/fsfreeze",
            "/fsthaw",
            "/collapse",
            "//init",
            "/init/",
            "/init//",
            "/./init",
            "/init/.",
            "/x/../init",
            "/../init",
            "/init/x/..",
            "/%69nit",
            "/%2finit",
            "/x%2F..%2Finit",
            "/x/%2e%2E/init",
            "/%2e/init",
            "/init%2f",
            "init",
        ] {
            assert!(is_control_route(path), "{path}");
        }
    }

    #[test]
    fn everything_else_does() {
        for path in
            ["", "/", "*", "/health", "/files", "/init/x", "/x/init", "/Init", "/initx", "/%2569nit", "/%init", "/process.Process/Start"]
        {
            assert!(!is_control_route(path), "{path}");
        }
    }
}
