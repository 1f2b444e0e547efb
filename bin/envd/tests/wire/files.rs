//! `/files` and `/files/compose`.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
};

use atoll_wire::body::{self, Body};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    daemon::{Daemon, basic, json_body, text_body, until},
    sandbox::{GID, UID, sandbox},
};

const RAW: (&str, &str) = ("content-type", "application/octet-stream");
const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=XyZ");

fn at(path: &str) -> String {
    format!("/files?path={}", utf8_percent_encode(path, NON_ALPHANUMERIC))
}

async fn upload(daemon: &Daemon, path: &str, headers: &[(&str, &str)], content: impl Into<Bytes>) -> (StatusCode, Value) {
    let response = daemon.send(Method::POST, path, headers, content).await;
    (response.status(), json_body(response).await)
}

async fn bytes(response: Response<Body>) -> Vec<u8> {
    body::collect(response.into_body(), 1 << 30).await.unwrap().to_vec()
}

/// A form of parts with these disposition parameters and contents.
fn form(parts: &[(&str, &str)]) -> String {
    let part = |(disposition, content): &(&str, &str)| {
        format!("--XyZ\r\nContent-Disposition: form-data; {disposition}\r\nContent-Type: application/octet-stream\r\n\r\n{content}\r\n")
    };
    parts.iter().map(part).chain(["--XyZ--\r\n".to_owned()]).collect()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn gunzip(content: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    MultiGzDecoder::new(content).read_to_end(&mut plain).unwrap();
    plain
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test]
async fn an_upload_is_answered_with_an_array_of_three_keys() {
    let sandbox = sandbox!("an_upload_is_answered_with_an_array_of_three_keys");
    let expected = json!([{"path": sandbox.path("a.txt"), "name": "a.txt", "type": "file"}]);
    let as_form = form(&[(r#"name="file"; filename="ignored""#, "text")]);
    assert_eq!(upload(&sandbox.daemon, &at("a.txt"), &[FORM], as_form).await, (StatusCode::OK, expected.clone()));
    assert_eq!(sandbox.read("a.txt"), b"text");
    assert_eq!(upload(&sandbox.daemon, &at("a.txt"), &[RAW], "raw").await, (StatusCode::OK, expected));
    assert_eq!(sandbox.read("a.txt"), b"raw");
    assert_eq!(upload(&sandbox.daemon, "/files", &[RAW], "raw").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn uploads_belong_to_the_user_with_the_directories_made_for_them() {
    let sandbox = sandbox!("uploads_belong_to_the_user_with_the_directories_made_for_them");
    assert_eq!(upload(&sandbox.daemon, &at("new/deep/file"), &[RAW], "").await.0, StatusCode::OK);
    assert_eq!(sandbox.ownership("new"), (UID, GID, 0o755));
    assert_eq!(sandbox.ownership("new/deep"), (UID, GID, 0o755));
    assert_eq!(sandbox.ownership("new/deep/file"), (UID, GID, 0o644));
    let path = format!("{}&username=root", at(&sandbox.path("new/of-root")));
    assert_eq!(upload(&sandbox.daemon, &path, &[RAW], "").await.0, StatusCode::OK);
    assert_eq!(sandbox.ownership("new/of-root"), (0, 0, 0o644));
    // Whoever asks, the daemon's own rights count.
    fs::set_permissions(sandbox.home.join("new"), fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(upload(&sandbox.daemon, &at("new/locked"), &[RAW], "").await.0, StatusCode::OK);
}

#[tokio::test]
async fn an_existing_file_keeps_its_inode_and_mode_and_changes_hands() {
    let sandbox = sandbox!("an_existing_file_keeps_its_inode_and_mode_and_changes_hands");
    sandbox.write("old", "a longer text");
    fs::set_permissions(sandbox.home.join("old"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("old", sandbox.home.join("link")).unwrap();
    let inode = fs::metadata(sandbox.home.join("old")).unwrap().ino();
    assert_eq!(upload(&sandbox.daemon, &at("link"), &[RAW], "short").await.0, StatusCode::OK);
    assert_eq!(sandbox.read("old"), b"short");
    assert_eq!(sandbox.ownership("old"), (UID, GID, 0o600));
    assert_eq!(fs::metadata(sandbox.home.join("old")).unwrap().ino(), inode);
}

#[tokio::test]
async fn relative_paths_start_at_home_and_the_workdir_only_replaces_an_empty_path() {
    let sandbox = sandbox!("relative_paths_start_at_home_and_the_workdir_only_replaces_an_empty_path");
    sandbox.daemon.init(json!({"defaultWorkdir": "/"})).await;
    for (path, name) in [("x", "x"), ("./a//../x", "x"), ("~/x", "x"), ("../user/x", "x")] {
        let (status, files) = upload(&sandbox.daemon, &at(path), &[RAW], "x").await;
        assert_eq!((status, &files[0]["path"]), (StatusCode::OK, &json!(sandbox.path(name))), "{path}");
    }
    let empty = sandbox.daemon.get("/files?path=", &[]).await;
    assert_eq!((empty.status(), json_body(empty).await["message"].clone()), (StatusCode::BAD_REQUEST, json!("path '/' is a directory")));
    assert_eq!(upload(&sandbox.daemon, &at("~root/x"), &[RAW], "x").await.0, StatusCode::BAD_REQUEST);
    // Absolute paths are taken as they are.
    sandbox.write("y", "");
    let verbatim = sandbox.path("nothing/../y");
    assert_eq!(sandbox.daemon.get(&at(&verbatim), &[]).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_is_missing_or_no_file_says_so() {
    let sandbox = sandbox!("what_is_missing_or_no_file_says_so");
    let response = sandbox.daemon.get(&at("no/such"), &[]).await;
    assert_eq!((response.status(), &response.headers()["x-content-type-options"]), (StatusCode::NOT_FOUND, &"nosniff".parse().unwrap()));
    let expected = json!({"code": 404, "message": format!("path '{}' does not exist", sandbox.path("no/such"))});
    assert_eq!(json_body(response).await, expected);
    sandbox.write("file", "");
    assert_eq!(sandbox.daemon.get(&at("file/below"), &[]).await.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(sandbox.daemon.get("/files", &[]).await.status(), StatusCode::BAD_REQUEST);
    for (path, status) in
        [("/", StatusCode::BAD_REQUEST), ("file/below", StatusCode::INTERNAL_SERVER_ERROR), ("a\0b", StatusCode::BAD_REQUEST)]
    {
        assert_eq!(upload(&sandbox.daemon, &at(path), &[RAW], "x").await.0, status, "{path}");
    }
}

#[tokio::test]
async fn repeated_parameters_are_a_plain_400() {
    let sandbox = sandbox!("repeated_parameters_are_a_plain_400");
    for query in ["path=a&path=b", "username=user&username=user", "path=a&signature_expiration=soon"] {
        let response = sandbox.daemon.get(&format!("/files?{query}"), &[]).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{query}");
        assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
    }
}

#[tokio::test]
async fn the_username_counts_and_basic_credentials_do_not() {
    let sandbox = sandbox!("the_username_counts_and_basic_credentials_do_not");
    for (username, status) in [("user", 200), ("root", 200), ("", 401), ("nobody-here", 401), (&UID.to_string(), 401)] {
        let path = format!("{}&username={username}", at(&sandbox.path("file")));
        assert_eq!(upload(&sandbox.daemon, &path, &[RAW], "").await.0.as_u16(), status, "{username:?}");
    }
    assert_eq!(upload(&sandbox.daemon, &at("mine"), &[RAW, ("authorization", &basic("root"))], "").await.0, StatusCode::OK);
    assert_eq!(sandbox.ownership("mine"), (UID, GID, 0o644));
    let unknown = [("authorization", &*basic("nobody-here"))];
    assert_eq!(sandbox.daemon.get(&at("mine"), &unknown).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn downloads_are_compressed_for_whoever_takes_gzip() {
    let sandbox = sandbox!("downloads_are_compressed_for_whoever_takes_gzip");
    let content = [noise(200_000), vec![b'a'; 300_000]].concat();
    sandbox.write("data.json", &content);
    sandbox.write("empty", "");
    for accepted in ["gzip", "gzip, deflate", "GZIP;q=0.5, br"] {
        let response = sandbox.daemon.get(&at("data.json"), &[("accept-encoding", accepted)]).await;
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(header("content-encoding").as_deref(), Some("gzip"), "{accepted}");
        assert_eq!(header("content-type").as_deref(), Some("application/json"));
        assert_eq!((header("content-length"), header("transfer-encoding").as_deref()), (None, Some("chunked")));
        assert!(header("vary").is_some());
        assert_eq!(gunzip(&bytes(response).await), content);
        let response = sandbox.daemon.get(&at("empty"), &[("accept-encoding", accepted)]).await;
        assert_eq!(response.headers()["content-type"], "application/octet-stream");
        assert_eq!(gunzip(&bytes(response).await), b"");
    }
    for accepted in ["identity", "gzip;q=0", "br"] {
        let response = sandbox.daemon.get(&at("data.json"), &[("accept-encoding", accepted)]).await;
        assert_eq!(response.headers()["content-length"], "500000", "{accepted}");
        assert_eq!(bytes(response).await, content);
    }
    let refused = [("accept-encoding", "identity;q=0")];
    assert_eq!(sandbox.daemon.get(&at("data.json"), &refused).await.status(), StatusCode::NOT_ACCEPTABLE);
    let refused = [("accept-encoding", "gzip, identity;q=0"), ("range", "bytes=0-1")];
    assert_eq!(sandbox.daemon.get(&at("data.json"), &refused).await.status(), StatusCode::NOT_ACCEPTABLE);
}

#[tokio::test]
async fn plain_downloads_know_ranges_and_times() {
    let sandbox = sandbox!("plain_downloads_know_ranges_and_times");
    sandbox.write("naïve file.bin", "0123456789");
    let get = async |headers: &[(&str, &str)]| sandbox.daemon.get(&at("naïve file.bin"), headers).await;
    let response = get(&[]).await;
    let date = response.headers()["last-modified"].to_str().unwrap().to_owned();
    assert_eq!(response.headers()["accept-ranges"], "bytes");
    assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(response.headers()["content-disposition"], "inline; filename*=utf-8''na%C3%AFve%20file.bin");

    let response = get(&[("range", "bytes=2-4"), ("accept-encoding", "gzip")]).await;
    assert_eq!((response.status(), &response.headers()["content-range"]), (StatusCode::PARTIAL_CONTENT, &"bytes 2-4/10".parse().unwrap()));
    assert!(!response.headers().contains_key("content-encoding"));
    assert_eq!(text_body(response).await, "234");
    assert_eq!(text_body(get(&[("range", "bytes=-1")]).await).await, "9");
    assert_eq!(text_body(get(&[("range", "bytes=0-0,2-2")]).await).await, "0123456789");

    let response = get(&[("range", "bytes=10-")]).await;
    assert_eq!(
        (response.status(), &response.headers()["content-range"]),
        (StatusCode::RANGE_NOT_SATISFIABLE, &"bytes */10".parse().unwrap())
    );
    let response = get(&[("if-modified-since", &date)]).await;
    assert_eq!((response.status(), text_body(response).await.as_str()), (StatusCode::NOT_MODIFIED, ""));
}

#[tokio::test]
async fn files_that_claim_to_be_empty_are_read_to_their_end() {
    let sandbox = sandbox!("files_that_claim_to_be_empty_are_read_to_their_end");
    let plain = text_body(sandbox.daemon.get(&at("/proc/sys/kernel/random/boot_id"), &[]).await).await;
    assert_eq!(plain.trim().len(), 36);
    let compressed = sandbox.daemon.get(&at("/proc/sys/kernel/random/boot_id"), &[("accept-encoding", "gzip")]).await;
    assert_eq!(gunzip(&bytes(compressed).await), plain.as_bytes());
    // Longer than what is read at once.
    let symbols = fs::read("/proc/kallsyms").unwrap_or_default().len();
    assert_eq!(bytes(sandbox.daemon.get(&at("/proc/kallsyms"), &[]).await).await.len(), symbols);
    sandbox.write("empty", "");
    let response = sandbox.daemon.get(&at("empty"), &[]).await;
    assert_eq!(
        (&response.headers()["content-length"], text_body(sandbox.daemon.get(&at("empty"), &[]).await).await.len()),
        (&"0".parse().unwrap(), 0)
    );
}

#[tokio::test]
async fn gzip_bodies_are_unpacked_whole() {
    let sandbox = sandbox!("gzip_bodies_are_unpacked_whole");
    let content = noise(300_000);
    let encoded = ("content-encoding", "gzip");
    let members = [gzip(&content[..1000]), gzip(&content[1000..])].concat();
    assert_eq!(upload(&sandbox.daemon, &at("raw"), &[RAW, encoded], members).await.0, StatusCode::OK);
    assert_eq!(sandbox.read("raw"), content);
    let as_form = gzip(form(&[(r#"name="file"; filename="form""#, "text")]).as_bytes());
    assert_eq!(upload(&sandbox.daemon, "/files", &[FORM, encoded], as_form).await.0, StatusCode::OK);
    assert_eq!(sandbox.read("form"), b"text");
    assert_eq!(upload(&sandbox.daemon, &at("raw"), &[RAW, ("content-encoding", "Identity")], "x").await.0, StatusCode::OK);

    for (encoding, body) in [("gzip", &b"plain"[..]), ("gzip", b""), ("br", b"x"), ("gzip, gzip", b"x")] {
        let headers = [RAW, ("content-encoding", encoding)];
        assert_eq!(upload(&sandbox.daemon, &at("bad"), &headers, body).await.0, StatusCode::BAD_REQUEST, "{encoding} {body:?}");
    }
    let cut = gzip(&content)[..100_000].to_vec();
    assert_eq!(upload(&sandbox.daemon, &at("bad"), &[RAW, encoded], cut).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn without_a_path_each_part_goes_where_its_whole_file_name_says() {
    let sandbox = sandbox!("without_a_path_each_part_goes_where_its_whole_file_name_says");
    let absolute = sandbox.path("abs/a b.txt");
    let body = form(&[
        ("name=\"other\"", "ignored"),
        (&format!("name=\"file\"; filename=\"{absolute}\""), "one"),
        ("name=\"file\"; filename=\"dir/\u{fc}%22%0A.txt\"", "two\r\n--XyZ-not"),
        ("name=\"files\"; filename=\"ignored\"", "ignored"),
        ("name=\"file\"; filename*=utf-8''%e2%82%ac", ""),
    ]);
    let (status, files) = upload(&sandbox.daemon, "/files", &[FORM], body).await;
    assert_eq!(status, StatusCode::OK, "{files}");
    let names: Vec<_> =
        files.as_array().unwrap().iter().map(|file| (file["path"].as_str().unwrap(), file["name"].as_str().unwrap())).collect();
    let expected = [(absolute, "a b.txt"), (sandbox.path("dir/ü\"\n.txt"), "ü\"\n.txt"), (sandbox.path("€"), "€")];
    assert_eq!(names, expected.each_ref().map(|(path, name)| (path.as_str(), *name)));
    assert_eq!(sandbox.read("dir/ü\"\n.txt"), b"two\r\n--XyZ-not");
    assert!(!sandbox.home.join("ignored").exists());
}

#[tokio::test]
async fn forms_that_make_no_sense_are_refused() {
    let sandbox = sandbox!("forms_that_make_no_sense_are_refused");
    let file = |name: &str| format!("name=\"file\"; filename=\"{name}\"");
    let twice = form(&[(&file("first"), "1"), (&file("./first"), "2")]);
    let (status, error) = upload(&sandbox.daemon, "/files", &[FORM], twice).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(error["message"].as_str().unwrap().contains(&sandbox.path("first")), "{error}");
    assert_eq!(sandbox.read("first"), b"1", "earlier files stay");

    let two = form(&[("name=\"file\"", "1"), (&file("second"), "2")]);
    assert_eq!(upload(&sandbox.daemon, &at("one"), &[FORM], two).await.0, StatusCode::BAD_REQUEST);
    assert_eq!((sandbox.read("one"), sandbox.home.join("second").exists()), (b"1".to_vec(), false));

    let nameless = form(&[("name=\"file\"", "1")]);
    assert_eq!(upload(&sandbox.daemon, "/files", &[FORM], nameless).await.0, StatusCode::BAD_REQUEST);
    let none = form(&[("name=\"other\"", "1")]);
    assert_eq!(upload(&sandbox.daemon, "/files", &[FORM], none).await, (StatusCode::OK, json!([])));
    let cut = form(&[(&file("cut"), "text")]).replace("--XyZ--\r\n", "");
    assert_eq!(upload(&sandbox.daemon, "/files", &[FORM], cut).await.0, StatusCode::BAD_REQUEST);
    for (media, status) in [("multipart/form-data", 500), ("multipart/related; boundary=XyZ", 500), ("text/plain", 400), ("", 400)] {
        let body = form(&[(&file("media"), "text")]);
        assert_eq!(upload(&sandbox.daemon, "/files", &[("content-type", media)], body).await.0.as_u16(), status, "{media}");
    }
}

#[tokio::test]
async fn every_upload_replaces_all_metadata() {
    let sandbox = sandbox!("every_upload_replaces_all_metadata");
    let headers = [RAW, ("X-Metadata-Author", "me"), ("x-metadata-empty", ""), ("x-metadata-AUTHOR", "you")];
    let (status, files) = upload(&sandbox.daemon, &at("file"), &headers, "x").await;
    assert_eq!(status, StatusCode::OK);
    let Some(metadata) = files[0].get("metadata") else {
        return eprintln!("SKIPPED every_upload_replaces_all_metadata: no attributes here");
    };
    assert_eq!(metadata, &json!({"author": "me", "empty": ""}));
    let file = sandbox.home.join("file");
    atoll_sys::xattr::set(&file, "user.e2b.outside".as_ref(), b"seen").unwrap();
    atoll_sys::xattr::set(&file, "user.other".as_ref(), b"kept").unwrap();
    let entry = sandbox.done("Stat", json!({"path": "file"})).await;
    assert_eq!(entry["entry"]["metadata"], json!({"author": "me", "empty": "", "outside": "seen"}));
    symlink("file", sandbox.home.join("link")).unwrap();
    assert_eq!(sandbox.done("Stat", json!({"path": "link"})).await["entry"]["metadata"]["author"], "me");
    let moved = sandbox.done("Move", json!({"source": "file", "destination": "moved"})).await;
    assert_eq!(moved["entry"]["metadata"]["author"], "me");

    let (_, files) = upload(&sandbox.daemon, &at("moved"), &[RAW], "y").await;
    assert_eq!(files, json!([{"path": sandbox.path("moved"), "name": "moved", "type": "file"}]));
    assert_eq!(atoll_sys::xattr::get(&sandbox.home.join("moved"), "user.other".as_ref()).unwrap(), b"kept");
    let too_much = "v".repeat(5000);
    for (name, value) in [("x-metadata-k", too_much.as_str()), ("x-metadata-k", "tab\there")] {
        assert_eq!(upload(&sandbox.daemon, &at("moved"), &[RAW, (name, value)], "z").await.0, StatusCode::BAD_REQUEST);
    }
    assert_eq!(sandbox.read("moved"), b"y");
}

#[tokio::test]
async fn a_full_disk_is_507_even_while_the_client_still_sends() {
    let sandbox = sandbox!("a_full_disk_is_507_even_while_the_client_still_sends");
    let (status, error) = upload(&sandbox.daemon, &at(&sandbox.on_disk("big")), &[RAW], noise(20_000_000)).await;
    assert_eq!((status, error["code"].as_u64()), (StatusCode::INSUFFICIENT_STORAGE, Some(507)));
    assert!(error["message"].as_str().unwrap().ends_with("not enough disk space available"), "{error}");
    sandbox.write("half", noise(600_000));
    let request = json!({"source_paths": ["half", "half"], "destination": sandbox.on_disk("both")});
    assert_eq!(compose(&sandbox.daemon, request).await.0, StatusCode::INSUFFICIENT_STORAGE);
    assert!(sandbox.home.join("half").exists());
}

#[tokio::test]
async fn large_files_take_little_memory_both_ways() {
    let sandbox = sandbox!("large_files_take_little_memory_both_ways");
    const CHUNK: usize = 256 * 1024;
    const CHUNKS: usize = 400;
    let (mut sender, body) = body::channel(1);
    let feed = tokio::spawn(async move {
        for _ in 0..CHUNKS {
            sender.send(Bytes::from(vec![7; CHUNK])).await.unwrap();
        }
    });
    let request = http::Request::post(at("large")).header(RAW.0, RAW.1).body(body).unwrap();
    let response = atoll_wire::transport::request(sandbox.daemon.address, request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    feed.await.unwrap();
    for encoding in ["identity", "gzip"] {
        let mut body = sandbox.daemon.get(&at("large"), &[("accept-encoding", encoding)]).await.into_body();
        let mut read = 0;
        while let Some(frame) = body.frame().await {
            read += frame.unwrap().into_data().unwrap().len();
        }
        assert!(encoding == "gzip" || read == CHUNK * CHUNKS);
    }
    let status = fs::read_to_string(format!("/proc/{}/status", sandbox.daemon.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB");
    assert!(peak.parse::<usize>().unwrap() < 32 * 1024, "{peak} KiB at most, for {} KiB", CHUNK * CHUNKS / 1024);
}

#[tokio::test]
async fn a_client_that_breaks_off_leaves_what_it_sent() {
    let sandbox = sandbox!("a_client_that_breaks_off_leaves_what_it_sent");
    let mut stream = TcpStream::connect(sandbox.daemon.address).await.unwrap();
    let head = "POST /files?path=cut HTTP/1.1\r\nhost: x\r\ncontent-type: application/octet-stream\r\ncontent-length: 100\r\n\r\nhalf";
    stream.write_all(head.as_bytes()).await.unwrap();
    until(async || fs::read(sandbox.home.join("cut")).is_ok_and(|content| content == b"half")).await;
    drop(stream);
    let mut body = sandbox.daemon.get(&at("/dev/zero"), &[]).await.into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    // Nobody goes on reading for a client that is gone.
    until(async || {
        !fs::read_dir(format!("/proc/{}/fd", sandbox.daemon.pid()))
            .unwrap()
            .flatten()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == std::path::Path::new("/dev/zero") || target.ends_with("cut")))
    })
    .await;
}

#[tokio::test]
async fn a_file_that_shrinks_while_it_is_sent_is_not_taken_for_complete() {
    let sandbox = sandbox!("a_file_that_shrinks_while_it_is_sent_is_not_taken_for_complete");
    let file = fs::File::create(sandbox.home.join("large")).unwrap();
    file.set_len(1 << 30).unwrap();
    let mut stream = TcpStream::connect(sandbox.daemon.address).await.unwrap();
    stream.write_all(b"GET /files?path=large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut buffer = vec![0; 1 << 16];
    let mut received = stream.read(&mut buffer).await.unwrap();
    assert!(buffer.starts_with(b"HTTP/1.1 200 OK"));
    file.set_len(10).unwrap();
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(read) => received += read,
        }
    }
    assert!(received < 1 << 30);
}

fn sign(path: &str, operation: &str, user: &str, token: &str, expiration: Option<i64>) -> String {
    let expiration = expiration.map(|at| format!(":{at}")).unwrap_or_default();
    let hash = Sha256::digest(format!("{path}:{operation}:{user}:{token}{expiration}"));
    let signature = format!("v1_{}", STANDARD_NO_PAD.encode(hash));
    utf8_percent_encode(&signature, NON_ALPHANUMERIC).to_string()
}

#[tokio::test]
async fn with_a_token_files_need_the_header_or_a_signature() {
    let sandbox = sandbox!("with_a_token_files_need_the_header_or_a_signature");
    let token = "a-token";
    sandbox.write("file", "text");
    sandbox.daemon.init(json!({"accessToken": token})).await;
    let get = async |query: String, headers: &[(&str, &str)]| {
        let response = sandbox.daemon.get(&format!("/files?{query}"), headers).await;
        let status = response.status().as_u16();
        (status, if status == 200 { Value::Null } else { json_body(response).await["message"].clone() })
    };
    let header = [("x-access-token", token)];
    let good = sign("file", "read", "", token, None);
    assert_eq!(get("path=file".into(), &header).await.0, 200);
    assert_eq!(get(format!("path=file&signature={good}"), &[]).await.0, 200);
    assert_eq!(get("path=file&signature=nonsense".into(), &header).await.0, 200, "the header makes the signature irrelevant");
    assert_eq!(get("path=file".into(), &[]).await.0, 401);
    assert_eq!(get(format!("path=file&signature={good}"), &[("x-access-token", "wrong")]).await.0, 401);
    // What is signed is the text of the path, not what it leads to.
    let refused = (401, json!("invalid signature"));
    assert_eq!(get(format!("path=.%2Ffile&signature={good}"), &[]).await, refused);
    assert_eq!(get(format!("path=file&username=user&signature={good}"), &[]).await, refused);
    let with_user = sign("./file", "read", "user", token, None);
    assert_eq!(get(format!("path=.%2Ffile&username=user&signature={with_user}"), &[]).await.0, 200);

    let (past, future) = (1_600_000_000, 9_000_000_000);
    let lasting = sign("file", "read", "", token, Some(future));
    assert_eq!(get(format!("path=file&signature={lasting}&signature_expiration={future}"), &[]).await.0, 200);
    assert_eq!(get(format!("path=file&signature={lasting}&signature_expiration={past}"), &[]).await, refused);
    let expired = sign("file", "read", "", token, Some(past));
    let response = sandbox.daemon.get(&format!("/files?path=file&signature={expired}&signature_expiration={past}"), &[]).await;
    assert_eq!(json_body(response).await, json!({"code": 401, "message": "signature is already expired"}));

    let write = sign("file", "write", "", token, None);
    let body = || form(&[("name=\"file\"", "new")]);
    assert_eq!(upload(&sandbox.daemon, &format!("/files?path=file&signature={write}"), &[FORM], body()).await.0, StatusCode::OK);
    assert_eq!(upload(&sandbox.daemon, &format!("/files?path=file&signature={good}"), &[FORM], body()).await.0, StatusCode::UNAUTHORIZED);
    let anywhere = sign("", "write", "", token, None);
    let body = form(&[("name=\"file\"; filename=\"elsewhere\"", "x")]);
    assert_eq!(upload(&sandbox.daemon, &format!("/files?signature={anywhere}"), &[FORM], body).await.0, StatusCode::OK);
    assert_eq!(sandbox.read("elsewhere"), b"x");
}

async fn compose(daemon: &Daemon, request: Value) -> (StatusCode, Value) {
    upload(daemon, "/files/compose", &[("content-type", "application/json")], request.to_string()).await
}

#[tokio::test]
async fn composing_concatenates_and_takes_the_sources() {
    let sandbox = sandbox!("composing_concatenates_and_takes_the_sources");
    for (name, content) in [("b", "two"), ("a", "one"), ("whole", "old")] {
        sandbox.write(name, content);
    }
    let (status, file) = compose(&sandbox.daemon, json!({"source_paths": ["a", "b", "a"], "destination": "whole"})).await;
    assert_eq!((status, file), (StatusCode::OK, json!({"path": sandbox.path("whole"), "name": "whole", "type": "file"})));
    assert_eq!(sandbox.read("whole"), b"onetwoone");
    assert_eq!(sandbox.ownership("whole"), (UID, GID, 0o644));
    let left: Vec<_> = fs::read_dir(&sandbox.home).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["whole"]);
    let request = json!({"source_paths": ["~/whole"], "destination": sandbox.path("new/place"), "username": "root"});
    assert_eq!(compose(&sandbox.daemon, request).await.0, StatusCode::NOT_FOUND, "the home is root's");
    let request = json!({"source_paths": [sandbox.path("whole")], "destination": sandbox.path("new/place"), "username": "root"});
    assert_eq!(compose(&sandbox.daemon, request).await.0, StatusCode::OK);
    assert_eq!((sandbox.ownership("new"), sandbox.ownership("new/place")), ((0, 0, 0o755), (0, 0, 0o644)));
}

#[tokio::test]
async fn what_cannot_be_composed_changes_nothing() {
    let sandbox = sandbox!("what_cannot_be_composed_changes_nothing");
    for name in ["a", "whole"] {
        sandbox.write(name, name);
    }
    fs::create_dir(sandbox.home.join("dir")).unwrap();
    let table = [
        (json!({"source_paths": [], "destination": "x"}), 400),
        (json!({"source_paths": ["a"], "destination": ""}), 400),
        (json!({"source_paths": ["a"]}), 400),
        (json!("text"), 400),
        (json!({"source_paths": ["a", "whole"], "destination": "whole"}), 400),
        (json!({"source_paths": ["a", "~other"], "destination": "whole"}), 400),
        (json!({"source_paths": ["a", "dir"], "destination": "whole"}), 400),
        (json!({"source_paths": ["a", "missing"], "destination": "whole"}), 404),
        (json!({"source_paths": ["a"], "destination": "whole", "username": "nobody-here"}), 401),
        (json!({"source_paths": ["a"], "destination": "whole", "username": ""}), 401),
        (json!({"source_paths": ["a"], "destination": "dir"}), 500),
        (json!({"source_paths": ["a"], "destination": "whole/below"}), 500),
    ];
    for (request, status) in table {
        let (answered, error) = compose(&sandbox.daemon, request.clone()).await;
        assert_eq!((answered.as_u16(), error["code"].as_u64()), (status, Some(status.into())), "{request}");
    }
    let mut left: Vec<_> = fs::read_dir(&sandbox.home).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["a", "dir", "whole"]);
    assert_eq!(sandbox.read("whole"), b"whole");
}
