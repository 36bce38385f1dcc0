//! What holds once everything has come to rest: every question is answered, every task is shown whole, and the directory is
//! the queue.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::{
    oracle::{Facts, Stage},
    told::shows,
    trace::Held,
    view::{holds_some, in_order},
    world::{LIMITS, World},
};
use crate::{
    engine::{Engine, Request, Response},
    task::{
        Area, ClaimRequest, FileName, LeaseKind, Location, Millis, PageQuery, QueueName, TaskId,
        TaskView,
    },
};

impl World {
    /// Lets everything come to rest, with room on the disk, and looks at all of it. Gives whether the daemon still lives.
    pub(super) fn hold_at_rest(&mut self) -> Held<bool> {
        self.settle()?;
        if self.over() {
            return Ok(false);
        }
        if self.temper.capacity.is_some() {
            // Also while the disk is full: what may wait for room is a checkpoint. Where the disk had no room for any segment
            // since the start, nothing can be written down.
            let writes = self.oracle.has_segment;
            self.nobody_waits(&|request| !writes || matches!(request, Request::Checkpoint))?;
            self.disk.set_capacity(None);
            self.pass(1500);
            self.settle()?;
            if self.over() {
                return Ok(false);
            }
        }
        self.nobody_waits(&|_| false)?;
        if self
            .life
            .as_ref()
            .is_some_and(|life| holds_some(&life.engine))
        {
            return Err("at rest, payloads are held, and nobody waits".to_owned());
        }
        // What could not be read when it came is found by the next look through the directory.
        self.ask(Request::Rescan);
        self.settle()?;
        if self.over() {
            return Ok(false);
        }
        let Some(shown) = self.all_tasks()? else {
            return Ok(false);
        };
        let expected = self.oracle.durable();
        for (id, facts) in &expected {
            match shown.get(id) {
                Some(view) if shows(Some(facts), view) => {}
                None if self.oracle.removed.contains_key(id) => {}
                other => {
                    return Err(format!(
                        "at rest, task {id} is shown as {other:?}, and is {facts:?}"
                    ));
                }
            }
        }
        if let Some(id) = shown.keys().find(|id| !expected.contains_key(*id)) {
            return Err(format!("at rest, task {id} is shown, and ended"));
        }
        self.directory(&shown)?;
        Ok(true)
    }

    fn nobody_waits(&self, may: &dyn Fn(&Request) -> bool) -> Held {
        let mut waiting = self.clients.asked.iter();
        match waiting.find(|(_, (_, request))| !may(request)) {
            None => Ok(()),
            Some((ticket, (_, request))) => Err(format!(
                "{} is never answered: {request:?}; the engine wakes at {:?} and it is {:?}",
                ticket.0,
                self.life
                    .as_ref()
                    .map(|life| life.engine.next_wake(self.now)),
                self.now
            )),
        }
    }

    /// Asks for all tasks. `None`: the daemon has stopped meanwhile.
    fn all_tasks(&mut self) -> Held<Option<BTreeMap<TaskId, TaskView>>> {
        loop {
            let before = self.order();
            let Some(pages) = self.all_pages()? else {
                return Ok(None);
            };
            // A task that moves on between two pages is on both, or on none.
            if before != self.order() {
                continue;
            }
            let mut shown = BTreeMap::new();
            for view in pages {
                let id = view.id;
                if shown.insert(id, view).is_some() {
                    return Err(format!("task {id} is shown twice"));
                }
            }
            return Ok(Some(shown));
        }
    }

    fn order(&self) -> Vec<TaskId> {
        let engine = self.life.as_ref().map(|life| &life.engine);
        engine.map_or_else(Vec::new, in_order)
    }

    fn all_pages(&mut self) -> Held<Option<Vec<TaskView>>> {
        let mut query = PageQuery {
            queue: None,
            state: None,
            id_prefix: None,
            limit: 1000,
            after: None,
        };
        let mut tasks = Vec::new();
        loop {
            let Some(Response::Page(page)) = self.question(Request::Tasks(query.clone()))? else {
                return Ok(None);
            };
            tasks.extend(page.tasks);
            if page.next.is_none() {
                return Ok(Some(tasks));
            }
            query.after = page.next;
        }
    }

    /// Asks and waits for the answer. `None`: there is none, because the daemon has stopped.
    pub(super) fn question(&mut self, request: Request) -> Held<Option<Response>> {
        let ticket = self.ask(request);
        self.clients.wanted = Some(ticket);
        self.settle()?;
        match self.clients.wanted_answer.take() {
            Some(Ok(response)) => Ok(Some(response)),
            _ if self.over() => Ok(None),
            other => Err(format!("a question at rest is answered {other:?}")),
        }
    }

