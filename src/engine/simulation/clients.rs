//! [`Clients`]: who asks the engine for something, and who moves files about in its directory.

use std::{collections::BTreeMap, path::Path};

use super::{oracle::Stage, world::World};
use crate::{
    backend::Answer,
    engine::{Input, Request, Response, Ticket},
    task::{
        Area, Backoff, Change, ClaimRequest, Completion, ExecTime, Failure, FileName, IdPrefix,
        LeaseKind, Location, Millis, NewTask, Options, PageQuery, Past, Payload, Priority,
        QueueName, State, TaskId, Token, Trace, WorkerName,
    },
};

/// How many leases clients remember.
const HELD: usize = 30;

#[derive(Debug, Default)]
pub(super) struct Clients {
    tickets: u64,
    /// What was asked and is not answered, with the last frame that was handed out then.
    pub(super) asked: BTreeMap<Ticket, (u64, Request)>,
    /// Leases, also some that have ended.
    pub(super) held: Vec<(TaskId, Token)>,
    /// What was submitted with an id, to be submitted again.
    named: Vec<NewTask>,
    payloads: u64,
    /// Whose answer is to be kept, and that answer.
    pub(super) wanted: Option<Ticket>,
    pub(super) wanted_answer: Option<Answer<Response>>,
}

impl Clients {
    pub(super) fn next_ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    pub(super) fn heard(&mut self, request: &Request, result: &Answer<Response>) {
        match (request, result) {
            (_, Ok(Response::Claimed(answer))) => {
                let got = answer.tasks.iter().map(|(task, token)| (task.id, *token));
                self.held.extend(got);
            }
            (
                Request::Complete(id, Some(token), _)
                | Request::Fail(id, token, _)
                | Request::Release(id, token),
                Ok(_),
            ) => self.held.retain(|held| *held != (*id, *token)),
            _ => {}
        }
        if self.held.len() > HELD {
            self.held.remove(0);
        }
    }
}

fn queue(world: &mut World) -> QueueName {
    let name = world.chance.pick(&["default", "default", "a", "b", "c.d"]);
    QueueName::parse(name).unwrap_or_default()
}

fn some_queue(world: &mut World) -> Option<QueueName> {
    world.chance.one_in(2).then(|| queue(world))
}

fn id(world: &mut World) -> TaskId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&world.chance.number().to_be_bytes());
    bytes[6] = 0x40 | (bytes[6] & 0x0f);
    bytes[8] = 0x80;
    bytes[15] = world.chance.below(200) as u8;
    TaskId::from_bytes(bytes)
}

fn payload(world: &mut World) -> Payload {
    world.clients.payloads += 1;
    let number = world.clients.payloads;
    let size = if world.chance.one_in(4) || world.temper.heavy {
        world.chance.below(world.temper.largest) as usize
    } else {
        0
    };
    Payload::from_text(&format!("{number}{}", "x".repeat(size)))
}

fn exectime(world: &mut World) -> ExecTime {
    if world.chance.one_in(3) {
        let ahead = world.chance.pick(&[500, 3000, 3_000_000]);
        ExecTime::after(world.now.wall, Millis(ahead)).unwrap_or_default()
    } else {
        ExecTime::ASAP
    }
}

fn options(world: &mut World) -> Options {
    if !world.chance.one_in(3) {
        return Options::default();
    }
    let chance = &mut world.chance;
    let key = chance.pick(&["k1", "k2", "k3"]);
    Options {
        unique_key: chance.one_in(2).then(|| key.into()),
        max_attempts: chance.one_in(2).then(|| chance.pick(&[1, 2, 3])),
        lease: chance
            .one_in(3)
            .then(|| Millis(chance.pick(&[100, 5000, 600_000]))),
        backoff: chance.one_in(3).then(|| Backoff {
            base: Millis(chance.pick(&[0, 700])),
            max: Millis(2000),
        }),
        trace: chance.one_in(3).then(|| {
            let parent = format!("00-{:032x}-{:016x}-01", 1 + chance.below(9), 7);
            Box::new(Trace::parse(&parent).unwrap())
        }),
    }
}

fn past(world: &mut World) -> Option<Box<Past>> {
    world.chance.one_in(12).then(|| {
        Box::new(Past {
            attempts: world.chance.below(3) as u32,
            dead: world.chance.one_in(2),
            last_error: world.chance.one_in(2).then(|| "long ago".into()),
        })
    })
}

