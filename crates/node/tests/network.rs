//! What a sandbox reaches from its slot, and what not; and that nothing of a slot is left. Needs root and nftables.

#![allow(clippy::unwrap_used)]

use std::{
    collections::HashSet,
    fs, io,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::PathBuf,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use atoll_node::slots::{Instance, Living, Slot, SlotError, Slots, SlotsConfig, StartError, leftovers};
use atoll_sys::{
    namespace::{Pair, create_pair, in_network},
    netlink::Netlink,
    nft,
};
use atoll_types::Egress;
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(30);
/// How long a connection may take before it counts as denied. Allowed ones take a millisecond; this leaves time for a lost packet.
const DENIED: Duration = Duration::from_secs(2);
const OFFLINE: Egress = Egress { internet: false };

/// One test's tag; whatever it left is removed with it.
struct Mark(Instance);

impl Mark {
    /// `None`, with the reason printed, where the tests cannot run.
    fn new(letter: char, test: &str) -> Option<Self> {
        if fs::metadata("/proc/self").unwrap().uid() != 0 {
            eprintln!("SKIPPED {test}: needs root");
            return None;
        }
        if let Err(e) = nft::tables() {
            eprintln!("SKIPPED {test}: {e}");
            return None;
        }
        Some(Self(format!("{letter}{:x}", std::process::id()).parse().unwrap()))
    }

    fn config(&self) -> SlotsConfig {
        SlotsConfig { ready: 2, ..SlotsConfig::new(self.0.clone()) }
    }

    fn link(&self, index: u32) -> String {
        format!("at{}-{index}", self.0)
    }

    fn leftovers(&self) -> Vec<String> {
        leftovers(&self.config().run_dir, &self.0).unwrap()
    }

    fn interfaces(&self) -> Vec<String> {
        let mut left: Vec<_> = self.leftovers().iter().filter_map(|left| left.strip_prefix("interface ")).map(str::to_owned).collect();
        left.sort();
        left
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        for left in self.leftovers() {
            match left.split_once(' ').unwrap() {
                ("interface", link) => drop(Netlink::open().unwrap().delete_link(link)),
                ("table", table) => drop(nft::run(&format!("delete table {table}\n"))),
                ("lock", lock) => drop(fs::remove_file(lock)),
                (_, rule) => eprintln!("left: {rule}"),
            }
        }
    }
}

/// A piece of the internet behind a link of this host: a network namespace with addresses in it.
struct Outside {
    net: Pair,
    link: String,
    /// A public address, and the host's own next to it.
    public: Ipv4Addr,
    host: Ipv4Addr,
    /// Addresses that a sandbox must not reach, though the host routes them.
    private: Ipv4Addr,
    link_local: Ipv4Addr,
}

impl Outside {
    fn new(mark: &Mark) -> Self {
        let link = format!("ow{}", mark.0);
        let net = create_pair(0x0ffd_0000).unwrap();
        let mut here = Netlink::open().unwrap();
        let taken = here.routes().unwrap();
        // A documentation network, so that it is nobody's; its part that no other run of this test uses.
        let n = (0..64u8).map(|n| n.wrapping_add(std::process::id() as u8) % 64).find(|n| {
            let host = Ipv4Addr::new(203, 0, 113, n * 4 + 1);
            taken.iter().all(|route| route.prefix == 0 || route.address.to_bits() >> 2 != host.to_bits() >> 2)
        });
        let n = n.expect("a free part of 203.0.113.0/24");
        let (host, public) = (Ipv4Addr::new(203, 0, 113, n * 4 + 1), Ipv4Addr::new(203, 0, 113, n * 4 + 2));
        let (private, link_local) = (Ipv4Addr::new(172, 31, 213, n + 1), Ipv4Addr::new(169, 254, 213, n + 1));
        let outside = Self { net, link, public, host, private, link_local };
        let Self { net, link, .. } = &outside;
        here.create_veth(link, "eth0", &net.net).unwrap();
        here.add_address(link, host, 30).unwrap();
        here.set_up(link, true).unwrap();
        let mut there = in_network(&net.net, Netlink::open).unwrap().unwrap();
        there.set_up("eth0", true).unwrap();
        there.add_address("eth0", public, 30).unwrap();
        for address in [private, link_local] {
            there.add_address("eth0", address, 32).unwrap();
            here.add_route(link, address, 32, Some(public)).unwrap();
        }
        outside
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = Netlink::open().unwrap().delete_link(&self.link);
    }
}

/// A server on a port of its own that tells each client from where it came.
fn serve(listener: io::Result<TcpListener>) -> u16 {
    let listener = listener.unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let mut client = client;
            let from = client.peer_addr().unwrap().ip().to_string();
            let _ = client.write_all(from.as_bytes());
        }
    });
    port
}

