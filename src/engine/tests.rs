//! The real engine on a real disk, asked through its handle: what any backend holds, and what this one does to files.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use super::{
    Settings,
    driver::{Opening, Running, open},
};
use crate::{
    backend::{Backend, ClaimRequest, Failure, PageQuery, conformance},
    store::DropLimits,
    task::{
        EventKind, LeaseKind, Millis, NewTask, Options, Past, Payload, PayloadLimits, QueueName,
        Refusal, State, TaskId, Token,
    },
};

const PATIENCE: Duration = Duration::from_secs(20);

fn start(root: &Path, settings: Settings) -> Running {
    let drops = DropLimits {
        payloads: PayloadLimits::bytes(1 << 20),
        max_file: 2 << 20,
    };
    let opening = Opening {
        root: root.to_owned(),
        settings,
        drops,
        rescan_every: None,
    };
    open(opening, &mut |_| {}).unwrap()
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir).map_or_else(
        |_| Vec::new(),
        |entries| {
            entries
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .collect()
        },
    );
    names.retain(|name| !name.starts_with('.') && !dir.join(name).is_dir());
    names.sort();
    names
}

#[allow(
    clippy::disallowed_methods,
    reason = "a bound on how long a test waits for real threads"
)]
/// Looks until there is something to see: what the engine's threads do to a directory comes behind.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "waited too long until {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

fn close(running: Running) {
    running.stop();
    assert_eq!(running.close(PATIENCE), None);
}

fn text(text: &str) -> NewTask {
    NewTask::of(Payload::from_text(text))
}

fn ask(max: u32, wait: u64) -> ClaimRequest {
    ClaimRequest {
        queues: vec![QueueName::default()],
        max,
        wait: Millis(wait),
        lease: None,
        kind: LeaseKind::V1,
        worker: None,
        complete: Vec::new(),
    }
}

fn page_of(limit: usize) -> PageQuery {
    PageQuery {
        queue: None,
        state: None,
        limit,
        after: None,
        id_prefix: None,
    }
}

async fn submit(backend: &impl Backend, new: NewTask) -> TaskId {
    backend.submit(vec![new]).await.unwrap()[0].task.id
}

async fn claim(backend: &impl Backend) -> Option<(TaskId, Token)> {
    let answer = backend.claim(ask(1, 0)).await.unwrap();
    answer.tasks.first().map(|(task, token)| (task.id, *token))
}

#[test]
fn the_engine_holds_what_any_backend_must() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path(), Settings::default());
    run(conformance::suite(&*running.handle()));
    close(running);
}

#[test]
fn it_holds_it_with_no_payload_in_memory_and_files_written_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        payload_cache: 0,
        spool_delay: Millis(0),
        checkpoint_bytes: 4096,
        ..Settings::default()
    };
    let running = start(dir.path(), settings);
    run(conformance::suite(&*running.handle()));
    close(running);
}

#[test]
fn a_close_is_quick_also_with_a_long_spool_delay() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        spool_delay: Millis(60_000),
        ..Settings::default()
    };
    let running = start(dir.path(), settings);
    run(async { submit(&*running.handle(), text("in the journal")).await });
    close(running);
    assert_eq!(names(&dir.path().join("tasks")).len(), 1);
}

#[test]
fn what_happened_to_a_task_is_known_after_a_restart_as_far_as_the_journal_tells() {
    let dir = tempfile::tempdir().unwrap();
    let settings = || Settings {
        spool_delay: Millis(0),
        ..Settings::default()
    };
    let running = start(dir.path(), settings());
    let backend = running.handle();
    let fail = |error: &str| Failure {
        error: error.to_owned(),
        retry_in: Some(Millis(0)),
        dead: false,
    };
    let id = run(async {
        let id = submit(&*backend, text("a")).await;
        for error in ["first", "second"] {
            let (_, token) = claim(&*backend).await.unwrap();
            backend.fail(id, token, fail(error)).await.unwrap();
            if error == "first" {
                backend.checkpoint().await.unwrap();
            }
        }
        id
    });
    close(running);
    let running = start(dir.path(), settings());
    let view = run(running.handle().task(id)).unwrap();
    close(running);
    let history = view.history.unwrap();
    let told: Vec<_> = history
        .happenings
        .iter()
        .map(|one| (one.kind, one.at.is_some(), one.error.as_deref()))
        .collect();
    let expected = [
        (EventKind::Submitted, true, None),
        (EventKind::Claimed, true, None),
        (EventKind::Failed, false, Some("second")),
    ];
    assert_eq!(told, expected);
    assert_eq!(view.attempts, 2);
}

