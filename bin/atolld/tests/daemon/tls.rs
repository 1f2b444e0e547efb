//! The listener for a domain, as its clients see it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use super::*;

const DOMAIN: &str = "boxes.test";

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// The listener of a daemon.
struct Door {
    port: u16,
}

impl Door {
    fn of(daemon: &Daemon) -> Self {
        let start = format!("#   export E2B_DOMAIN={DOMAIN}:");
        Self { port: daemon.exports.lines().find_map(|line| line.strip_prefix(&start)).unwrap().parse().unwrap() }
    }

    fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn connect(&self, name: &str, trusted: &Path) -> Stream {
        let config = client(trusted);
        let connection = ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_owned()).unwrap()).unwrap();
        StreamOwned::new(connection, self.tcp())
    }
}

fn client(trusted: &Path) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(trusted).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots).with_no_client_auth()
}

/// The head and body of an answer of known length.
fn ask(stream: &mut Stream, host: &str, path: &str) -> std::io::Result<String> {
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n")?;
    let mut answer = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk)?;
        answer.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
        if count == 0 || (text.contains("\r\n\r\n") && body.len() >= length) {
            return Ok(text);
        }
    }
}

fn with_tls(data: &Path) -> Command {
    let mut command = atolld(data, &["all"]);
    command.env("ATOLL_TLS_DOMAIN", DOMAIN).env("ATOLL_TLS_LISTEN", "127.0.0.1:0");
    command
}

#[test]
fn the_name_decides_who_answers() {
    let scratch = Scratch::new("tls-names");
    let data = scratch.0.join("data");
    let daemon = Daemon::spawn(with_tls(&data));
    let door = Door::of(&daemon);
    let authority = data.join("tls/boxes.test.pem");
    assert!(daemon.exports.contains(&format!("SSL_CERT_FILE={}", authority.display())), "{}", daemon.exports);
    for (name, host, status) in [
        ("api.boxes.test", "api.boxes.test", 200),
        ("api.boxes.test", "API.boxes.test.:8443", 200),
        ("api.boxes.test", "1-abc1.boxes.test", 421),
        ("1-abc1.boxes.test", "1-abc1.boxes.test", 502),
        ("1-abc1.boxes.test", "api.boxes.test", 421),
        ("1-abc1.boxes.test", "2-abc1.boxes.test", 421),
        ("sandbox.boxes.test", "sandbox.boxes.test", 400),
        ("www.boxes.test", "www.boxes.test", 404),
        ("boxes.test", "boxes.test", 404),
        ("www.boxes.test", "api.boxes.test", 404),
    ] {
        let answer = ask(&mut door.connect(name, &authority), host, "/health").unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name} {host}: {answer}");
    }
    let mut config = client(&authority);
    config.enable_sni = false;
    let nameless = ClientConnection::new(Arc::new(config), ServerName::try_from("api.boxes.test").unwrap()).unwrap();
    let answer = ask(&mut StreamOwned::new(nameless, door.tcp()), "api.boxes.test", "/health").unwrap();
    assert!(answer.starts_with("HTTP/1.1 421 ") && answer.contains("api.boxes.test"), "{answer}");
    daemon.stop();

    let daemon = Daemon::spawn(with_tls(&data));
    let kept = fs::read(&authority).unwrap();
    assert!(ask(&mut Door::of(&daemon).connect("api.boxes.test", &authority), "api.boxes.test", "/health").unwrap().contains("200 OK"));
    assert_eq!(fs::read(&authority).unwrap(), kept);
    daemon.stop();
}

#[test]
fn the_client_chooses_the_protocol() {
    let scratch = Scratch::new("tls-alpn");
    let daemon = Daemon::spawn(with_tls(&scratch.0));
    let (door, authority) = (Door::of(&daemon), scratch.0.join("tls/boxes.test.pem"));
    for (offered, chosen) in [(vec!["h2", "http/1.1"], "h2"), (vec!["http/1.1"], "http/1.1"), (vec!["http/1.1", "h2"], "h2")] {
        let mut config = client(&authority);
        config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let connection = ClientConnection::new(Arc::new(config), ServerName::try_from("api.boxes.test").unwrap()).unwrap();
        let mut stream = StreamOwned::new(connection, door.tcp());
        stream.conn.complete_io(&mut stream.sock).unwrap();
        assert_eq!(stream.conn.alpn_protocol().unwrap(), chosen.as_bytes(), "{offered:?}");
    }
    daemon.stop();
}

