//! The page that a person's browser shows instead of a sandbox's.

use http::StatusCode;

/// One self-contained page. Everything that is shown is escaped.
pub fn render(status: StatusCode, message: &str, sandbox: Option<&str>, port: Option<u16>) -> String {
    let advice = match (status, port) {
        (StatusCode::BAD_GATEWAY, Some(port)) => {
            format!("Start a server on port {port} in the sandbox, or wait until it is up, then reload this page.")
        }
        (StatusCode::BAD_GATEWAY, None) => {
            "It was stopped, reached its timeout, or never existed. Create a new sandbox to continue.".into()
        }
        (StatusCode::TOO_MANY_REQUESTS, _) => "Close some of them, then reload this page.".into(),
        _ => String::new(),
    };
    let fact = |name: &str, value: &str| format!("<dt>{name}</dt><dd>{}</dd>", escape(value));
    let facts =
        [sandbox.map(|id| fact("Sandbox", id)), port.map(|port| fact("Port", &port.to_string())), Some(fact("Status", status.as_str()))];
    let facts: String = facts.into_iter().flatten().collect();
    format!(
        r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{message}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ margin: 0; min-height: 100vh; display: grid; place-items: center; font: 16px/1.5 system-ui, sans-serif; background: light-dark(#f4f6f8, #101418) }}
main {{ max-width: 34rem; margin: 1rem; padding: 2rem; border-radius: 12px; background: light-dark(#fff, #1a2027); box-shadow: 0 1px 12px #0003 }}
h1 {{ margin: 0 0 .75rem; font-size: 1.3rem }}
dl {{ display: grid; grid-template-columns: auto 1fr; gap: .25rem 1rem; margin: 1.25rem 0 0; font-size: .9rem }}
dt {{ opacity: .65 }}
dd {{ margin: 0; font-family: ui-monospace, monospace; overflow-wrap: anywhere }}
</style>
<main><h1>{message}</h1><p>{advice}</p><dl>{facts}</dl></main>
</html>
"#,
        message = escape(message),
    )
}

fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, c| {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(c),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_text_as_text() {
        let page = render(StatusCode::BAD_GATEWAY, "<script>\"&'", Some("<b>"), Some(3000));
        assert!(page.contains("<title>&lt;script&gt;&quot;&amp;&#39;</title>") && page.contains("<dd>&lt;b&gt;</dd>"));
        assert!(!page.contains("<script>") && !page.contains("<b>"));
        assert!(page.contains("<dd>3000</dd>") && page.contains("<dd>502</dd>"));
    }
}