#[test]
fn all_state_survives_a_restart_from_journal_or_checkpoint() {
    for checkpoint in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let running = start(
            dir.path(),
            Settings {
                spool_delay: Millis(if checkpoint { 0 } else { 60_000 }),
                ..Settings::default()
            },
        );
        let backend = running.handle();
        let options = Options {
            unique_key: Some("k".into()),
            max_attempts: Some(1),
            ..Options::default()
        };
        let (held, token, dead) = run(async {
            let dead = submit(
                &*backend,
                NewTask {
                    options: options.clone(),
                    ..text("dead")
                },
            )
            .await;
            let (_, token) = claim(&*backend).await.unwrap();
            backend
                .fail(
                    dead,
                    token,
                    Failure {
                        error: "x".to_owned(),
                        ..Failure::default()
                    },
                )
                .await
                .unwrap();
            let held = submit(&*backend, text("held")).await;
            let (_, token) = claim(&*backend).await.unwrap();
            submit(&*backend, text("waits")).await;
            backend
                .pause(Some(QueueName::default()), true)
                .await
                .unwrap();
            if checkpoint {
                backend.checkpoint().await.unwrap();
            }
            (held, token, dead)
        });
        close(running);
        let running = start(dir.path(), Settings::default());
        let backend = running.handle();
        run(async {
            let view = backend.task(dead).await.unwrap();
            assert_eq!(
                (view.state, view.last_error.as_deref(), &view.options),
                (State::Dead, Some("x"), &options)
            );
            assert!(claim(&*backend).await.is_none(), "it is paused");
            backend.complete(held, Some(token), None).await.unwrap();
            backend
                .pause(Some(QueueName::default()), false)
                .await
                .unwrap();
            assert_eq!(
                backend.claim(ask(1, 0)).await.unwrap().tasks[0]
                    .0
                    .payload
                    .to_display(),
                "waits"
            );
        });
        close(running);
    }
}

#[test]
fn a_restart_keeps_what_was_completed_gone_although_its_file_survived() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(
        dir.path(),
        Settings {
            spool_delay: Millis(0),
            ..Settings::default()
        },
    );
    let backend = running.handle();
    let id = run(submit(&*backend, text("a")));
    let tasks = dir.path().join("tasks");
    let name = until("its file is there", || names(&tasks).pop());
    let content = fs::read(tasks.join(&name)).unwrap();
    run(backend.complete(id, None, None)).unwrap();
    close(running);
    assert!(names(&tasks).is_empty());
    fs::write(tasks.join(&name), content).unwrap();
    let running = start(dir.path(), Settings::default());
    until("the file that had survived is gone", || {
        names(&tasks).is_empty().then_some(())
    });
    let page = page_of(10);
    assert!(run(running.handle().tasks(page)).unwrap().tasks.is_empty());
    close(running);
}

#[test]
fn a_claim_that_nobody_waits_for_any_more_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path(), Settings::default());
    let backend = running.handle();
    run(async {
        let gone = backend.claim(ask(1, 60_000));
        assert!(
            tokio::time::timeout(Duration::from_millis(20), gone)
                .await
                .is_err(),
            "it waits"
        );
        let id = submit(&*backend, text("a")).await;
        let answer = backend.claim(ask(1, 5_000)).await.unwrap();
        assert_eq!((answer.tasks[0].0.id, answer.tasks[0].0.attempts), (id, 1));
    });
    close(running);
}

#[test]
fn waiting_claims_are_served_in_the_order_of_their_arrival() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path(), Settings::default());
    let backend = running.handle();
    run(async {
        let waiting = |number: usize| {
            let backend = &backend;
            async move {
                (
                    number,
                    backend
                        .claim(ask(1, 20_000))
                        .await
                        .unwrap()
                        .tasks
                        .remove(0)
                        .0
                        .payload
                        .to_display(),
                )
            }
        };
        let submits = async {
            let new = (0..3).map(|number| text(&number.to_string())).collect();
            backend.submit(new).await.unwrap();
        };
        // `join!` polls in this order, so the claims arrive in it.
        let (a, b, c, ()) = tokio::join!(waiting(0), waiting(1), waiting(2), submits);
        assert_eq!(
            [a, b, c].map(|(number, text)| number.to_string() == text),
            [true; 3]
        );
    });
    close(running);
}

#[test]
fn done_tasks_are_kept_where_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(
        dir.path(),
        Settings {
            retain_done: Millis::from_secs(3600),
            ..Settings::default()
        },
    );
    let backend = running.handle();
    run(async {
        submit(&*backend, text("a")).await;
        let (id, token) = claim(&*backend).await.unwrap();
        backend
            .complete(id, Some(token), Some(Payload::from_text("fine")))
            .await
            .unwrap();
    });
    let done = dir.path().join("done");
    let name = until("its file is in done/", || names(&done).pop());
    let content = fs::read_to_string(done.join(name)).unwrap();
    assert!(
        content.contains(r#""payload":"a""#) && content.contains(r#""result":"fine""#),
        "{content}"
    );
    close(running);
}

#[test]
fn after_work_nothing_is_left_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(
        dir.path(),
        Settings {
            spool_delay: Millis(5),
            ..Settings::default()
        },
    );
    let backend = running.handle();
    run(async {
        for round in 0..50 {
            let id = submit(&*backend, text("a")).await;
            if round % 2 == 0 {
                let (id, token) = claim(&*backend).await.unwrap();
                backend.complete(id, Some(token), None).await.unwrap();
            } else {
                backend.cancel(id).await.unwrap();
            }
        }
        backend.checkpoint().await.unwrap();
        let status = backend.status().await.unwrap();
        assert_eq!((status.spool_pending, status.counts), (0, [0; 4]));
    });
    assert!(names(&dir.path().join("tasks")).is_empty());
    close(running);
}

