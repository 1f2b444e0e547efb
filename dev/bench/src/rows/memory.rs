//! Many sandboxes alive: what each costs, idle and after some use, and what a crash of the daemon means to them.
//!
//! Two hundred are made, and only when the machine has come to rest are they counted: a sandbox that has just been born has not yet
//! touched what it will.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tokio::time::sleep;

use crate::{
    Bench,
    client::{Client, Sandbox},
    daemon::Daemon,
    machine::{meminfo, settle},
    report::{Row, Unit},
};

/// Parts of the kernel's memory, by their names in `/proc/meminfo`.
const KERNEL: [&str; 6] = ["Slab", "PageTables", "KernelStack", "Percpu", "Shmem", "AnonPages"];
/// After a crash, for all to be back.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn measure(bench: &mut Bench) -> Result<()> {
    // The warm one would be in the way of the figures.
    bench.end_daemon();
    let count = if bench.big() { 1000 } else { bench.rounds(200, 20) };
    let mut daemon = bench.start_daemon("info")?;
    let place = daemon.place();
    let mut client = Client::connect(&place).await?;
    let first = client.create().await?;
    client.run(&first, "echo hello").await?;
    client.kill(&first).await?;
    let quiet = Duration::from_secs(bench.rounds(60, 5) as u64);
    settle(512.0, quiet).await?;
    let before = Memory::look(&daemon)?;

    let mut alive = Vec::new();
    for _ in 0..count {
        alive.push(client.create().await?);
    }
    sleep(quiet).await;
    account(bench, &daemon, &alive, &before, "idle", "idle")?;
    for sandbox in &alive {
        client.run(sandbox, "echo hello > ~/a && cat ~/a").await?;
        client.upload(sandbox, "/home/user/b", &[7; 1024]).await?;
        client.download(sandbox, "/home/user/b", "gzip, deflate").await?;
    }
    sleep(quiet).await;
    account(bench, &daemon, &alive, &before, "used", "after a command and two files")?;
    drop(client);
    restart(bench, &mut daemon, &alive).await
}

/// What is in use, in KiB.
struct Memory {
    available: f64,
    kernel: Vec<f64>,
    daemon: f64,
}

impl Memory {
    fn look(daemon: &Daemon) -> Result<Self> {
        Ok(Self { available: meminfo(&["MemAvailable"])?[0], kernel: meminfo(&KERNEL)?, daemon: proportional(daemon.pid())? })
    }
}

/// Adds the rows about memory; each is per sandbox.
fn account(bench: &mut Bench, daemon: &Daemon, alive: &[Sandbox], before: &Memory, name: &str, when: &str) -> Result<()> {
    let now = Memory::look(daemon)?;
    let count = alive.len() as f64;
    let mut envds = Vec::new();
    let (mut resident, mut charged) = (Vec::new(), Vec::new());
    for sandbox in alive {
        let pid = daemon.envd(sandbox)?.0;
        envds.push(proportional(pid)?);
        resident.push(of_process(pid, "status", "VmRSS")?);
        charged.extend(of_cgroup(pid));
    }
    let whole = (before.available - now.available) / count;
    let beyond = whole - envds.iter().sum::<f64>() / count;
    let row = |part: &str, what: String, unit| Row::new(format!("memory.{name}.{part}"), what, unit);
    let many = alive.len();
    bench.add(row("whole", format!("memory of a sandbox, {when}, {many} alive"), Unit::Mebibytes).samples([whole / 1024.0]));
    let target: &[f64] = if name == "idle" { &[4.0] } else { &[] };
    bench.add(row("beyond", format!("… beyond its processes, {when}"), Unit::Mebibytes).samples([beyond / 1024.0]).target(target));
    bench.add(row("envd", format!("envd, proportional, {when}"), Unit::Mebibytes).samples(envds.iter().map(|kib| kib / 1024.0)));
    let row_resident = row("resident", format!("envd, resident, {when}"), Unit::Mebibytes).target(&[4.0]);
    bench.add(row_resident.samples(resident.iter().map(|kib| kib / 1024.0)));
    bench.add(row("charged", format!("charged to its cgroup, {when}"), Unit::Mebibytes).samples(charged.iter().map(|kib| kib / 1024.0)));
    for (part, (before, now)) in KERNEL.iter().zip(before.kernel.iter().zip(&now.kernel)) {
        bench.add(row(part, format!("… of it {part}"), Unit::Kibibytes).samples([(now - before) / count]));
    }
    bench.add(row("daemon", "… of it in the daemon".into(), Unit::Kibibytes).samples([(now.daemon - before.daemon) / count]));
    Ok(())
}

/// A process's own memory and its part of what it shares, in KiB.
fn proportional(pid: u32) -> Result<f64> {
    of_process(pid, "smaps_rollup", "Pss")
}

fn of_process(pid: u32, file: &str, name: &str) -> Result<f64> {
    let file = format!("/proc/{pid}/{file}");
    let text = fs::read_to_string(&file).with_context(|| format!("reading {file}"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().strip_suffix(" kB")?.trim().parse().ok());
    value.with_context(|| format!("no {name} in {file}"))
}

/// What is charged to the cgroup of a process, the kernel's memory for it included, in KiB: unlike the rest it does not move with what
/// others do on the machine.
fn of_cgroup(pid: u32) -> Option<f64> {
    let memberships = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let files = memberships.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        match controllers {
            "" => Some(format!("/sys/fs/cgroup{path}/memory.current")),
            "memory" => Some(format!("/sys/fs/cgroup/memory{path}/memory.usage_in_bytes")),
            _ => None,
        }
    });
    let mut usage = files.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse::<f64>().ok());
    usage.next().map(|bytes| bytes / 1024.0)
}

/// Ends the daemon the hard way and waits for all of them to be there again.
async fn restart(bench: &mut Bench, daemon: &mut Daemon, alive: &[Sandbox]) -> Result<()> {
    let (mut back, mut listed, mut ran, mut lost) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for round in 0..bench.rounds(10, 2) {
        let begun = Instant::now();
        daemon.crash()?;
        let mut client = Client::connect(&daemon.place()).await?;
        client.list().await?;
        back.push(begun.elapsed());
        loop {
            let there = client.list().await?;
            if alive.iter().all(|sandbox| there.contains(&sandbox.id)) || begun.elapsed() > PATIENCE {
                lost += alive.iter().filter(|sandbox| !there.contains(&sandbox.id)).count();
                break;
            }
            sleep(Duration::from_millis(5)).await;
        }
        listed.push(begun.elapsed());
        let sandbox = &alive[round * 7919 % alive.len()];
        let answer = client.run(sandbox, "echo hello").await?;
        ensure!(answer.output == b"hello\n", "a sandbox does not answer after a crash of the daemon");
        ran.push(begun.elapsed());
    }
    let many = alive.len();
    let millis = |name: &str, what: String| Row::new(name, what, Unit::Millis);
    bench.add(millis("restart.api", format!("daemon killed, {many} alive: API back")).times(back).target(&[2000.0]));
    bench.add(millis("restart.listed", "… all listed".into()).times(listed));
    bench.add(millis("restart.command", "… a command has run in one".into()).times(ran));
    bench.add(Row::new("restart.lost", "… sandboxes lost", Unit::Lost).samples([lost as f64]).target(&[0.0]));
    Ok(())
}
