//! The load: one thread that drives many connections of any protocol through epoll, at the least cost to the machine that
//! client and server share. Every peer is driven by this same loop.

use std::{
    collections::VecDeque,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

/// How long nothing at all may come before the bench says that the server has stopped.
const PATIENCE: Duration = Duration::from_mins(1);
/// Nanoseconds to a histogram's highest value: ten minutes.
const HIGHEST: u64 = 600_000_000_000;

/// What one connection says and hears.
pub trait Talk {
    /// Writes the next request to `out`. False: there is none any more. `closing`: time is up; only what puts things in
    /// order is still asked.
    fn ask(&mut self, closing: bool, out: &mut Vec<u8>) -> bool;
    /// Reads the reply at the front of `input`: how long it is, or `None` while it is not whole. A reply that is not what
    /// the request should get is an error: a bench that counts errors measures nothing.
    fn hear(&mut self, input: &[u8]) -> anyhow::Result<Option<usize>>;
    /// How many operations the last reply stands for.
    fn weight(&self) -> u64 {
        1
    }
    /// Whether the last reply's latency counts.
    fn timed(&self) -> bool {
        true
    }
}

/// A connection and its side of the conversation.
pub struct Lane<T> {
    stream: TcpStream,
    /// What speaks.
    pub talk: T,
    input: Vec<u8>,
    filled: usize,
    out: Vec<u8>,
    asked: Instant,
    busy: bool,
}

impl<T: Talk> Lane<T> {
    /// Connects.
    pub fn open(address: SocketAddr, talk: T) -> anyhow::Result<Self> {
        let stream =
            TcpStream::connect(address).with_context(|| format!("can't connect to {address}"))?;
        Self::over(stream, talk)
    }

    /// Goes on with a connection on which something was said already.
    pub fn over(stream: TcpStream, talk: T) -> anyhow::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            talk,
            input: vec![0; 16 << 10],
            filled: 0,
            out: Vec::with_capacity(4 << 10),
            asked: Instant::now(),
            busy: false,
        })
    }

    /// The connection, for another conversation.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    fn ask(&mut self, closing: bool, at: Instant) -> anyhow::Result<bool> {
        self.out.clear();
        self.busy = self.talk.ask(closing, &mut self.out);
        self.asked = at;
        let mut sent = 0;
        while self.busy && sent < self.out.len() {
            match self.stream.write(&self.out[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut ready = [PollFd::new(&self.stream, PollFlags::OUT)];
                    poll(&mut ready, None)?;
                }
                Err(error) => return Err(error).context("sending a request"),
            }
        }
        Ok(self.busy)
    }

    /// Reads once. Gives whether the reply is whole.
    fn hear(&mut self) -> anyhow::Result<bool> {
        if self.filled == self.input.len() {
            self.input.resize(self.filled * 2, 0);
        }
        let count = match self.stream.read(&mut self.input[self.filled..]) {
            Ok(0) => bail!("the server has closed the connection"),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error).context("reading a reply"),
        };
        self.filled += count;
        let Some(length) = self.talk.hear(&self.input[..self.filled])? else {
            return Ok(false);
        };
        if !self.busy {
            bail!("a reply that nobody asked for");
        }
        if length != self.filled {
            bail!("{} bytes behind a reply", self.filled - length);
        }
        self.filled = 0;
        self.busy = false;
        Ok(true)
    }
}

/// When requests are sent.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// Each connection asks as soon as its reply is there.
    Closed,
    /// So many requests a second, whatever the replies do; latency counts from when a request was due.
    Open(f64),
}

/// What happened in one second.
#[derive(Debug, Clone, Copy, Default)]
pub struct Second {
    /// Operations.
    pub count: u64,
    /// The longest reply in it, in nanoseconds.
    pub worst_ns: u64,
}

/// What a run gave.
#[derive(Debug)]
pub struct Run {
    /// Operations that were answered as they should be.
    pub count: u64,
    /// Requests that were answered.
    pub requests: u64,
    /// From the first request to the last reply.
    pub took: Duration,
    /// Nanoseconds of each reply.
    pub latency: Histogram<u64>,
    /// Second by second.
    pub seconds: Vec<Second>,
}

impl Run {
    /// Operations a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.count as f64 / self.took.as_secs_f64()
    }

    /// A quantile of the latency.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.latency.value_at_quantile(quantile))
    }
}

/// A histogram for latencies in nanoseconds.
pub fn histogram() -> anyhow::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, HIGHEST, 3).context("a histogram")
}