#[test]
fn who_waits_for_room_among_the_file_changes_does_not_wait_for_spool_delay() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(
        dir.path(),
        Settings {
            spool_delay: Millis(60_000),
            max_pending_files: 4,
            ..Settings::default()
        },
    );
    let backend = running.handle();
    run(async {
        let all = async {
            for _ in 0..20 {
                submit(&*backend, text("a")).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), all)
            .await
            .expect("twenty tasks are taken long before a minute is over");
    });
    close(running);
}

/// Each of a queue's pages and claims in turn: the bytes of payloads of each, and the ids of all.
async fn answers(backend: &impl Backend) -> (Vec<usize>, [Vec<TaskId>; 2]) {
    let (mut bytes, mut listed, mut claimed) = (Vec::new(), Vec::new(), Vec::new());
    let mut query = page_of(1000);
    loop {
        let page = backend.tasks(query.clone()).await.unwrap();
        bytes.push(page.tasks.iter().map(|task| task.payload.len()).sum());
        listed.extend(page.tasks.iter().map(|task| task.id));
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    loop {
        let answer = backend.claim(ask(1000, 0)).await.unwrap();
        if answer.tasks.is_empty() {
            return (bytes, [listed, claimed]);
        }
        let sizes = answer.tasks.iter().map(|(task, _)| task.payload.len());
        bytes.push(sizes.sum());
        claimed.extend(answer.tasks.iter().map(|(task, _)| task.id));
    }
}

#[test]
fn no_answer_has_more_bytes_of_payloads_than_memory_is_kept_for_but_all_come() {
    for payload_cache in [0, 1 << 30] {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            payload_cache,
            spool_delay: Millis(0),
            ..Settings::default()
        };
        let running = start(dir.path(), settings);
        let backend = running.handle();
        run(async {
            let large = "x".repeat(1_000_000);
            let mut ids = vec![submit(&*backend, text("small")).await];
            for _ in 0..20 {
                ids.push(submit(&*backend, text(&large)).await);
            }
            let (bytes, all) = answers(&*backend).await;
            assert!(bytes.iter().all(|bytes| *bytes <= 4 << 20), "{bytes:?}");
            assert_eq!(all, [ids.clone(), ids]);
        });
        close(running);
    }
}

#[test]
fn a_page_of_small_tasks_is_as_long_as_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path(), Settings::default());
    let backend = running.handle();
    run(async {
        let new = (0..1000).map(|number| text(&number.to_string())).collect();
        backend.submit(new).await.unwrap();
        let query = page_of(1000);
        assert_eq!(backend.tasks(query).await.unwrap().tasks.len(), 1000);
        assert_eq!(backend.claim(ask(1000, 0)).await.unwrap().tasks.len(), 1000);
    });
    close(running);
}

#[test]
fn a_file_that_can_not_be_written_counts_as_failing_until_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        spool_delay: Millis(0),
        ..Settings::default()
    };
    let running = start(dir.path(), settings);
    let backend = running.handle();
    let mut new = text("in the way");
    let id = TaskId::parse("0198c0de-0000-7000-8000-000000000001").unwrap();
    new.id = Some(id);
    let place = dir
        .path()
        .join("tasks/1970-01-01T00:00:00_00000100_0198c0de-0000-7000-8000-000000000001.json");
    fs::create_dir_all(place.join("in it")).unwrap();
    run(submit(&*backend, new));
    let failing = || run(backend.status()).unwrap().spool_failing;
    until("the file fails", || (failing() == 1).then_some(()));
    fs::remove_dir_all(&place).unwrap();
    // Who asks for a checkpoint does not wait until the file has rested.
    run(backend.checkpoint()).unwrap();
    assert!(place.is_file());
    assert_eq!(failing(), 0);
    close(running);
}

#[test]
fn dead_tasks_that_may_not_come_back_keep_no_other_from_it_and_the_reason_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path(), Settings::default());
    let backend = running.handle();
    let dead = |key: Option<&str>| NewTask {
        options: Options {
            unique_key: key.map(Into::into),
            ..Options::default()
        },
        past: Some(Box::new(Past {
            attempts: 1,
            dead: true,
            last_error: None,
        })),
        ..text("dead")
    };
    let retried = run(async {
        // More than one step looks at, in front of the one that may.
        let mut tasks = vec![dead(Some("key")); 1001];
        tasks.push(dead(None));
        backend.submit(tasks).await.unwrap();
        let mut holder = dead(Some("key"));
        holder.past = None;
        let holder = submit(&*backend, holder).await;
        let retried = backend.retry_dead(None).await.unwrap();
        assert_eq!(retried.reason, Some(Refusal::UniqueKeyInUse(holder)));
        retried
    });
    assert_eq!((retried.count, retried.left), (1, 1001));
    close(running);
}
