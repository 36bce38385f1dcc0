//! Scenes: what the simulator found once, played again step by step, so that no change of the sources moves it out of sight.

use std::path::Path;

use super::{
    chance::Chance,
    temper::Temper,
    trace::Held,
    world::{End, World},
};
use crate::{
    backend::Error,
    engine::{Request, Response, Ticket},
    store::Disk as _,
    task::{
        Change, ClaimRequest, ExecTime, LeaseKind, Millis, NewTask, Payload, Priority, QueueName,
        Refusal,
    },
};

/// A world where nothing goes wrong by itself, and files are written at once.
fn world(change: impl FnOnce(&mut Temper)) -> World {
    let mut temper = Temper::calm();
    change(&mut temper);
    let mut world = World::with(1, Chance::new(1, 0), temper);
    assert_eq!(world.open(), Ok(true));
    world.settle().unwrap();
    world
}

fn task(world: &mut World, text: &str, change: impl FnOnce(&mut NewTask)) -> NewTask {
    let mut task = NewTask::of(Payload::from_text(text));
    change(&mut task);
    world.oracle.offer(&task, false);
    task
}

fn submit(world: &mut World, text: &str) -> Ticket {
    let task = task(world, text, |_| {});
    world.ask(Request::Submit(vec![task]))
}

fn answer(world: &mut World, request: Request) -> Response {
    world.question(request).unwrap().unwrap()
}

fn submitted(world: &mut World, text: &str) -> crate::task::TaskId {
    let task = task(world, text, |_| {});
    match answer(world, Request::Submit(vec![task])) {
        Response::Submitted(outcomes) => outcomes[0].task.id,
        other => panic!("{other:?}"),
    }
}

/// The answer, an error too, once everything is at rest.
fn told(world: &mut World, ticket: Ticket) -> Option<Result<Response, Error>> {
    world.clients.wanted = Some(ticket);
    world.settle().unwrap();
    world.clients.wanted_answer.take()
}

fn hold(held: &Held<bool>) {
    assert_eq!(held, &Ok(true));
}

#[test]
fn after_a_failed_sync_whoever_waits_is_told_and_status_still_answers() {
    let mut world = world(|_| {});
    world.disk.trouble_after(0, false, true);
    let first = submit(&mut world, "first");
    let told_first = told(&mut world, first);
    assert!(
        matches!(told_first, Some(Err(Error::Fault(_)))),
        "{told_first:?}"
    );
    assert!(world.over());
    for later in [Request::Submit(Vec::new()), Request::Checkpoint] {
        let ticket = world.ask(later);
        world.clients.wanted = Some(ticket);
        world.step_engine(1).unwrap();
        let told = world.clients.wanted_answer.take();
        assert!(matches!(told, Some(Err(Error::Fault(_)))), "{told:?}");
    }
    let ticket = world.ask(Request::Status);
    world.clients.wanted = Some(ticket);
    world.step_engine(1).unwrap();
    let told = world.clients.wanted_answer.take();
    assert!(
        matches!(&told, Some(Ok(Response::Status(status))) if status.fault.is_some()),
        "{told:?}"
    );
}

#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_written_by_the_next_start() {
    for seed in 0..20 {
        let mut world = world(|_| {});
        world.disk.state().chance = Chance::new(seed, 9);
        world.disk.trouble_after(0, false, true);
        submit(&mut world, "the kernel takes it for written");
        world.settle().unwrap();
        world.end(End::Kill);
        // The start reads it, and builds on it.
        assert_eq!(world.open(), Ok(true));
        submitted(&mut world, "another");
        world.end(End::PowerCut);
        assert_eq!(world.open(), Ok(true), "seed {seed}");
        hold(&world.hold_at_rest());
    }
}

#[test]
fn a_file_that_moves_is_durable_under_its_new_name_before_the_old_one_goes() {
    for seed in 0..40 {
        let mut world = world(|_| {});
        world.disk.state().chance = Chance::new(seed, 9);
        let id = submitted(&mut world, "moves");
        // Its payload is only in its file from here on.
        answer(&mut world, Request::Checkpoint);
        // To another place in its folder, or under the same name to another folder, that is new.
        let change = if seed % 2 == 0 {
            Change {
                priority: Some(Priority::new(7)),
                ..Change::default()
            }
        } else {
            Change {
                queue: QueueName::parse("elsewhere").ok(),
                ..Change::default()
            }
        };
        answer(&mut world, Request::Reschedule(id, change));
        world.settle().unwrap();
        world.end(End::PowerCut);
        assert_eq!(world.open(), Ok(true), "seed {seed}");
        hold(&world.hold_at_rest());
    }
}

