//! The contract of an engine, as a suite that each engine passes.
//!
//! A test calls [`run`] with an engine and a [`Fixture`], which knows how to make plans for it and what a machine leaves on the host.

use std::{
    future::poll_fn,
    net::SocketAddr,
    path::{Path, PathBuf},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::{BootError, BootPlan, Boxed, Exit, Machine, MachineState, Runtime};

/// What the suite must be told about an engine's surroundings.
pub trait Fixture: Send + Sync {
    /// A new machine that can start.
    fn plan(&self) -> BootPlan;

    /// A new machine that cannot.
    fn broken_plan(&self) -> BootPlan;

    /// Makes a machine end without the engine's doing, and tells the exit code that the engine must report.
    fn end(&self, machine: MachineState) -> Boxed<'_, Option<i32>>;

    /// What is on the host of the machine in `dir`, for a person to read; nothing when it is gone.
    fn traces(&self, dir: &Path) -> Vec<String>;
}

/// A clause of the contract that an engine broke.
#[derive(Debug, thiserror::Error)]
#[error("the runtime `{runtime}` fails `{case}`: {reason}")]
pub struct Broken {
    /// The engine.
    pub runtime: &'static str,
    /// The clause.
    pub case: &'static str,
    /// What happened instead.
    pub reason: String,
}

/// How long anything here may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// Long enough for a guest that means to end when asked.
const GRACE: Duration = Duration::from_secs(10);

type Outcome = Result<(), String>;

/// One case with its surroundings.
struct Case<'a> {
    runtime: &'a dyn Runtime,
    fixture: &'a dyn Fixture,
}

/// Runs every case; the first that fails ends the suite.
pub async fn run(runtime: &dyn Runtime, fixture: &dyn Fixture) -> Result<(), Broken> {
    let case = Case { runtime, fixture };
    let cases: [(&'static str, Boxed<'_, Outcome>); 12] = [
        ("a booted machine answers", Box::pin(case.answers())),
        ("machines do not share an address", Box::pin(case.are_apart())),
        ("the end of a machine is told, again and again", Box::pin(case.tells_its_end())),
        ("stop leaves nothing", Box::pin(case.stops())),
        ("stop without grace leaves nothing", Box::pin(case.stops_at_once())),
        ("a dropped machine lives on and is adopted", Box::pin(case.is_adopted())),
        ("an adopted machine's end is told", Box::pin(case.ends_after_adoption())),
        ("a dead machine is not adopted", Box::pin(case.is_gone())),
        ("discard ends what lives, any number of times", Box::pin(case.is_discarded())),
        ("a machine that nobody names any more is found and discarded", Box::pin(case.is_found())),
        ("a failed boot leaves nothing", Box::pin(case.fails())),
        ("a dropped boot leaves nothing", Box::pin(case.is_given_up())),
    ];
    for (name, outcome) in cases {
        let outcome = timeout(3 * DEADLINE, outcome).await.unwrap_or_else(|_| Err("it hangs".to_owned()));
        outcome.map_err(|reason| Broken { runtime: runtime.name(), case: name, reason })?;
    }
    Ok(())
}