#[test]
fn whoever_does_not_agree_on_keys_is_let_go() {
    let scratch = Scratch::new("tls-hostile");
    let mut command = with_tls(&scratch.0);
    command.env("ATOLL_TLS_HANDSHAKE_TIMEOUT_MS", "500");
    let daemon = Daemon::spawn(command);
    let door = Door::of(&daemon);
    let answer = |hello: &[u8]| {
        let mut stream = door.tcp();
        stream.write_all(hello).unwrap();
        let mut answer = Vec::new();
        // A reset is an end too.
        match stream.read_to_end(&mut answer) {
            Err(e) if e.kind() != std::io::ErrorKind::ConnectionReset => panic!("still there: {e}"),
            _ => answer,
        }
    };
    // TLS 1.0 as the newest that the client speaks.
    let mut old = vec![0x16, 3, 1, 0, 55, 1, 0, 0, 51, 3, 1];
    old.extend([7; 32]);
    old.extend([0, 0, 2, 0, 0x2f, 1, 0, 0, 8, 0, 13, 0, 4, 0, 2, 4, 3]);
    assert_eq!(answer(&old), [0x15, 3, 3, 0, 2, 2, 70], "an alert: protocol version");
    assert!(!answer(b"GET / HTTP/1.1\r\nhost: api.boxes.test\r\n\r\n").starts_with(b"HTTP"));
    answer(&[0xff; 4096]);
    // A record that is never complete, its first byte alone, and nothing.
    for stalled in [&old[..20], &old[..1], &[]] {
        assert_eq!(answer(stalled), []);
    }
    // Many that stall hold up nobody.
    let stalled: Vec<_> = (0..100).map(|_| door.tcp()).collect();
    let authority = scratch.0.join("tls/boxes.test.pem");
    let fine = ask(&mut door.connect("api.boxes.test", &authority), "api.boxes.test", "/health").unwrap();
    assert!(fine.starts_with("HTTP/1.1 200 "), "{fine}");
    drop(stalled);
    daemon.stop();
}

/// A certificate for the domain, which trusts itself.
fn own_certificate(dir: &Path) -> PathBuf {
    let pem = |kind: &str, der: &[u8]| {
        use base64::Engine as _;
        format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", base64::prelude::BASE64_STANDARD.encode(der))
    };
    let made = rcgen::generate_simple_self_signed([format!("*.{DOMAIN}")]).unwrap();
    let (certificate, key) = (dir.join("certificate.pem"), dir.join("key.pem"));
    fs::write(&certificate, pem("CERTIFICATE", made.cert.der())).unwrap();
    fs::write(&key, pem("PRIVATE KEY", made.signing_key.serialized_der())).unwrap();
    let copy = dir
        .join(format!("trusted-{:x}.pem", made.signing_key.serialized_der().iter().fold(0_u64, |h, b| h.rotate_left(7) ^ u64::from(*b))));
    fs::copy(&certificate, &copy).unwrap();
    copy
}

#[test]
fn a_new_certificate_is_taken_while_connections_stay() {
    let scratch = Scratch::new("tls-reload");
    let first = own_certificate(&scratch.0);
    let mut command = with_tls(&scratch.0.join("data"));
    command.env("ATOLL_TLS_CERTIFICATE", scratch.0.join("certificate.pem")).env("ATOLL_TLS_KEY", scratch.0.join("key.pem"));
    let daemon = Daemon::spawn(command);
    assert!(!daemon.exports.contains("SSL_CERT_FILE"), "{}", daemon.exports);
    let door = Door::of(&daemon);
    let health = |stream: &mut Stream| ask(stream, "api.boxes.test", "/health");
    let mut open = door.connect("api.boxes.test", &first);
    assert!(health(&mut open).unwrap().contains("200 OK"));
    let second = own_certificate(&scratch.0);
    daemon.signal(Signal::HUP);
    let deadline = Instant::now() + Duration::from_secs(60);
    while health(&mut door.connect("api.boxes.test", &second)).is_err() {
        assert!(Instant::now() < deadline, "the new certificate is not taken");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(health(&mut door.connect("api.boxes.test", &first)).is_err(), "the old one is still shown");
    assert!(health(&mut open).unwrap().contains("200 OK"), "a connection was dropped");
    daemon.stop();
}