/// Lets all lanes talk until they have nothing more to say, or until `time` is up.
pub fn drive<T: Talk>(
    lanes: &mut [Lane<T>],
    pace: Pace,
    time: Option<Duration>,
) -> anyhow::Result<Run> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (index, lane) in lanes.iter().enumerate() {
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&epoll, lane.stream.as_fd(), data, epoll::EventFlags::IN)?;
    }
    let start = Instant::now();
    let mut work = Work {
        lanes,
        start,
        end: time.map(|time| start + time),
        last: start,
        open: 0,
        idle: VecDeque::new(),
        run: Run {
            count: 0,
            requests: 0,
            took: Duration::ZERO,
            latency: histogram()?,
            seconds: Vec::new(),
        },
    };
    match pace {
        Pace::Closed => work.closed(&epoll)?,
        Pace::Open(rate) => work.paced(&epoll, rate)?,
    }
    work.run.took = work.last - start;
    Ok(work.run)
}

struct Work<'a, T> {
    lanes: &'a mut [Lane<T>],
    start: Instant,
    end: Option<Instant>,
    last: Instant,
    /// Lanes that wait for a reply.
    open: usize,
    idle: VecDeque<usize>,
    run: Run,
}

impl<T: Talk> Work<'_, T> {
    fn closed(&mut self, epoll: &impl std::os::fd::AsFd) -> anyhow::Result<()> {
        for lane in self.lanes.iter_mut() {
            self.open += usize::from(lane.ask(false, Instant::now())?);
        }
        let mut events = Vec::with_capacity(1024);
        while self.open > 0 {
            wait(epoll, &mut events, PATIENCE)?;
            if events.is_empty() {
                bail!("no reply for {} s", PATIENCE.as_secs());
            }
            for event in &events {
                let index = event.data.u64() as usize;
                if !self.heard(index)? {
                    continue;
                }
                let closing = self.end.is_some_and(|end| self.last >= end);
                if !self.lanes[index].ask(closing, self.last)? {
                    self.open -= 1;
                }
            }
        }
        Ok(())
    }

    fn paced(&mut self, epoll: &impl std::os::fd::AsFd, rate: f64) -> anyhow::Result<()> {
        let end = self.end.context("an open loop needs a time")?;
        self.idle.extend(0..self.lanes.len());
        let mut events = Vec::with_capacity(1024);
        let mut sent = 0_u64;
        loop {
            let now = Instant::now();
            let mut due = self.start + Duration::from_secs_f64(sent as f64 / rate);
            while due <= now && due < end {
                let Some(index) = self.idle.pop_front() else {
                    break;
                };
                if !self.lanes[index].ask(false, due)? {
                    bail!("an open loop needs requests without end");
                }
                self.open += 1;
                sent += 1;
                due = self.start + Duration::from_secs_f64(sent as f64 / rate);
            }
            if due >= end && self.open == 0 {
                break;
            }
            let patience = if self.idle.is_empty() || due >= end {
                PATIENCE
            } else {
                due.saturating_duration_since(Instant::now())
            };
            wait(epoll, &mut events, patience)?;
            if events.is_empty() && patience == PATIENCE {
                bail!("no reply for {} s", PATIENCE.as_secs());
            }
            for event in &events {
                let index = event.data.u64() as usize;
                if self.heard(index)? {
                    self.open -= 1;
                    self.idle.push_back(index);
                }
            }
        }
        for lane in self.lanes.iter_mut() {
            self.open += usize::from(lane.ask(true, Instant::now())?);
        }
        self.end = Some(self.last);
        while self.open > 0 {
            wait(epoll, &mut events, PATIENCE)?;
            for event in &events {
                let index = event.data.u64() as usize;
                let lane = &mut self.lanes[index];
                if lane.hear()? && !lane.ask(true, self.last)? {
                    self.open -= 1;
                }
            }
        }
        Ok(())
    }

    fn heard(&mut self, index: usize) -> anyhow::Result<bool> {
        let lane = &mut self.lanes[index];
        if !lane.hear()? {
            return Ok(false);
        }
        let now = Instant::now();
        let took = (now - lane.asked).as_nanos() as u64;
        let weight = lane.talk.weight();
        if lane.talk.timed() {
            self.run.latency.record(took.clamp(1, HIGHEST))?;
        }
        self.run.requests += 1;
        self.run.count += weight;
        self.last = now;
        let second = (now - self.start).as_secs() as usize;
        if self.run.seconds.len() <= second {
            self.run.seconds.resize(second + 1, Second::default());
        }
        let entry = &mut self.run.seconds[second];
        entry.count += weight;
        entry.worst_ns = entry.worst_ns.max(took);
        Ok(true)
    }
}

fn wait(
    epoll: &impl std::os::fd::AsFd,
    events: &mut Vec<epoll::Event>,
    time: Duration,
) -> anyhow::Result<()> {
    events.clear();
    let time = Timespec {
        tv_sec: time.as_secs() as i64,
        tv_nsec: i64::from(time.subsec_nanos()),
    };
    match epoll::wait(epoll, rustix::buffer::spare_capacity(events), Some(&time)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error).context("epoll_wait"),
    }
}