impl Case<'_> {
    async fn answers(&self) -> Outcome {
        let machine = self.boot().await?;
        self.stop(machine, GRACE).await
    }

    async fn are_apart(&self) -> Outcome {
        let (one, two) = (self.boot().await?, self.boot().await?);
        expect(one.guest() != two.guest(), || format!("both are at {}", one.guest()))?;
        expect(one.state() != two.state(), || format!("both are {:?}", one.state()))?;
        self.stop(one, GRACE).await?;
        answers(two.guest()).await?;
        self.stop(two, GRACE).await
    }

    async fn tells_its_end(&self) -> Outcome {
        let mut machine = self.boot().await?;
        let early = timeout(Duration::from_millis(20), machine.exited()).await;
        expect(early.is_err(), || format!("{early:?} before the end"))?;
        let code = self.fixture.end(machine.state()).await;
        for _ in 0..2 {
            let exit = within(machine.exited()).await?;
            expect(exit == Exit { code, oom: false }, || format!("{exit:?} instead of code {code:?}"))?;
        }
        self.stop(machine, GRACE).await
    }

    async fn stops(&self) -> Outcome {
        let machine = self.boot().await?;
        let dir = machine.state().dir;
        let exit = within(machine.stop(GRACE)).await?;
        expect(!exit.oom, || "a stop taken for want of memory".to_owned())?;
        self.is_clean(&dir).await
    }

    async fn stops_at_once(&self) -> Outcome {
        let machine = self.boot().await?;
        self.stop(machine, Duration::ZERO).await
    }

    async fn is_adopted(&self) -> Outcome {
        let machine = self.boot().await?;
        let left = machine.state();
        drop(machine);
        answers(left.guest).await?;
        let machine = self.adopt(&left).await?;
        expect(machine.state() == left, || format!("{:?} became {:?}", left, machine.state()))?;
        expect(machine.guest() == left.guest, || format!("{} became {}", left.guest, machine.guest()))?;
        answers(machine.guest()).await?;
        self.stop(machine, GRACE).await
    }

    async fn ends_after_adoption(&self) -> Outcome {
        let left = self.boot().await?.state();
        let mut machine = self.adopt(&left).await?;
        self.fixture.end(left).await;
        within(machine.exited()).await?;
        self.stop(machine, GRACE).await
    }

    async fn is_gone(&self) -> Outcome {
        let machine = self.boot().await?;
        let left = machine.state();
        let stranger = MachineState { pid_started: left.pid_started + 1, ..left.clone() };
        expect(self.runtime.adopt(stranger).await.is_err(), || "it adopts a stranger with the same process number".to_owned())?;
        let foreign = MachineState { runtime: "another".to_owned(), ..left.clone() };
        expect(self.runtime.adopt(foreign).await.is_err(), || "it adopts another engine's machine".to_owned())?;
        self.stop(machine, GRACE).await?;
        expect(self.runtime.adopt(left).await.is_err(), || "it adopts the dead".to_owned())
    }

    async fn is_discarded(&self) -> Outcome {
        let left = self.boot().await?.state();
        for _ in 0..2 {
            within(self.runtime.discard(left.clone())).await?;
            self.is_clean(&left.dir).await?;
        }
        expect(self.runtime.adopt(left).await.is_err(), || "it adopts what was discarded".to_owned())
    }

    async fn is_found(&self) -> Outcome {
        let plan = self.fixture.plan();
        let id = plan.id.clone();
        let dir = within(self.runtime.boot(plan)).await?.map_err(|error| chain(&error))?.state().dir;
        let mut found = within(self.runtime.remains()).await?.into_iter();
        let (_, left) = found.find(|(found, _)| *found == id).ok_or("it is not found")?;
        within(self.runtime.discard(left)).await?;
        self.is_clean(&dir).await?;
        let found = within(self.runtime.remains()).await?;
        expect(found.iter().all(|(found, _)| *found != id), || "it is found after it was discarded".to_owned())
    }

    async fn fails(&self) -> Outcome {
        let plan = self.fixture.broken_plan();
        let dir = plan.dir.clone();
        match within(self.runtime.boot(plan)).await? {
            Ok(_) => Err("it boots".to_owned()),
            Err(BootError::Unsupported { missing, .. }) => Err(format!("the plan is taken for the host's fault: {missing}")),
            Err(BootError::Step { .. }) => self.is_clean(&dir).await,
        }
    }

    async fn is_given_up(&self) -> Outcome {
        for polls in 1..4 {
            let plan = self.fixture.plan();
            let dir = plan.dir.clone();
            let mut boot = self.runtime.boot(plan);
            let mut left = polls;
            let booted = poll_fn(|context| match boot.as_mut().poll(context) {
                Poll::Ready(done) => Poll::Ready(Some(done)),
                Poll::Pending => {
                    left -= 1;
                    if left == 0 { Poll::Ready(None) } else { Poll::Pending }
                }
            });
            if let Some(done) = booted.await {
                let machine = done.map_err(|error| chain(&error))?;
                self.stop(machine, Duration::ZERO).await?;
                continue;
            }
            drop(boot);
            self.is_clean(&dir).await?;
        }
        Ok(())
    }

    async fn boot(&self) -> Result<Box<dyn Machine>, String> {
        let machine = within(self.runtime.boot(self.fixture.plan())).await?.map_err(|error| chain(&error))?;
        answers(machine.guest()).await?;
        Ok(machine)
    }

    async fn adopt(&self, left: &MachineState) -> Result<Box<dyn Machine>, String> {
        within(self.runtime.adopt(left.clone())).await?.map_err(|error| error.to_string())
    }

    async fn stop(&self, machine: Box<dyn Machine>, grace: Duration) -> Outcome {
        let dir: PathBuf = machine.state().dir;
        within(machine.stop(grace)).await?;
        self.is_clean(&dir).await
    }

    /// What a dropped future began may take a moment to be undone.
    async fn is_clean(&self, dir: &Path) -> Outcome {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = self.fixture.traces(dir);
            if left.is_empty() {
                return Ok(());
            }
            expect(Instant::now() < deadline, || format!("left behind: {}", left.join(", ")))?;
            sleep(Duration::from_millis(10)).await;
        }
    }
}

fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise()) }
}

async fn within<T>(future: impl Future<Output = T>) -> Result<T, String> {
    timeout(DEADLINE, future).await.map_err(|_| format!("nothing happened within {} s", DEADLINE.as_secs()))
}

/// Waits until the guest is healthy.
async fn answers(guest: SocketAddr) -> Outcome {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match request(guest, "GET", "/health", "").await {
            Ok((204, _)) => return Ok(()),
            other if Instant::now() > deadline => return Err(format!("{guest} answers {other:?}")),
            _ => sleep(Duration::from_millis(5)).await,
        }
    }
}

/// One request to a guest: the status and the body of its answer.
pub async fn request(guest: SocketAddr, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
    let stream = timeout(DEADLINE, TcpStream::connect(guest)).await??;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
    let request = http::Request::builder().method(method).uri(path).header("host", guest.to_string());
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).map_err(std::io::Error::other)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(std::io::Error::other)?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(std::io::Error::other)?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    let (mut connection, mut exchange) = (std::pin::pin!(connection), std::pin::pin!(exchange));
    timeout(DEADLINE, async {
        tokio::select! {
            answer = &mut exchange => answer,
            // The connection ends when the exchange has all it needs, or with an error that the exchange tells.
            _ = &mut connection => exchange.await,
        }
    })
    .await?
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