    /// The directories hold one whole file for each task, in its place, and nothing else of ours.
    fn directory(&mut self, shown: &BTreeMap<TaskId, TaskView>) -> Held {
        let mut seen = BTreeSet::new();
        for area in [Area::Tasks, Area::Dead] {
            for (path, bytes) in self.disk.files(area.dir()) {
                let name = path.file_name().and_then(|name| name.to_str());
                let name = name.unwrap_or_default();
                if name.starts_with('.') {
                    return Err(format!("at rest, {} is left over", path.display()));
                }
                let Some(name) = FileName::parse(name) else {
                    if self.is_waiting_outside(&path) {
                        continue;
                    }
                    return Err(format!("at rest, {} was not taken in", path.display()));
                };
                let Some(view) = shown.get(&name.id) else {
                    let waits = self.oracle.is_outside(name.id) && self.is_waiting_outside(&path);
                    if waits || self.oracle.removed.contains_key(&name.id) {
                        continue;
                    }
                    return Err(format!("at rest, {} is no task's", path.display()));
                };
                if place_of(view).path() != path {
                    return Err(format!(
                        "at rest, {} should be {}",
                        path.display(),
                        place_of(view)
                    ));
                }
                // One that a power cut brought back is taken by its name, and its key may be another's by then.
                if !self.oracle.removed.contains_key(&name.id) {
                    whole(view, name, &bytes, self.now.wall)
                        .map_err(|what| format!("at rest, {}: {what}", path.display()))?;
                }
                seen.insert(name.id);
            }
        }
        match shown.keys().find(|id| !seen.contains(*id)) {
            Some(id) if !self.oracle.removed.contains_key(id) => {
                Err(format!("at rest, task {id} has no file"))
            }
            _ => Ok(()),
        }
    }

    /// Whether this dropped file may still wait: its queue takes nothing new, there are as many queues with something as may be and
    /// its is not known, or payloads may not have so many more bytes.
    fn is_waiting_outside(&self, path: &Path) -> bool {
        let queue = path.parent().and_then(Path::file_name);
        let queue = queue.and_then(|name| QueueName::parse(name.to_str()?).ok());
        let waits = |engine: &Engine| {
            let opens = queue
                .as_ref()
                .is_some_and(|queue| !engine.queue.may_open(queue));
            engine.drops_wait_for_bytes() || opens
        };
        let life = self.life.as_ref();
        !self.oracle.switches().draining.is_empty() || life.is_some_and(|life| waits(&life.engine))
    }

    /// Undoes the switches and works all tasks off that are due: each can be handed out and ended.
    pub(super) fn work_off(&mut self) -> Held {
        let switches = self.oracle.switches();
        for queue in switches.paused {
            self.ask(Request::Pause(queue, false));
        }
        for queue in switches.draining {
            self.ask(Request::Drain(queue, false));
        }
        self.settle()?;
        for _ in 0..60 {
            if self.over() {
                return Ok(());
            }
            let queues: BTreeSet<_> = self
                .oracle
                .latest()
                .values()
                .map(|facts| facts.queue.clone())
                .collect();
            if queues.is_empty() {
                return Ok(());
            }
            let request = Request::Claim(ClaimRequest {
                queues: queues.into_iter().collect(),
                max: 20,
                wait: Millis(0),
                lease: Some(Millis(600_000)),
                kind: LeaseKind::V1,
                worker: None,
                complete: Vec::new(),
            });
            let Some(Response::Claimed(answer)) = self.question(request)? else {
                return Ok(());
            };
            if answer.tasks.is_empty() {
                return self.nothing_due();
            }
            for (task, token) in answer.tasks {
                self.ask(Request::Complete(task.id, Some(token), None));
            }
            self.settle()?;
        }
        Ok(())
    }

    fn nothing_due(&self) -> Held {
        let due =
            |facts: &Facts| facts.stage == Stage::Waiting && facts.exectime.is_due(self.now.wall);
        let mut tasks = self.oracle.latest().iter();
        match tasks.find(|(id, facts)| due(facts) && !self.oracle.removed.contains_key(*id)) {
            Some((id, facts)) if !self.over() => {
                Err(format!("task {id} is due and is not handed out: {facts:?}"))
            }
            _ => Ok(()),
        }
    }
}

fn place_of(view: &TaskView) -> Location {
    Location {
        area: if Stage::of(view.state) == Stage::Dead {
            Area::Dead
        } else {
            Area::Tasks
        },
        queue: view.queue.clone(),
        name: FileName {
            exectime: view.exectime,
            priority: view.priority,
            id: view.id,
        },
    }
}

fn whole(view: &TaskView, name: FileName, bytes: &[u8], wall: crate::task::WallMillis) -> Held {
    let read = crate::task::read_dropped(bytes, &view.queue, Some(name), wall, LIMITS.payloads);
    let task = read.map_err(|refusal| refusal.to_string())?;
    let same = task.id == Some(view.id)
        && task.queue == view.queue
        && task.priority == view.priority
        && task.exectime == view.exectime
        && task.options == view.options
        && task.payload.same_value(&view.payload);
    if same {
        Ok(())
    } else {
        Err(format!("it says {task:?}, the task is {view:?}"))
    }
}