fn new_task(world: &mut World) -> NewTask {
    let task = NewTask {
        id: world.chance.one_in(5).then(|| id(world)),
        queue: queue(world),
        priority: Priority::new(world.chance.pick(&[100, 100, 100, 7, -3, 1000])),
        exectime: exectime(world),
        options: options(world),
        payload: payload(world),
        past: past(world),
    };
    world.oracle.offer(&task, false);
    if task.id.is_some() {
        world.clients.named.push(task.clone());
    }
    task
}

/// A task that is there, by the frames.
fn known(world: &mut World) -> Option<TaskId> {
    let count = world.oracle.latest().len();
    let at = world.chance.index(count);
    world.oracle.latest().keys().nth(at).copied()
}

fn held(world: &mut World) -> Option<(TaskId, Token)> {
    let at = world.chance.index(world.clients.held.len());
    world.clients.held.get(at).copied()
}

fn claim(world: &mut World) -> ClaimRequest {
    let complete = (0..world.chance.below(3))
        .filter_map(|_| held(world))
        .map(|(id, token)| Completion {
            id,
            token,
            result: None,
        })
        .collect();
    let mut queues = vec![queue(world)];
    if world.chance.one_in(2) {
        queues.extend(
            ["a", "b"]
                .into_iter()
                .filter_map(|name| QueueName::parse(name).ok()),
        );
        queues.sort();
        queues.dedup();
    }
    let chance = &mut world.chance;
    ClaimRequest {
        queues,
        max: chance.pick(&[0, 1, 1, 3, 20]),
        wait: Millis(chance.pick(&[0, 0, 300, 3000])),
        lease: chance
            .one_in(2)
            .then(|| Millis(chance.pick(&[300, 5000, 600_000]))),
        kind: if chance.one_in(5) {
            LeaseKind::Legacy
        } else {
            LeaseKind::V1
        },
        worker: WorkerName::parse(chance.pick(&["w1", "w2"])).ok(),
        complete,
    }
}

fn end_one(world: &mut World) -> Option<Request> {
    let (id, token) = held(world)?;
    let chance = &mut world.chance;
    Some(match chance.below(10) {
        0..=4 => Request::Complete(id, Some(token), Some(Payload::from_text("result"))),
        5..=7 => {
            let failure = Failure {
                error: "it broke".repeat(chance.pick(&[1, 1, 40])),
                retry_in: chance
                    .one_in(2)
                    .then(|| Millis(chance.pick(&[0, 900, 5000]))),
                dead: chance.one_in(4),
            };
            Request::Fail(id, token, failure)
        }
        8 => Request::Release(id, token),
        _ => {
            let length = chance
                .one_in(2)
                .then(|| Millis(chance.pick(&[500, 60_000])));
            Request::Extend(id, token, length)
        }
    })
}

fn one_known(world: &mut World) -> Option<Request> {
    let id = known(world)?;
    Some(match world.chance.below(8) {
        0 => Request::Cancel(id),
        1 | 2 => {
            let change = Change {
                queue: world.chance.one_in(3).then(|| queue(world)),
                priority: (!world.chance.one_in(4))
                    .then(|| Priority::new(world.chance.pick(&[1, 100, 500]))),
                exectime: (!world.chance.one_in(4)).then(|| exectime(world)),
            };
            Request::Reschedule(id, change)
        }
        3 | 4 => Request::Retry(id),
        5 => Request::Complete(id, None, None),
        _ => Request::Task(id),
    })
}

fn switch(world: &mut World) -> Request {
    let queue = some_queue(world);
    let on = world.chance.one_in(3);
    match world.chance.below(12) {
        0 | 1 => Request::Pause(queue, on),
        2 | 3 => Request::Drain(queue, on),
        4 => Request::RetrySome(queue, 0),
        5 => Request::PurgeSome(queue, world.chance.pick(&[State::Dead, State::Scheduled])),
        6 | 7 => Request::Checkpoint,
        8 => Request::Rescan,
        9 => Request::Queues,
        _ => Request::Status,
    }
}

fn list(world: &mut World) -> Request {
    let id = known(world).filter(|_| world.chance.one_in(2));
    let letters = world.chance.pick(&[1, 10, 16, 36]);
    Request::Tasks(PageQuery {
        queue: None,
        state: None,
        id_prefix: id.and_then(|id| IdPrefix::parse(&id.to_string()[..letters]).ok()),
        limit: 1 + world.chance.index(40),
        after: None,
    })
}

