//! What a file's content is called: by its extension, else by its first bytes.

/// How many bytes [`sniff`] looks at.
pub const SNIFFED: usize = 512;

/// Content of an unknown kind.
pub const UNKNOWN: &str = "application/octet-stream";

const TEXT: &str = "text/plain; charset=utf-8";

const EXTENSIONS: &[(&str, &str)] = &[
    ("avif", "image/avif"),
    ("bmp", "image/bmp"),
    ("css", "text/css; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("gif", "image/gif"),
    ("gz", "application/gzip"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/vnd.microsoft.icon"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("md", "text/markdown; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("tar", "application/x-tar"),
    ("txt", TEXT),
    ("wasm", "application/wasm"),
    ("wav", "audio/wav"),
    ("webm", "video/webm"),
    ("webp", "image/webp"),
    ("woff2", "font/woff2"),
    ("xml", "text/xml; charset=utf-8"),
    ("zip", "application/zip"),
];

const MAGIC: &[(&[u8], &str)] = &[
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"%PDF-", "application/pdf"),
    (b"%!PS-Adobe-", "application/postscript"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b\x08", "application/x-gzip"),
    (b"Rar!\x1a\x07", "application/x-rar-compressed"),
    (b"\0asm", "application/wasm"),
    (b"OggS\0", "application/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"\x1a\x45\xdf\xa3", "video/webm"),
    (b"wOF2", "font/woff2"),
    (b"\xfe\xff", "text/plain; charset=utf-16be"),
    (b"\xff\xfe", "text/plain; charset=utf-16le"),
    (b"\xef\xbb\xbf", TEXT),
];

const HTML: &[&str] = &["<!doctype html", "<html", "<head", "<body", "<script", "<title", "<table", "<div", "<h1", "<p", "<a", "<!--"];

/// The type that the extension of a file name promises.
pub fn by_extension(name: &str) -> Option<&'static str> {
    let extension = name.rsplit_once('.')?.1.to_ascii_lowercase();
    EXTENSIONS.iter().find(|(known, _)| *known == extension).map(|(_, media)| *media)
}

/// The type that the first bytes of a file look like.
pub fn sniff(content: &[u8]) -> &'static str {
    let content = &content[..content.len().min(SNIFFED)];
    let text = content.trim_ascii_start();
    let begins = |tag: &str| {
        let ends = |byte: Option<&u8>| byte.is_some_and(|byte| matches!(byte, b' ' | b'>')) || tag == "<!--";
        text.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag.as_bytes())) && ends(text.get(tag.len()))
    };
    if HTML.iter().any(|tag| begins(tag)) {
        return "text/html; charset=utf-8";
    }
    if text.starts_with(b"<?xml") {
        return "text/xml; charset=utf-8";
    }
    if let Some((_, media)) = MAGIC.iter().find(|(magic, _)| content.starts_with(magic)) {
        return media;
    }
    match content {
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "image/webp",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', ..] => "audio/wave",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "video/mp4",
        _ if content.iter().any(|byte| matches!(byte, 0..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f)) => UNKNOWN,
        _ => TEXT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_known_in_any_case() {
        assert_eq!(by_extension("a.b.JSON"), Some("application/json"));
        for unknown in ["json", "a.", "a.json.bak", ""] {
            assert_eq!(by_extension(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn first_bytes_tell() {
        let table: [(&[u8], &str); 11] = [
            (b"", TEXT),
            (b"plain words\r\n", TEXT),
            ("naïve €".as_bytes(), TEXT),
            (b"\x1b[31mred", TEXT),
            (b"\0\x01\x02", UNKNOWN),
            (b"\x7fELF\x02\x01\x01", UNKNOWN),
            (b"\n <!DOCTYPE HTML>", "text/html; charset=utf-8"),
            (b"<abbr>", TEXT),
            (b"\x89PNG\r\n\x1a\n....", "image/png"),
            (b"RIFF....WEBPVP8 ", "image/webp"),
            (b"<?xml version='1.0'?>", "text/xml; charset=utf-8"),
        ];
        for (content, media) in table {
            assert_eq!(sniff(content), media, "{content:?}");
        }
        let late = [vec![b'x'; SNIFFED], vec![0]].concat();
        assert_eq!(sniff(&late), TEXT);
    }
}
