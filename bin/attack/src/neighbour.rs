//! The neighbour's part: a secret behind a port, and ears for every frame that arrives.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{host::label, packet, spec::Spec};

/// Where it answers.
pub const PORT: u16 = 8080;
const ROUND: Duration = Duration::from_millis(200);

/// `GET /` answers with the secret, `GET /heard` with the labels of the attempts whose packets arrived, and the own address.
pub fn run(spec: &Spec) -> Result<()> {
    let heard: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let socket = packet::listener(ROUND).context("listening to the network")?;
    let (ears, nonce) = (heard.clone(), spec.nonce.clone());
    thread::spawn(move || {
        loop {
            let heed = |frame: &[u8]| {
                ears.lock().unwrap_or_else(PoisonError::into_inner).extend(label(frame, &nonce));
                false
            };
            // It may fail for a moment, when the link goes down.
            let _ = packet::listen(&socket, ROUND, heed);
        }
    });
    let address = packet::own_address().context("looking for the own address")?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).context("listening")?;
    for stream in listener.incoming().flatten() {
        let (heard, secret) = (heard.clone(), spec.secret.clone());
        // A client that leaves is no concern of others.
        thread::spawn(move || answer(stream, address, &heard, &secret));
    }
    Ok(())
}

fn answer(mut stream: TcpStream, address: Ipv4Addr, heard: &Mutex<BTreeSet<String>>, secret: &str) -> Result<()> {
    let mut request = [0; 2048];
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let length = stream.read(&mut request)?;
    let body = match request[..length].starts_with(b"GET /heard ") {
        true => {
            let heard = heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
            serde_json::json!({ "address": address, "heard": heard }).to_string()
        }
        false => secret.to_owned(),
    };
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())?;
    Ok(())
}