/// A client does something.
pub(super) fn act(world: &mut World) {
    let request = match world.chance.below(100) {
        0..=24 => Some(Request::Submit(vec![new_task(world)])),
        25..=31 => {
            let count = 2 + world.chance.below(5);
            Some(Request::Submit(
                (0..count).map(|_| new_task(world)).collect(),
            ))
        }
        32..=34 => {
            let at = world.chance.index(world.clients.named.len());
            let again = world.clients.named.get(at).cloned();
            again.map(|task| Request::Submit(vec![task]))
        }
        35..=54 => Some(Request::Claim(claim(world))),
        55..=76 => end_one(world),
        77..=86 => one_known(world),
        87..=90 => Some(switch(world)),
        91 => Some(list(world)),
        92..=94 => {
            withdraw(world);
            None
        }
        _ if world.temper.by_hand => {
            by_hand(world);
            None
        }
        _ => {
            let on = world.chance.one_in(2);
            world.give(Input::Listening(on));
            None
        }
    };
    if let Some(request) = request {
        world.ask(request);
    }
}

/// A client that waits for a claim's answer goes away.
fn withdraw(world: &mut World) {
    let claims = world.clients.asked.iter();
    let claims = claims.filter(|(_, (_, request))| matches!(request, Request::Claim(_)));
    let tickets: Vec<Ticket> = claims.map(|(ticket, _)| *ticket).collect();
    if tickets.is_empty() {
        return;
    }
    let ticket = world.chance.pick(&tickets);
    world.trace.note(|| format!("{} is gone", ticket.0));
    world.clients.asked.remove(&ticket);
    world.give(Input::Withdrawn(ticket));
}

/// Somebody drops a file, or removes one.
fn by_hand(world: &mut World) {
    let queue = queue(world);
    let dir = Area::Tasks.folder(&queue);
    match world.chance.below(10) {
        0..=2 => {
            let task = NewTask {
                queue,
                ..NewTask::of(payload(world))
            };
            world.oracle.offer(&task, true);
            let number = world.clients.payloads;
            put(
                world,
                &dir.join(format!("{number}.txt")),
                &task.payload.to_display(),
            );
        }
        3..=5 => {
            let task = NewTask {
                queue,
                priority: Priority::new(50),
                ..NewTask::of(payload(world))
            };
            world.oracle.offer(&task, true);
            let number = world.clients.payloads;
            let text = format!(r#"{{"payload":{},"priority":50}}"#, task.payload.as_json());
            put(world, &dir.join(format!("{number}.json")), &text);
        }
        6 | 7 => canonical(world, queue),
        8 => {
            let number = world.chance.below(1000);
            put(world, &dir.join(format!("bad{number}.json")), "{no task");
        }
        _ => remove(world),
    }
}

pub(super) fn canonical(world: &mut World, queue: QueueName) {
    let id = id(world);
    let task = NewTask {
        id: Some(id),
        queue: queue.clone(),
        ..NewTask::of(payload(world))
    };
    let at = Location {
        area: Area::Tasks,
        queue,
        name: FileName {
            exectime: task.exectime,
            priority: task.priority,
            id,
        },
    };
    let text = format!(r#"{{"payload":{}}}"#, task.payload.as_json());
    world.oracle.offer(&task, true);
    world.oracle.placed.insert(id, task);
    put(world, &at.path(), &text);
}

fn put(world: &mut World, path: &Path, text: &str) {
    world
        .trace
        .note(|| format!("by hand: {} appears", path.display()));
    world.disk.put_by_hand(path, text.as_bytes());
}

fn remove(world: &mut World) {
    let Some(id) = known(world) else { return };
    let Some(facts) = world.oracle.latest().get(&id) else {
        return;
    };
    if facts.stage == Stage::Dead {
        return;
    }
    let at = Location {
        area: Area::Tasks,
        queue: facts.queue.clone(),
        name: FileName {
            exectime: facts.exectime,
            priority: facts.priority,
            id,
        },
    };
    if world.disk.remove_by_hand(&at.path()) {
        world.trace.note(|| format!("by hand: {at} is removed"));
        world.oracle.removed_by_hand(id);
    }
}