#[test]
fn a_file_that_came_while_no_daemon_ran_is_as_durable_as_any_once_it_is_a_task() {
    for seed in 0..40 {
        let mut world = world(|_| {});
        world.disk.state().chance = Chance::new(seed, 9);
        world.end(End::Kill);
        super::clients::canonical(&mut world, QueueName::default());
        assert_eq!(world.open(), Ok(true));
        hold(&world.hold_at_rest());
        world.end(End::PowerCut);
        assert_eq!(world.open(), Ok(true), "seed {seed}");
        hold(&world.hold_at_rest());
    }
}

#[test]
fn a_dropped_file_that_found_no_room_is_a_task_as_soon_as_there_is_some() {
    let mut world = world(|_| {});
    world.end(End::Kill);
    world.disk.unlink(Path::new("journal/reserve")).unwrap();
    world.disk.set_capacity(Some(1000));
    assert_eq!(world.open(), Ok(true));
    let dropped = NewTask::of(Payload::from_text("dropped"));
    world.oracle.offer(&dropped, true);
    world.disk.put_by_hand(Path::new("tasks/a.txt"), b"dropped");
    world.settle().unwrap();
    assert_eq!(world.oracle.latest().len(), 0);
    world.disk.set_capacity(None);
    world.settle().unwrap();
    assert_eq!(world.oracle.latest().len(), 1);
}

#[test]
fn who_waits_for_file_changes_is_told_that_the_disk_is_full() {
    let mut world = world(|temper| temper.settings.max_pending_files = 2);
    for number in 0..3 {
        submitted(&mut world, &format!("{number}"));
    }
    world.settle().unwrap();
    // The journal has room, the files have none.
    let used = world.disk.used();
    world.disk.set_capacity(Some(used));
    let tickets: Vec<Ticket> = (10..16)
        .map(|number| submit(&mut world, &format!("{number}")))
        .collect();
    let last = told(&mut world, tickets[5]);
    assert!(
        matches!(last, Some(Err(Error::Refused(Refusal::QueueFull(_))))),
        "{last:?}"
    );
    world.settle().unwrap();
    assert!(world.clients.asked.is_empty());
    world.disk.set_capacity(None);
    hold(&world.hold_at_rest());
    submitted(&mut world, "room again");
}

#[test]
fn a_file_change_that_failed_halfway_brings_no_task_back() {
    for more in 0..12 {
        let mut world = world(|_| {});
        let id = submitted(&mut world, "moves, and ends");
        answer(&mut world, Request::Checkpoint);
        world.settle().unwrap();
        let change = Change {
            queue: None,
            priority: None,
            exectime: Some(ExecTime::new(1).unwrap()),
        };
        let ticket = world.ask(Request::Reschedule(id, change));
        // Frame and sync, then the file's own operations: each fails in one of the rounds.
        world.disk.trouble_after(2 + more, false, false);
        told(&mut world, ticket);
        // Past the failure, and before the change is tried again.
        for _ in 0..30 {
            world.go_on_without_time().unwrap();
        }
        if world.over() {
            continue;
        }
        world.disk.end_trouble();
        answer(&mut world, Request::Complete(id, None, None));
        hold(&world.hold_at_rest());
        assert_eq!(world.oracle.latest().len(), 0);
    }
}

