//! [`World`]: an engine, its hands, its watcher, its clients and its disk, one thing at a time.
//!
//! The daemon has a thread for the engine and one for each hand ([`hands`](crate::engine::hands)); each takes its orders
//! in turn, and all answer into one channel. So here: each hand has its queue of orders, the engine its inbox, and chance
//! says who goes on next. An order is carried out in one go, but a crash may come at each operation of it.

use std::{collections::VecDeque, path::Path, sync::Arc};

use super::{
    chance::Chance,
    clients::Clients,
    disk::SimDisk,
    hands::{FilesOrder, JournalOrder, KeeperOrder},
    oracle::Oracle,
    temper::Temper,
    told::Told,
    trace::{Held, Trace},
    watch::{Watch, WatchOrder},
};
use crate::{
    backend::Answer,
    engine::{Durability, Engine, Input, Loader, Output, Request, Response, Ticket},
    store::{
        Boot, Disk as _, DropLimits, Journal, JournalStart, Latched, RecoverError, Sighting, Spool,
        recover,
    },
    task::{ClaimAnswer, Location, Millis, Now, PayloadLimits, TaskId, Tick, WallMillis},
};

/// How large dropped files may be, in bytes.
pub(super) const LIMITS: DropLimits = DropLimits {
    payloads: PayloadLimits::bytes(20_000),
    max_file: 40_000,
};

/// One life of the daemon.
pub(super) struct Life {
    pub(super) engine: Engine,
    pub(super) journal: Journal<Latched<SimDisk>>,
    pub(super) keeper: Journal<Latched<SimDisk>>,
    pub(super) spool: Spool<SimDisk>,
    pub(super) watch: Watch,
    /// What the watcher saw and has not told.
    seen: Vec<Sighting>,
    pub(super) journal_orders: VecDeque<JournalOrder>,
    pub(super) keeper_orders: VecDeque<KeeperOrder>,
    pub(super) files_orders: VecDeque<FilesOrder>,
    pub(super) loads: VecDeque<Vec<(TaskId, Location)>>,
    pub(super) inbox: VecDeque<Input>,
    pub(super) fault: bool,
    pub(super) closed: bool,
}

/// Who goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Client,
    Time,
    Engine,
    Journal,
    Keeper,
    Files,
    Loader,
    Watcher,
}

const EVERYONE: [Who; 8] = [
    Who::Client,
    Who::Time,
    Who::Engine,
    Who::Journal,
    Who::Keeper,
    Who::Files,
    Who::Loader,
    Who::Watcher,
];

/// How a life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The program was killed.
    Kill,
    /// The machine was shut down in order, and booted.
    Reboot,
    /// The power was cut.
    PowerCut,
}