fn serve_in(net: impl AsFd, at: SocketAddrV4) -> u16 {
    serve(in_network(net, || TcpListener::bind(at)).unwrap())
}

/// What the server at `to` answers.
fn ask(to: SocketAddrV4) -> io::Result<String> {
    let mut client = TcpStream::connect_timeout(&SocketAddr::V4(to), DENIED)?;
    client.set_read_timeout(Some(DENIED))?;
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    Ok(answer)
}

fn ask_from(slot: &Slot, to: SocketAddrV4) -> io::Result<String> {
    in_network(slot.net_ns(), || ask(to)).unwrap()
}

/// Those of the servers that answer in this thread's network.
fn answering(servers: &[SocketAddrV4]) -> Vec<SocketAddrV4> {
    thread::scope(|scope| {
        let asked: Vec<_> = servers.iter().map(|&to| (to, scope.spawn(move || ask(to)))).collect();
        asked.into_iter().filter_map(|(to, answer)| answer.join().unwrap().is_ok().then_some(to)).collect()
    })
}

/// Waits for a fact.
async fn until(what: &str, mut fact: impl FnMut() -> bool) {
    let start = Instant::now();
    while !fact() {
        assert!(start.elapsed() < DEADLINE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn start(config: SlotsConfig) -> Slots {
    Slots::start(config, None, Vec::new(), CancellationToken::new()).await.unwrap().0
}

/// A process in a slot's network.
struct Process(Child);

impl Process {
    fn in_slot(slot: &Slot) -> Self {
        Self(in_network(slot.net_ns(), || Command::new("sleep").arg("600").spawn()).unwrap().unwrap())
    }

    fn living(&self, slot: &Slot, egress: Egress) -> Living {
        Living { index: slot.index(), pid: self.0.id() as i32, egress }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_reaches_the_internet_and_nothing_else() {
    let Some(mark) = Mark::new('a', "a_slot_reaches_the_internet_and_nothing_else") else { return };
    let outside = Outside::new(&mark);
    let slots = start(SlotsConfig { dns: vec![outside.private.into()], ..mark.config() }).await;
    let (slot, other) = (slots.take(&Egress::default()).await.unwrap(), slots.take(&Egress::default()).await.unwrap());
    let alone = slots.take(&OFFLINE).await.unwrap();

    let public = SocketAddrV4::new(outside.public, serve_in(&outside.net.net, SocketAddrV4::new(outside.public, 0)));
    let name_server = SocketAddrV4::new(outside.private, serve_in(&outside.net.net, SocketAddrV4::new(outside.private, 53)));
    let everywhere = serve_in(&outside.net.net, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
    let of_host = serve(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)));
    let in_slot = serve_in(slot.net_ns(), SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
    let inother = serve_in(other.net_ns(), SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
    let in_alone = serve_in(alone.net_ns(), SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

    assert_eq!(ask_from(&slot, public).unwrap(), outside.host.to_string(), "it comes from the host's address");
    assert!(ask_from(&slot, name_server).is_ok(), "a private name server");
    for (server, port) in [(&slot, in_slot), (&other, inother), (&alone, in_alone)] {
        let from = ask(SocketAddrV4::new(server.address(), port)).unwrap();
        assert_eq!(from, Ipv4Addr::from_bits(server.address().to_bits() - 1).to_string(), "the host reaches slot {}", server.index());
    }

    let mut denied: Vec<_> =
        [outside.private, outside.link_local].into_iter().map(|address| SocketAddrV4::new(address, everywhere)).collect();
    denied.push(SocketAddrV4::new(other.address(), inother));
    let mut netlink = Netlink::open().unwrap();
    let foreign = |link: &str| ["at", "ow"].iter().any(|kind| link.starts_with(kind)) && !link.contains(&mark.0.to_string());
    let links: HashSet<_> = netlink.links().unwrap().into_iter().filter(|link| !foreign(&link.name)).map(|link| link.index).collect();
    let of_this_host = netlink.addresses().unwrap().into_iter().filter(|at| links.contains(&at.link) && !at.address.is_loopback());
    denied.extend(of_this_host.map(|at| SocketAddrV4::new(at.address, of_host)));
    assert!(denied.contains(&SocketAddrV4::new(outside.host, of_host)));
    assert_eq!(answering(&denied), denied, "all of these are there for the host");
    assert_eq!(in_network(slot.net_ns(), || answering(&denied)).unwrap(), [], "none of these is there for a sandbox");

    denied.extend([public, name_server]);
    assert_eq!(in_network(alone.net_ns(), || answering(&denied)).unwrap(), [], "nothing is there for one without internet");
    assert!(ask_from(&slot, public).is_ok(), "still there");

    [slot, other, alone].into_iter().for_each(Slot::release);
    slots.shutdown().await.unwrap();
    assert_eq!(mark.leftovers(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_slot_cannot_have_all_connections() {
    const MOST: usize = 4096;
    let Some(mark) = Mark::new('k', "one_slot_cannot_have_all_connections") else { return };
    let outside = Outside::new(&mark);
    let slots = start(mark.config()).await;
    let (greedy, modest) = (slots.take(&Egress::default()).await.unwrap(), slots.take(&Egress::default()).await.unwrap());
    let public = SocketAddrV4::new(outside.public, serve_in(&outside.net.net, SocketAddrV4::new(outside.public, 0)));
    assert!(ask_from(&greedy, public).is_ok());

    let target = SocketAddrV4::new(outside.public, 9);
    let send_from = |port| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).and_then(|from| from.send_to(b"x", target));
    let flood = || (10_000..).take(MOST + 500).try_for_each(|port| send_from(port).map(drop));
    in_network(greedy.net_ns(), flood).unwrap().unwrap();
    let remembered = fs::read_to_string("/proc/net/nf_conntrack").map(|table| {
        let of_greedy = format!(" src={} ", greedy.address());
        table.lines().filter(|line| line.contains(&of_greedy) && line.contains("dport=9 ")).count()
    });
    if let Ok(remembered) = remembered {
        assert!(remembered <= MOST, "{remembered} connections are remembered");
    }
    assert!(ask_from(&greedy, public).is_err(), "it has as many as it may have");
    assert!(ask_from(&modest, public).is_ok(), "that is nobody else's loss");

    [greedy, modest].into_iter().for_each(Slot::release);
    slots.shutdown().await.unwrap();
    assert_eq!(mark.leftovers(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_sender_is_dropped() {
    let Some(mark) = Mark::new('b', "a_forged_sender_is_dropped") else { return };
    let outside = Outside::new(&mark);
    let slots = start(mark.config()).await;
    let (slot, other) = (slots.take(&Egress::default()).await.unwrap(), slots.take(&Egress::default()).await.unwrap());
    let server = in_network(&outside.net.net, || UdpSocket::bind((outside.public, 0))).unwrap().unwrap();
    server.set_read_timeout(Some(DEADLINE)).unwrap();
    let to = server.local_addr().unwrap();

    // The kernel's own check would hide whether the packet filter does its part.
    let reverse_path = format!("/proc/sys/net/ipv4/conf/{}/rp_filter", mark.link(slot.index()));
    assert_eq!(fs::read_to_string(&reverse_path).unwrap().trim_end(), "1");
    fs::write(reverse_path, "0").unwrap();
    let stranger = Ipv4Addr::new(198, 51, 100, 77);
    let mut inside = in_network(slot.net_ns(), Netlink::open).unwrap().unwrap();
    for forged in [other.address(), stranger] {
        inside.add_address("eth0", forged, 32).unwrap();
    }
    in_network(slot.net_ns(), || {
        for (from, text) in [(other.address(), "forged"), (stranger, "forged"), (slot.address(), "honest")] {
            UdpSocket::bind((from, 0)).unwrap().send_to(text.as_bytes(), to).unwrap();
        }
    })
    .unwrap();
    let mut text = [0; 16];
    let (length, _) = server.recv_from(&mut text).unwrap();
    assert_eq!(&text[..length], b"honest");

    drop((slot, other));
    slots.shutdown().await.unwrap();
    assert_eq!(mark.leftovers(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_predecessor_opened_is_closed_to_one_without_internet() {
    let Some(mark) = Mark::new('p', "what_a_predecessor_opened_is_closed_to_one_without_internet") else { return };
    let outside = Outside::new(&mark);
    // Two addresses, one of which is taken: whoever comes next has the predecessor's.
    let range = format!("198.19.{}.{}/30", std::process::id() % 256, std::process::id() / 256 % 64 * 4).parse().unwrap();
    let slots = start(SlotsConfig { range, ..mark.config() }).await;
    let (other, slot) = (slots.take(&Egress::default()).await.unwrap(), slots.take(&Egress::default()).await.unwrap());
    let server = in_network(&outside.net.net, || UdpSocket::bind((outside.public, 0))).unwrap().unwrap();
    server.set_read_timeout(Some(DENIED)).unwrap();
    let (to, address, mut text) = (server.local_addr().unwrap(), slot.address(), [0; 16]);
    let say = |slot: &Slot, text: &str| {
        let socket = in_network(slot.net_ns(), || UdpSocket::bind((address, 5353))).unwrap().unwrap();
        socket.set_read_timeout(Some(DENIED)).unwrap();
        socket.send_to(text.as_bytes(), to).unwrap();
        socket
    };
    let socket = say(&slot, "before");
    let (length, from) = server.recv_from(&mut text).unwrap();
    assert_eq!(&text[..length], b"before");
    server.send_to(b"reply", from).unwrap();
    assert_eq!(socket.recv(&mut text).unwrap(), 5, "now the kernel knows the flow");
    drop(socket);
    slot.release();

    let next = slots.take(&OFFLINE).await.unwrap();
    assert_eq!(next.address(), address);
    let _socket = say(&next, "after");
    assert!(server.recv_from(&mut text).is_err(), "the flow of the predecessor is open");

    drop((other, next));
    slots.shutdown().await.unwrap();
    assert_eq!(mark.leftovers(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_is_set_up_for_its_users() {
    let Some(mark) = Mark::new('c', "a_slot_is_set_up_for_its_users") else { return };
    let slots = start(mark.config()).await;
    let slot = slots.take(&Egress::default()).await.unwrap();
    let (ipv6, ping) = in_network(slot.net_ns(), || {
        (fs::read_to_string("/proc/thread-self/net/if_inet6"), fs::read_to_string("/proc/sys/net/ipv4/ping_group_range").unwrap())
    })
    .unwrap();
    assert!(ipv6.unwrap_or_default().lines().all(|line| line.ends_with("lo")), "no IPv6 but on the loopback");
    let first = slots.block().id_base(slot.index());
    assert_eq!(ping.split_whitespace().collect::<Vec<_>>(), [first.to_string(), (first + 65535).to_string()]);
    let echo = serve_in(slot.net_ns(), SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
    assert!(ask_from(&slot, SocketAddrV4::new(Ipv4Addr::LOCALHOST, echo)).is_ok(), "the loopback is up");

    let free = Ipv4Addr::from_bits(slots.block().sandbox(slots.block().capacity() - 1).to_bits());
    let started = Instant::now();
    assert!(ask(SocketAddrV4::new(free, 80)).is_err());
    assert!(started.elapsed() < DENIED, "an address without a sandbox refuses at once");
    drop(slot);
    slots.shutdown().await.unwrap();
    assert_eq!(mark.leftovers(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_get_one_each_until_none_is_left() {
    let Some(mark) = Mark::new('d', "many_at_once_get_one_each_until_none_is_left") else { return };
    let n = std::process::id();
    let range = format!("198.18.{}.{}/26", n / 4 % 256, n % 4 * 64).parse().unwrap();
    let slots = start(SlotsConfig { range, ..mark.config() }).await;
    let started = Instant::now();
    let takers: Vec<_> = (0..32)
        .map(|n| {
            tokio::spawn({
                let slots = slots.clone();
                async move { slots.take(&Egress { internet: n % 2 == 0 }).await.unwrap() }
            })
        })
        .collect();
    let mut taken = Vec::new();
    for taker in takers {
        taken.push(taker.await.unwrap());
    }
    eprintln!("32 slots were made and taken in {:?}", started.elapsed());
    assert_eq!(taken.iter().map(Slot::index).collect::<HashSet<_>>().len(), 32);
    assert!(matches!(slots.take(&Egress::default()).await, Err(SlotError::Exhausted { capacity: 32 })));

    let back = taken.remove(7);
    let (index, link) = (back.index(), mark.link(back.index()));
    let old = fs::metadata(format!("/sys/class/net/{link}")).unwrap().ino();
    back.release();
    let again = slots.take(&OFFLINE).await.unwrap();
    assert_eq!(again.index(), index);
    assert_ne!(fs::metadata(format!("/sys/class/net/{link}")).unwrap().ino(), old, "it was made anew");

    drop((taken, again));
    slots.shutdown().await.unwrap();
    assert!(matches!(slots.take(&Egress::default()).await, Err(SlotError::Stopped)));
    assert_eq!(mark.leftovers(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_packet_filter_comes_back() {
    let Some(mark) = Mark::new('j', "the_packet_filter_comes_back") else { return };
    let slots = start(mark.config()).await;
    let (slot, other) = (slots.take(&Egress::default()).await.unwrap(), slots.take(&Egress::default()).await.unwrap());
    let to = SocketAddrV4::new(other.address(), serve_in(other.net_ns(), SocketAddrV4::new(other.address(), 0)));
    let table = format!("table inet atoll_{}", mark.0);
    let removal = format!("delete {table}\n");

    nft::run(&removal).unwrap();
    let alone = slots.take(&OFFLINE).await.unwrap();
    assert!(ask_from(&slot, to).is_err() && ask_from(&alone, to).is_err(), "the next change brings it back");
    nft::run(&removal).unwrap();
    until("it comes back by itself", || mark.leftovers().contains(&table)).await;
    assert!(ask_from(&slot, to).is_err() && ask_from(&alone, to).is_err());
    assert!(ask(to).is_ok());

    drop((slot, other, alone));
    slots.shutdown().await.unwrap();
    assert_eq!(mark.leftovers(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn daemons_of_one_host_stay_apart() {
    let (Some(mark), Some(next)) = (Mark::new('e', "daemons_of_one_host_stay_apart"), Mark::new('f', "daemons_of_one_host_stay_apart"))
    else {
        return;
    };
    let (one, two) = (start(mark.config()).await, start(next.config()).await);
    assert_ne!(one.block(), two.block());
    let twin = Slots::start(mark.config(), None, Vec::new(), CancellationToken::new()).await;
    assert!(matches!(twin, Err(StartError::InstanceRuns(instance)) if instance == mark.0));
    let full = SlotsConfig { range: one.block().cidr(), ..SlotsConfig::new(format!("x{:x}", std::process::id()).parse().unwrap()) };
    let refused = Slots::start(full, None, Vec::new(), CancellationToken::new()).await;
    assert!(matches!(refused, Err(StartError::NoBlock(range)) if range == one.block().cidr()));

    let (slot, other) = (one.take(&Egress::default()).await.unwrap(), two.take(&Egress::default()).await.unwrap());
    let to = SocketAddrV4::new(other.address(), serve_in(other.net_ns(), SocketAddrV4::new(other.address(), 0)));
    assert!(ask(to).is_ok());
    assert!(ask_from(&slot, to).is_err());
    drop((slot, other));
    one.shutdown().await.unwrap();
    two.shutdown().await.unwrap();
    assert_eq!([mark.leftovers(), next.leftovers()].concat(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn running_sandboxes_keep_their_slots_when_the_daemon_stops() {
    let Some(mark) = Mark::new('g', "running_sandboxes_keep_their_slots_when_the_daemon_stops") else { return };
    let outside = Outside::new(&mark);
    let public = SocketAddrV4::new(outside.public, serve_in(&outside.net.net, SocketAddrV4::new(outside.public, 0)));
    let slots = start(mark.config()).await;
    let (slot, alone) = (slots.take(&Egress::default()).await.unwrap(), slots.take(&OFFLINE).await.unwrap());
    let processes = [Process::in_slot(&slot), Process::in_slot(&alone)];
    let living = vec![processes[0].living(&slot, Egress::default()), processes[1].living(&alone, OFFLINE)];
    let mut kept = [mark.link(slot.index()), mark.link(alone.index())];
    kept.sort();
    let (index, alone_index, block) = (slot.index(), alone.index(), slots.block());
    slots.shutdown().await.unwrap();
    assert_eq!(mark.interfaces(), kept);
    assert!(ask_from(&slot, public).is_ok() && ask_from(&alone, public).is_err(), "nothing changes for them");
    drop((slot, alone, slots));
    assert_eq!(mark.interfaces(), kept);

    let (slots, mut back) = Slots::start(mark.config(), Some(block), living, CancellationToken::new()).await.unwrap();
    let (slot, alone) = (back.remove(&index).unwrap(), back.remove(&alone_index).unwrap());
    assert_eq!(slots.block(), block);
    assert!(ask_from(&slot, public).is_ok() && ask_from(&alone, public).is_err(), "nor now");
    assert_ne!(slots.take(&Egress::default()).await.unwrap().index(), index);
    drop((slot, alone, processes));
    slots.shutdown().await.unwrap();
    assert_eq!(mark.leftovers(), [""; 0]);
}

#[test]
fn a_crash_leaves_only_what_lives() {
    let Some(mark) = Mark::new('h', "a_crash_leaves_only_what_lives") else { return };
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let crashing = runtime();
    let (slot, gone, process, block) = crashing.block_on(async {
        let slots = start(mark.config()).await;
        let (slot, gone) = (slots.take(&Egress::default()).await.unwrap(), slots.take(&OFFLINE).await.unwrap());
        let process = Process::in_slot(&slot);
        (slot, gone, process, slots.block())
    });
    drop(crashing);
    let mut links: HashSet<_> = mark.interfaces().into_iter().collect();
    assert!(links.remove(&mark.link(slot.index())) && links.remove(&mark.link(gone.index())), "{links:?}");
    assert!(mark.leftovers().iter().any(|left| left.starts_with("table")));

    runtime().block_on(async {
        let dead = Living { index: gone.index(), pid: i32::MAX, egress: OFFLINE };
        let absurd = Living { index: u32::MAX, pid: 1, egress: OFFLINE };
        let living = vec![process.living(&slot, Egress::default()), dead, absurd];
        let (slots, back) =
            Slots::start(SlotsConfig { ready: 1, ..mark.config() }, Some(block), living, CancellationToken::new()).await.unwrap();
        assert_eq!(back.keys().copied().collect::<Vec<_>>(), [slot.index()]);
        until("the stale links are gone and one is ready", || mark.interfaces().len() == 2).await;
        assert!(mark.interfaces().contains(&mark.link(slot.index())));
        drop((back, process));
        slots.shutdown().await.unwrap();
    });
    assert_eq!(mark.leftovers(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_cannot_is_told_why() {
    let Some(mark) = Mark::new('i', "a_host_that_cannot_is_told_why") else { return };
    let refused = Slots::start(
        SlotsConfig { run_dir: PathBuf::from("/proc/self/status"), ..mark.config() },
        None,
        Vec::new(),
        CancellationToken::new(),
    );
    assert!(matches!(refused.await, Err(StartError::Lock { .. })));
}