#[test]
fn a_submit_that_waited_for_room_names_the_task_that_holds_its_key() {
    let mut world = world(|temper| temper.settings.payload_cache = 0);
    let keyed = |task: &mut NewTask| task.options.unique_key = Some("k".into());
    let first = task(&mut world, "first", keyed);
    answer(&mut world, Request::Submit(vec![first]));
    world.settle().unwrap();
    world.end(End::Kill);
    // Right after a start there is no room yet: the first segment is on its way.
    assert_eq!(world.open(), Ok(true));
    let second = task(&mut world, "second", keyed);
    let third = task(&mut world, "third", |_| {});
    match answer(&mut world, Request::Submit(vec![second, third])) {
        Response::Submitted(outcomes) => {
            let created: Vec<bool> = outcomes.iter().map(|one| one.created).collect();
            assert_eq!(created, [false, true]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_payload_that_could_not_be_read_is_tried_again_for_who_waits() {
    let mut world = world(|temper| {
        temper.settings.payload_cache = 0;
        temper.settings.retain_done = Millis(60_000);
    });
    let id = submitted(&mut world, "read me");
    world.settle().unwrap();
    world.disk.trouble_after(0, false, false);
    answer(&mut world, Request::Complete(id, None, None));
}

#[test]
fn a_claim_right_after_a_full_disk_has_room_again_gets_its_task() {
    let mut world = world(|_| {});
    submitted(&mut world, "waits");
    world.end(End::Kill);
    world.disk.unlink(Path::new("journal/reserve")).unwrap();
    world.disk.set_capacity(Some(1000));
    assert_eq!(world.open(), Ok(true));
    world.settle().unwrap();
    let claim = Request::Claim(ClaimRequest {
        queues: vec![QueueName::default()],
        max: 1,
        wait: Millis(0),
        lease: None,
        kind: LeaseKind::V1,
        worker: None,
        complete: Vec::new(),
    });
    world.pass(1000);
    let ticket = world.ask(claim.clone());
    let refused = told(&mut world, ticket);
    assert!(
        matches!(refused, Some(Err(Error::Refused(Refusal::NoRoom)))),
        "{refused:?}"
    );
    world.disk.set_capacity(None);
    world.pass(1000);
    match answer(&mut world, claim) {
        Response::Claimed(answer) => assert_eq!(answer.tasks.len(), 1),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_that_was_gone_for_a_moment_because_it_moved_to_and_fro_is_no_cancellation() {
    let mut world = world(|_| {});
    let id = submitted(&mut world, "to and fro");
    world.settle().unwrap();
    for priority in [7, 100] {
        let change = Change {
            queue: None,
            priority: Some(Priority::new(priority)),
            exectime: None,
        };
        world.ask(Request::Reschedule(id, change));
        world.work_unwatched().unwrap();
        if priority == 7 {
            // It sees that the file is not in its first place, and is slow to tell.
            world.look_and_keep();
        }
    }
    world.settle().unwrap();
    assert!(world.oracle.latest().contains_key(&id));
    hold(&world.hold_at_rest());
}

#[test]
fn a_file_that_was_removed_by_hand_cancels_its_task() {
    let mut world = world(|_| {});
    let id = submitted(&mut world, "removed");
    world.settle().unwrap();
    let path = world.disk.files("tasks").into_keys().next().unwrap();
    assert!(world.disk.remove_by_hand(&path));
    world.oracle.removed_by_hand(id);
    world.settle().unwrap();
    assert!(world.oracle.latest().is_empty());
}

#[test]
fn the_lag_of_the_files_counts_those_that_are_tried_again() {
    let mut world = world(|_| {});
    submitted(&mut world, "in the way");
    world.settle().unwrap();
    // No room for files, and time goes by.
    let used = world.disk.used();
    world.disk.set_capacity(Some(used));
    submitted(&mut world, "has no file");
    world.work_unwatched().unwrap();
    world.pass(500);
    match answer(&mut world, Request::Status) {
        Response::Status(status) => {
            assert_eq!(status.spool_pending, 1);
            assert!(status.spool_lag >= Millis(500), "{:?}", status.spool_lag);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_checkpoint_that_is_asked_for_while_one_is_made_is_another_one() {
    let mut world = world(|_| {});
    submitted(&mut world, "first");
    world.settle().unwrap();
    let first = world.ask(Request::Checkpoint);
    world.step_engine(1).unwrap();
    let cut = world.oracle.cut;
    assert!(cut > 0, "the first one is on its way");
    submit(&mut world, "second");
    let second = world.ask(Request::Checkpoint);
    assert!(matches!(told(&mut world, second), Some(Ok(Response::Done))));
    assert!(world.oracle.cut > cut, "{} {cut}", world.oracle.cut);
    assert!(!world.clients.asked.contains_key(&first));
}

#[test]
fn an_id_that_is_used_again_gets_a_file_of_its_own() {
    let mut world = world(|temper| temper.settings.spool_delay = Millis(60_000));
    let id = crate::task::TaskId::parse("0198c0de-0000-4000-8000-000000000001").unwrap();
    let first = task(&mut world, "first", |task| task.id = Some(id));
    answer(&mut world, Request::Submit(vec![first]));
    answer(&mut world, Request::Checkpoint);
    answer(&mut world, Request::Complete(id, None, None));
    let second = task(&mut world, "second", |task| task.id = Some(id));
    answer(&mut world, Request::Submit(vec![second]));
    answer(&mut world, Request::Checkpoint);
    hold(&world.hold_at_rest());
}

#[test]
fn where_all_is_quiet_a_checkpoint_is_made_of_a_journal_that_is_not_long_yet() {
    let mut world = world(|temper| temper.settings.checkpoint_bytes = 16 << 10);
    submitted(&mut world, "short");
    world.settle().unwrap();
    world.pass(60_000);
    world.settle().unwrap();
    let before = world.oracle.cut;
    submitted(&mut world, &"worth it".repeat(200));
    world.settle().unwrap();
    assert_eq!(world.oracle.cut, before, "it is quiet for too short a time");
    world.pass(5_000);
    world.settle().unwrap();
    assert!(world.oracle.cut > before);
    let made = world.oracle.cut;
    world.pass(60_000);
    world.settle().unwrap();
    assert_eq!(
        world.oracle.cut, made,
        "and then there is nothing more to do"
    );
    hold(&world.hold_at_rest());
}