pub(super) struct World {
    pub(super) seed: u64,
    pub(super) temper: Temper,
    pub(super) chance: Chance,
    pub(super) disk: SimDisk,
    pub(super) now: Now,
    pub(super) oracle: Oracle,
    pub(super) clients: Clients,
    pub(super) trace: Trace,
    pub(super) life: Option<Life>,
    /// The boot clock's readings at the starts of this boot.
    starts: Vec<Tick>,
    lives: u64,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed, 0);
        let temper = Temper::new(&mut chance);
        Self::with(seed, chance, temper)
    }

    pub(super) fn with(seed: u64, chance: Chance, temper: Temper) -> Self {
        let mut trace = Trace::default();
        trace.note(|| format!("{temper:?}"));
        let disk = SimDisk::new(seed);
        disk.set_capacity(temper.capacity);
        let mut world = Self {
            seed,
            temper,
            chance,
            disk,
            now: Now {
                wall: WallMillis(1_700_000_000_000),
                tick: Tick(50_000_000_000),
            },
            oracle: Oracle::default(),
            clients: Clients::default(),
            trace,
            life: None,
            starts: Vec::new(),
            lives: 0,
        };
        world.pass(0);
        world
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, millis: u64) {
        self.now.tick = self.now.tick.plus(Millis(millis));
        self.now.wall = WallMillis(self.now.wall.0 + millis as i64);
        self.disk.set_wall(self.now.wall.0);
    }

    /// Starts the daemon. Gives whether it came up: it does not when the disk stops or fails on the way.
    pub(super) fn open(&mut self) -> Held<bool> {
        self.lives += 1;
        self.oracle.has_segment = false;
        let boot = Boot {
            id: [self.oracle.boot; 16],
            tick: self.now.tick,
        };
        self.starts.push(self.now.tick);
        let mut chance = Chance::new(self.seed, 1000 + self.lives);
        let entropy = Box::new(move || chance.number());
        let mut loader = Loader::new(self.temper.settings.clone(), entropy, self.now);
        let latched = Arc::new(Latched::new(self.disk.clone()));
        let spool = Spool::new(Arc::new(self.disk.clone()), LIMITS);
        let start = match self.start(&spool, &latched, &boot, &mut loader) {
            Ok(start) => start,
            Err(error) => {
                let troubled = self.disk.end_trouble() > 0 || self.disk.stopped();
                self.trace.note(|| format!("the start failed: {error}"));
                return match error {
                    RecoverError::Disk(_) if troubled => Ok(false),
                    other => Err(format!("the start refused what a crash left: {other}")),
                };
            }
        };
        self.trace.note(|| {
            format!(
                "started in boot {}: frames to {}, checkpoint {}, torn {:?}",
                self.oracle.boot,
                start.next.before(),
                start.cut,
                start.torn.as_ref().map(|torn| &torn.reason)
            )
        });
        let (engine, doubles) = loader.finish(&start);
        self.recovered(&engine, &start)?;
        let mut watch = Watch::new(self.disk.clone(), LIMITS);
        watch.orders.push_back(WatchOrder::Inspect(doubles));
        self.life = Some(Life {
            engine,
            journal: Journal::new(Arc::clone(&latched), start.boot),
            keeper: Journal::new(latched, start.boot),
            spool,
            watch,
            seen: Vec::new(),
            journal_orders: VecDeque::new(),
            keeper_orders: VecDeque::new(),
            files_orders: VecDeque::new(),
            loads: VecDeque::new(),
            inbox: VecDeque::new(),
            fault: false,
            closed: false,
        });
        self.step_engine(0)?;
        Ok(true)
    }

    /// What the daemon does to the disk before its engine runs.
    fn start(
        &self,
        spool: &Spool<SimDisk>,
        latched: &Latched<SimDisk>,
        boot: &Boot,
        loader: &mut Loader,
    ) -> Result<JournalStart, RecoverError> {
        for dir in ["tasks", "dead", "rejected", "journal"] {
            self.disk.make_dir(Path::new(dir))?;
        }
        let read = self.disk.directory(Path::new("tasks")).ok();
        let mut temporary = Vec::new();
        let start = recover(latched, boot, &mut |found| match found {
            crate::store::Found::Temporary(path) => temporary.push(path),
            found => loader.take(found),
        })?;
        spool.sweep(temporary)?;
        loader.compare(latched, read, &mut || {});
        loader.measure(latched, &mut || {});
        Ok(start)
    }

    fn recovered(&mut self, engine: &Engine, start: &JournalStart) -> Held {
        let found = super::view::facts(engine, self.oracle.boot);
        let check = super::view::switches(engine, self.now);
        let last = start.next.before().0;
        self.oracle.recovered(last, found, &check, &self.starts)
    }

    /// Ends the life.
    pub(super) fn end(&mut self, end: End) {
        self.trace.note(|| format!("{end:?}"));
        self.life = None;
        self.clients.asked.clear();
        match end {
            End::Kill => self.disk.kill(),
            End::Reboot => {
                self.disk.state().sync_all();
                self.disk.kill();
            }
            End::PowerCut => self.disk.cut_power(),
        }
        self.pass(50);
        if end != End::Kill {
            self.oracle.boot += 1;
            self.starts.clear();
            self.now.tick = Tick(5_000_000_000 + self.chance.below(1_000_000_000));
        }
    }

    /// Whether the life is over: the disk has stopped, or writes have.
    pub(super) fn over(&self) -> bool {
        self.disk.stopped()
            || self
                .life
                .as_ref()
                .is_none_or(|life| life.fault || life.closed)
    }

    /// Somebody goes on.
    pub(super) fn turn(&mut self) -> Held {
        let able: Vec<(Who, u64)> = EVERYONE
            .into_iter()
            .zip(self.temper.eager)
            .filter(|(who, _)| self.can(*who))
            .collect();
        let mut at = self.chance.below(able.iter().map(|(_, eager)| eager).sum());
        for (who, eager) in able {
            if at < eager {
                return self.go_on(who);
            }
            at -= eager;
        }
        Ok(())
    }

    fn can(&self, who: Who) -> bool {
        let Some(life) = &self.life else { return false };
        match who {
            Who::Client | Who::Time => true,
            Who::Engine => {
                let wake = life.engine.next_wake(self.now);
                !life.inbox.is_empty() || wake.is_some_and(|wake| wake <= self.now.tick)
            }
            Who::Journal => !life.journal_orders.is_empty(),
            Who::Keeper => !life.keeper_orders.is_empty(),
            Who::Files => !life.files_orders.is_empty(),
            Who::Loader => !life.loads.is_empty(),
            Who::Watcher => life.watch.has_work() || !life.seen.is_empty(),
        }
    }

    fn go_on(&mut self, who: Who) -> Held {
        match who {
            Who::Client => {
                super::clients::act(self);
                Ok(())
            }
            Who::Time => {
                let millis = self.chance.pick(&[1, 20, 100, 100, 1000, 7000]);
                self.pass(millis);
                if self.chance.one_in(30) {
                    // Somebody sets the wall clock.
                    let step = self.chance.below(7_200_000) as i64 - 3_600_000;
                    self.now.wall = WallMillis(self.now.wall.0 + step);
                    self.trace
                        .note(|| format!("the wall clock steps by {step} ms"));
                }
                Ok(())
            }
            Who::Engine => {
                let most = 1 + self.chance.index(6);
                self.step_engine(most)
            }
            Who::Journal => {
                self.journal();
                Ok(())
            }
            Who::Keeper => {
                self.keep();
                Ok(())
            }
            Who::Files => {
                self.files();
                Ok(())
            }
            Who::Loader => {
                self.load();
                Ok(())
            }
            Who::Watcher => {
                self.watch();
                Ok(())
            }
        }
    }

    /// The engine takes up to `most` of what has happened, then writes what has gathered: a turn of its thread.
    pub(super) fn step_engine(&mut self, most: usize) -> Held {
        let now = self.now;
        let mut out = Vec::new();
        for _ in 0..most {
            let Some(life) = &mut self.life else { break };
            let Some(input) = life.inbox.pop_front() else {
                break;
            };
            life.engine.step(now, input, &mut out);
        }
        if let Some(life) = &mut self.life {
            life.engine.step(now, Input::Flush, &mut out);
        }
        while !out.is_empty() {
            let mut inputs = Vec::new();
            for output in std::mem::take(&mut out) {
                inputs.extend(self.one(output)?);
            }
            let fed_back = !inputs.is_empty();
            let Some(life) = &mut self.life else { break };
            for input in inputs {
                life.engine.step(now, input, &mut out);
            }
            if fed_back || !out.is_empty() {
                life.engine.step(now, Input::Flush, &mut out);
            }
        }
        Ok(())
    }

    fn one(&mut self, output: Output) -> Held<Option<Input>> {
        let Some(life) = &mut self.life else {
            return Ok(None);
        };
        match output {
            Output::Reply(ticket, result) => return self.answer(ticket, result),
            Output::Write(group) => {
                self.trace
                    .note(|| format!("frame {}: {} bytes", group.seq, group.bytes.len()));
                self.oracle.frame(&group, self.now)?;
                life.journal_orders.push_back(JournalOrder::Write(group));
            }
            Output::MakeSegment(new) => life.journal_orders.push_back(JournalOrder::Make(new)),
            Output::Checkpoint(checkpoint) => {
                self.oracle.cut = self.oracle.cut.max(checkpoint.cut.0);
                life.keeper_orders
                    .push_back(KeeperOrder::Checkpoint(checkpoint));
            }
            Output::SetAside(bytes) => {
                life.keeper_orders.push_back(KeeperOrder::SetAside(bytes));
            }
            Output::Files(work) => life.files_orders.push_back(FilesOrder::Change(work)),
            Output::Reject(file) => life.files_orders.push_back(FilesOrder::Reject(file)),
            Output::PurgeDone(before) => {
                life.files_orders.push_back(FilesOrder::PurgeDone(before));
            }
            Output::Load(places) => life.loads.push_back(places),
            Output::ListRejected(ticket, _) => {
                life.inbox
                    .push_back(Input::RejectedListed(ticket, Ok(Vec::new())));
            }
            Output::SettleRejected(ticket, ..) => {
                life.inbox.push_back(Input::RejectedSettled(ticket, Ok(())));
            }
            Output::Inspect(places) => life.watch.orders.push_back(WatchOrder::Inspect(places)),
            Output::Confirm(number, places) => life
                .watch
                .orders
                .push_back(WatchOrder::Confirm(number, places)),
            Output::Rescan => life.watch.orders.push_back(WatchOrder::Rescan),
            Output::Again(paths) => life.watch.orders.push_back(WatchOrder::Again(paths)),
            Output::TellApart(number, own, source) => life
                .watch
                .orders
                .push_back(WatchOrder::TellApart(number, own, source)),
            Output::Forget(source) => life.watch.orders.push_back(WatchOrder::Forget(source)),
            Output::Fault(text) => {
                self.trace.note(|| format!("writes stop: {text}"));
                life.fault = true;
            }
            Output::Closed => life.closed = true,
            Output::Event(_) => {}
        }
        Ok(None)
    }

    fn answer(&mut self, ticket: Ticket, result: Answer<Response>) -> Held<Option<Input>> {
        let Some((floor, request)) = self.clients.asked.remove(&ticket) else {
            // Its caller is gone: what was handed to it goes back.
            let Ok(Response::Claimed(ClaimAnswer { tasks, .. })) = result else {
                return Ok(None);
            };
            let held: Vec<_> = tasks
                .into_iter()
                .map(|(task, token)| (task.id, token))
                .collect();
            return Ok((!held.is_empty()).then_some(Input::Undelivered(held)));
        };
        self.trace
            .note(|| format!("answer {}: {}", ticket.0, super::view::short(&result)));
        let told = Told {
            request: &request,
            floor,
            result: &result,
        };
        self.oracle.heard(&told, self.now)?;
        self.clients.heard(&request, &result);
        if self
            .clients
            .wanted
            .take_if(|wanted| *wanted == ticket)
            .is_some()
        {
            self.clients.wanted_answer = Some(result);
        }
        Ok(None)
    }

    /// The watcher looks at something, or tells what it saw a while ago: in between, anything may happen.
    fn watch(&mut self) {
        let notice_first = self.chance.one_in(2);
        if self.chance.one_in(100) {
            self.disk.lose_notices();
        }
        let tells = self.chance.one_in(2);
        let wall = self.now.wall;
        let Some(life) = &mut self.life else { return };
        if !life.seen.is_empty() && (tells || !life.watch.has_work()) {
            let said = life.seen.drain(..).map(Input::Sighting);
            life.inbox.extend(said);
            return;
        }
        let said = life.watch.one(notice_first, wall);
        self.trace.note(|| format!("watcher: {said:?}"));
        life.seen.extend(said);
    }

    /// A client asks.
    pub(super) fn ask(&mut self, request: Request) -> Ticket {
        let ticket = self.clients.next_ticket();
        self.trace.note(|| format!("ask {}: {request:?}", ticket.0));
        let asked = (self.oracle.handed, request.clone());
        self.clients.asked.insert(ticket, asked);
        self.give(Input::Request(ticket, request));
        ticket
    }

    pub(super) fn give(&mut self, input: Input) {
        if let Some(life) = &mut self.life {
            life.inbox.push_back(input);
        }
    }

    /// One of those who can goes on, but no client, and no time.
    pub(super) fn go_on_without_time(&mut self) -> Held<bool> {
        let able: Vec<Who> = EVERYONE[2..]
            .iter()
            .copied()
            .filter(|who| self.can(*who))
            .collect();
        if able.is_empty() {
            return Ok(false);
        }
        let who = self.chance.pick(&able);
        self.go_on(who)?;
        Ok(true)
    }

    /// Lets the engine and its hands go on until they have nothing to do, and the watcher neither look nor tell.
    pub(super) fn work_unwatched(&mut self) -> Held {
        while let Some(who) = EVERYONE[2..7].iter().copied().find(|who| self.can(*who)) {
            self.go_on(who)?;
        }
        Ok(())
    }

    /// Lets the watcher look at all there is to see, and tell nothing yet.
    pub(super) fn look_and_keep(&mut self) {
        let wall = self.now.wall;
        let Some(life) = &mut self.life else { return };
        while life.watch.has_work() {
            let said = life.watch.one(true, wall);
            life.seen.extend(said);
        }
    }

    /// Lets everybody but the clients go on until nothing is left to do but what a clock far away will bring.
    pub(super) fn settle(&mut self) -> Held {
        let begin = self.now.tick;
        for _ in 0..30_000 {
            if self.over() || self.clients.wanted_answer.is_some() {
                return Ok(());
            }
            if self.go_on_without_time()? {
                continue;
            }
            let wake = self
                .life
                .as_ref()
                .and_then(|life| life.engine.next_wake(self.now));
            let unsettled = self
                .life
                .as_ref()
                .map_or(0, |life| super::view::unsettled(&life.engine));
            let patience = if self.clients.asked.is_empty() && unsettled == 0 {
                2500
            } else {
                65_000
            };
            let until = self.now.tick.plus(Millis(patience));
            match wake {
                Some(wake) if wake <= until && self.now.tick.since(begin) < Millis(400_000) => {
                    let ahead = wake.0.saturating_sub(self.now.tick.0);
                    self.pass(ahead.div_ceil(1_000_000));
                }
                _ => return Ok(()),
            }
        }
        Err(format!(
            "never quiet: it is {:?}, and the engine wakes at {:?}",
            self.now,
            self.life
                .as_ref()
                .map(|life| life.engine.next_wake(self.now))
        ))
    }

    pub(super) const fn is_synced(&self) -> bool {
        matches!(self.temper.settings.durability, Durability::Sync)
    }
}
