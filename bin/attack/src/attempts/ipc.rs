//! What processes of the host tell each other.

use std::{
    io::{self, Read as _},
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixStream},
    },
    time::Duration,
};

use atoll_sys::raw::{Argument, ROOM, call};

use super::World;
use crate::{host::c_string, outcome::Outcome, spec::Host};

const PATIENCE: Duration = Duration::from_secs(2);

pub fn shared_memory(_: &World, host: &Host) -> Outcome {
    let Some(segment) = host.segment else { return Outcome::NotApplicable("the host has no System V shared memory".into()) };
    let mut answer = [0; ROOM];
    let arguments = [Argument::Number(segment.into()), Argument::Number(libc::IPC_STAT.into()), Argument::Room(&mut answer)];
    Outcome::of("shmctl", call(libc::SYS_shmctl, arguments))
}

pub fn message_queue(world: &World, host: &Host) -> Outcome {
    let Some(queue) = &host.queue else { return Outcome::NotApplicable("the host has no message queues".into()) };
    let name = c_string(queue);
    let flags = i64::from(libc::O_RDONLY | libc::O_NONBLOCK);
    let mut message = [0; ROOM];
    let open = [Argument::Bytes(&name), Argument::Number(flags), Argument::Number(0), Argument::Number(0)];
    let read = call(libc::SYS_mq_open, open).and_then(|queue| {
        let length = Argument::Number(ROOM as i64);
        let arguments = [Argument::Number(queue), Argument::Room(&mut message), length, Argument::Number(0), Argument::Number(0)];
        call(libc::SYS_mq_timedreceive, arguments)
    });
    Outcome::reading("mq_open", read.map(|_| message.to_vec()), &world.spec.secret)
}

fn ask(mut stream: UnixStream) -> io::Result<Vec<u8>> {
    let mut answer = vec![0; 256];
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = stream.read(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

pub fn socket(world: &World, host: &Host) -> Outcome {
    let paths = [host.socket.clone(), format!("/proc/1/root{}", host.socket.display()).into()];
    Outcome::any(paths.map(|path| Outcome::reading(path.display(), UnixStream::connect(&path).and_then(ask), &world.spec.secret)))
}

pub fn abstract_socket(world: &World, host: &Host) -> Outcome {
    let read = SocketAddr::from_abstract_name(&host.abstract_socket).and_then(|name| UnixStream::connect_addr(&name)).and_then(ask);
    Outcome::reading("connecting", read, &world.spec.secret)
}
