//! What any [`Backend`] must hold, whatever it keeps its tasks in: run on every implementation.

use super::{
    Answer, Backend, Change, ClaimAnswer, ClaimRequest, Completion, Error, Event, EventKind,
    EventResult, Failure, HistorySlot, HistoryView, Meant, Page, PageQuery, TaskView,
};
use crate::task::{
    Backoff, ExecTime, IdPrefix, LeaseKind, Millis, NewTask, Options, Payload, Priority, QueueName,
    Refusal, Span, State, TaskId, Token, WorkerName,
};

fn queue(name: &str) -> QueueName {
    QueueName::parse(name).unwrap()
}

fn task(name: &str, text: &str) -> NewTask {
    NewTask {
        queue: queue(name),
        ..NewTask::of(Payload::from_text(text))
    }
}

fn ask(name: &str) -> ClaimRequest {
    ClaimRequest {
        queues: vec![queue(name)],
        max: 1,
        wait: Millis(0),
        lease: None,
        kind: LeaseKind::V1,
        worker: None,
        complete: Vec::new(),
    }
}

fn texts(answer: &ClaimAnswer) -> Vec<String> {
    answer
        .tasks
        .iter()
        .map(|(task, _)| task.payload.to_display())
        .collect()
}

fn refusal<T: std::fmt::Debug>(answer: Answer<T>) -> Refusal {
    match answer {
        Err(Error::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

async fn submit(backend: &impl Backend, new: NewTask) -> TaskId {
    let outcomes = backend.submit(vec![new]).await.unwrap();
    assert!(outcomes[0].created);
    outcomes[0].task.id
}

async fn claim_one(backend: &impl Backend, name: &str) -> (TaskId, Token) {
    let answer = backend.claim(ask(name)).await.unwrap();
    (answer.tasks[0].0.id, answer.tasks[0].1)
}

/// All of it. Each part has queues of its own, so that they do not meet.
pub(crate) async fn suite(backend: &impl Backend) {
    order(backend).await;
    tokens(backend).await;
    attempts(backend).await;
    sameness(backend).await;
    switches(backend).await;
    lists(backend).await;
    piggy_back(backend).await;
    many(backend).await;
    history(backend).await;
    results(backend).await;
    moves(backend).await;
    past(backend).await;
}

async fn order(backend: &impl Backend) {
    for (text, priority, exectime) in [
        ("late", 100, 9),
        ("first", 200, 50),
        ("early", 100, 5),
        ("last", 1, 0),
    ] {
        let exectime = ExecTime::new(exectime).unwrap();
        submit(
            backend,
            NewTask {
                priority: Priority::new(priority),
                exectime,
                ..task("order", text)
            },
        )
        .await;
    }
    submit(
        backend,
        NewTask {
            exectime: ExecTime::MAX,
            ..task("order", "never")
        },
    )
    .await;
    // A claim may give fewer than there are, where the rest is still to be read; it waits for one.
    let mut order = Vec::new();
    while order.len() < 4 {
        let request = ClaimRequest {
            max: 10,
            wait: Millis(30_000),
            ..ask("order")
        };
        let answer = backend.claim(request).await.unwrap();
        assert!(!answer.tasks.is_empty(), "no more than {order:?}");
        order.extend(texts(&answer));
    }
    assert_eq!(order, ["first", "early", "late", "last"]);
}

async fn tokens(backend: &impl Backend) {
    submit(backend, task("tokens", "a")).await;
    let (id, token) = claim_one(backend, "tokens").await;
    assert_eq!(
        refusal(backend.complete(id, Some(Token(1)), None).await),
        Refusal::StaleToken(id)
    );
    assert_eq!(
        refusal(backend.complete(id, None, None).await),
        Refusal::Leased(id)
    );
    assert_eq!(refusal(backend.cancel(id).await), Refusal::Leased(id));
    backend
        .extend(id, token, Some(Millis(60_000)))
        .await
        .unwrap();
    backend.release(id, token).await.unwrap();
    assert_eq!(
        refusal(backend.release(id, token).await),
        Refusal::StaleToken(id)
    );
    let (again, token) = claim_one(backend, "tokens").await;
    assert_eq!(again, id);
    assert_eq!(
        backend.task(id).await.unwrap().attempts,
        1,
        "a released attempt does not count"
    );
    backend.complete(id, Some(token), None).await.unwrap();
    assert_eq!(refusal(backend.task(id).await), Refusal::NoSuchTask(id));
}

async fn attempts(backend: &impl Backend) {
    let backoff = Some(Backoff {
        base: Millis(0),
        max: Millis(0),
    });
    let options = Options {
        max_attempts: Some(2),
        backoff,
        ..Options::default()
    };
    let id = submit(
        backend,
        NewTask {
            options,
            ..task("attempts", "a")
        },
    )
    .await;
    for state in [State::Ready, State::Dead] {
        let (_, token) = claim_one(backend, "attempts").await;
        let failure = Failure {
            error: "broken".to_owned(),
            ..Failure::default()
        };
        let view = backend.fail(id, token, failure).await.unwrap();
        assert_eq!(
            (view.state, view.last_error.as_deref()),
            (state, Some("broken"))
        );
    }
    let view = backend.retry(id).await.unwrap();
    assert_eq!((view.state, view.attempts), (State::Ready, 0));
    let change = Change {
        queue: None,
        exectime: Some(ExecTime::MAX),
        priority: Some(Priority::new(-1)),
    };
    assert_eq!(
        backend.reschedule(id, change).await.unwrap().state,
        State::Scheduled
    );
    backend.cancel(id).await.unwrap();
}

async fn sameness(backend: &impl Backend) {
    let id = TaskId::parse("0198c0de-0000-4000-8000-000000000001").unwrap();
    let own = NewTask {
        id: Some(id),
        ..task("same", "a")
    };
    assert_eq!(submit(backend, own.clone()).await, id);
    assert!(!backend.submit(vec![own.clone()]).await.unwrap()[0].created);
    let other = NewTask {
        payload: Payload::from_text("b"),
        ..own
    };
    assert_eq!(
        refusal(backend.submit(vec![task("same", "c"), other]).await),
        Refusal::IdInUse(id)
    );
    assert_eq!(
        backend
            .queue(queue("same"))
            .await
            .unwrap()
            .count(State::Ready),
        1,
        "all or nothing"
    );
    let options = Options {
        unique_key: Some("k".into()),
        ..Options::default()
    };
    let keyed = NewTask {
        options,
        priority: Priority::new(900),
        ..task("same", "keyed")
    };
    let first = submit(backend, keyed.clone()).await;
    let second = &backend.submit(vec![keyed.clone()]).await.unwrap()[0];
    assert_eq!((second.created, second.task.id), (false, first));
    backend.complete(first, None, None).await.unwrap();
    assert_ne!(
        submit(backend, keyed).await,
        first,
        "the key is free when its task has ended"
    );
}

async fn switches(backend: &impl Backend) {
    submit(backend, task("switches", "a")).await;
    let name = Some(queue("switches"));
    backend.pause(name.clone(), true).await.unwrap();
    assert!(
        backend
            .claim(ask("switches"))
            .await
            .unwrap()
            .tasks
            .is_empty()
    );
    backend.drain(name.clone(), true).await.unwrap();
    let refused = refusal(backend.submit(vec![task("switches", "b")]).await);
    assert_eq!(refused, Refusal::Draining(name.clone()));
    let waiting = backend.claim(ClaimRequest {
        wait: Millis(30_000),
        ..ask("switches")
    });
    let (answer, ()) = tokio::join!(waiting, async {
        backend.pause(name.clone(), false).await.unwrap();
    });
    assert_eq!(texts(&answer.unwrap()), ["a"], "a waiting claim is woken");
    backend.drain(name, false).await.unwrap();
    let unknown = queue("nowhere");
    assert_eq!(
        refusal(backend.pause(Some(unknown.clone()), true).await),
        Refusal::NoSuchQueue(unknown)
    );
}

async fn lists(backend: &impl Backend) {
    let new = (0..7)
        .map(|number| task("lists", &number.to_string()))
        .collect();
    backend.submit(new).await.unwrap();
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = backend
            .tasks(PageQuery {
                queue: Some(queue("lists")),
                state: None,
                id_prefix: None,
                limit: 3,
                after,
            })
            .await
            .unwrap();
        seen.extend(page.tasks.iter().map(|task| task.payload.to_display()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["0", "1", "2", "3", "4", "5", "6"]);

    // Four of 200, wherever they stand in the order.
    let new = (0..200_u8).map(|number| NewTask {
        id: Some(TaskId::from_bytes([
            number % 50,
            0xee,
            number,
            0,
            0,
            0,
            0x40,
            0,
            0x80,
            0,
            0,
            0,
            0,
            0,
            0,
            1,
        ])),
        priority: Priority::new(number.into()),
        ..task("prefix", &number.to_string())
    });
    backend.submit(new.collect()).await.unwrap();
    let mut query = PageQuery {
        queue: Some(queue("prefix")),
        state: Some(State::Ready),
        id_prefix: Some(IdPrefix::parse("07ee").unwrap()),
        limit: 3,
        after: None,
    };
    let page = backend.tasks(query.clone()).await.unwrap();
    let texts = |page: &Page| -> Vec<String> {
        let tasks = page.tasks.iter();
        tasks.map(|task| task.payload.to_display()).collect()
    };
    assert_eq!(texts(&page), ["157", "107", "57"]);
    query.after = page.next;
    let page = backend.tasks(query).await.unwrap();
    assert_eq!((texts(&page), page.next), (vec!["7".to_owned()], None));
}

async fn piggy_back(backend: &impl Backend) {
    backend
        .submit(vec![task("piggy", "a"), task("piggy", "b")])
        .await
        .unwrap();
    let (id, token) = claim_one(backend, "piggy").await;
    let done = |token| Completion {
        id,
        token,
        result: None,
    };
    let request = ClaimRequest {
        complete: vec![done(Token(7)), done(token)],
        ..ask("piggy")
    };
    let answer = backend.claim(request).await.unwrap();
    assert_eq!(texts(&answer), ["b"]);
    assert_eq!(
        answer.completed,
        [(id, Err(Refusal::StaleToken(id))), (id, Ok(()))]
    );
}

async fn many(backend: &impl Backend) {
    let new = (0..2500)
        .map(|number| task("many", &number.to_string()))
        .collect();
    backend.submit(new).await.unwrap();
    assert_eq!(
        backend
            .purge(Some(queue("many")), State::Ready)
            .await
            .unwrap(),
        2500
    );
    assert_eq!(
        backend
            .queue(queue("many"))
            .await
            .unwrap()
            .count(State::Ready),
        0
    );
}

/// What has happened is in the history of its queue and in that of all; latencies are in the latter.
async fn history(backend: &impl Backend) {
    type Pick = fn(&HistorySlot) -> u64;
    let sum = |view: &HistoryView, pick: Pick| -> u64 { view.slots.iter().map(pick).sum() };
    let submitted: Pick = |slot| slot.submitted;
    let completed: Pick = |slot| slot.completed;
    let before = backend.history(None, Span::Hour).await.unwrap();
    submit(backend, task("told", "a")).await;
    submit(backend, task("told", "b")).await;
    let (id, token) = claim_one(backend, "told").await;
    backend.complete(id, Some(token), None).await.unwrap();
    let (id, token) = claim_one(backend, "told").await;
    let dead = Failure {
        dead: true,
        ..Failure::default()
    };
    backend.fail(id, token, dead).await.unwrap();

    let of = backend.history(Some(queue("told")), Span::Hour).await;
    let of = of.unwrap();
    assert_eq!(
        (of.span, of.step, of.slots.len()),
        (Span::Hour, Millis(60_000), 60)
    );
    assert_eq!((sum(&of, submitted), sum(&of, completed)), (2, 1));
    assert_eq!(sum(&of, |slot| slot.failed), 1);
    assert_eq!(sum(&of, |slot| slot.died), 1);
    assert!(of.slots.iter().all(|slot| slot.wait.is_none()));
    for span in [Span::Minute, Span::Hour, Span::Day] {
        let all = backend.history(None, span).await.unwrap();
        assert_eq!(all.slots.len(), span.steps().1);
        let run: u64 = all
            .slots
            .iter()
            .filter_map(|slot| slot.run)
            .map(|run| run.count)
            .sum();
        assert!(sum(&all, submitted) >= 2 && run >= 1, "{span:?}: {all:?}");
    }
    let after = backend.history(None, Span::Hour).await.unwrap();
    assert_eq!(sum(&after, submitted), sum(&before, submitted) + 2);
    assert_eq!(backend.queue(queue("told")).await.unwrap().died_lately, 1);
    assert_eq!(
        refusal(backend.history(Some(queue("told")), Span::Day).await),
        Refusal::invalid("span", "of one queue only the last hour is kept")
    );
    assert_eq!(
        refusal(backend.history(Some(queue("untold")), Span::Hour).await),
        Refusal::NoSuchQueue(queue("untold"))
    );
}

/// A listener hears what a worker had to say of the task that it completed, also where results are not kept.
async fn results(backend: &impl Backend) {
    let mut events = backend.events(None);
    let long = "a".repeat(Event::MOST_RESULT);
    for result in ["short", &long] {
        submit(backend, task("results", "a")).await;
        let (id, token) = claim_one(backend, "results").await;
        let result = Some(Payload::from_text(result));
        backend.complete(id, Some(token), result).await.unwrap();
    }
    submit(backend, task("results", "b")).await;
    let (id, token) = claim_one(backend, "results").await;
    let result = Some(Payload::from_text("with a claim"));
    let request = ClaimRequest {
        complete: vec![Completion { id, token, result }],
        max: 0,
        ..ask("results")
    };
    backend.claim(request).await.unwrap();
    submit(backend, task("results", "c")).await;
    let (id, token) = claim_one(backend, "results").await;
    backend.complete(id, Some(token), None).await.unwrap();

    let mut heard = Vec::new();
    while heard.len() < 4 {
        match events.try_next().unwrap() {
            Some(event) if event.kind == EventKind::Completed => heard.push(event.result.clone()),
            Some(event) => assert_eq!(event.result, None),
            None => events.news().await,
        }
    }
    let whole = |text| Some(EventResult::Whole(Payload::from_text(text)));
    let too_long = Some(EventResult::TooLong(long.len() + 2));
    assert_eq!(
        heard,
        [whole("short"), too_long, whole("with a claim"), None]
    );
}

/// A task that is moved is in the other queue, with the place in the order that it had or is given; leased ones stay.
async fn moves(backend: &impl Backend) {
    let to = |name: &str| Change {
        queue: Some(queue(name)),
        ..Change::default()
    };
    let mut events = backend.events(None);
    let id = submit(backend, task("moves", "a")).await;
    submit(backend, task("moves.b", "b")).await;
    let change = Change {
        priority: Some(Priority::new(200)),
        ..to("moves.b")
    };
    let moved = backend.reschedule(id, change).await.unwrap();
    assert_eq!(
        (moved.queue.as_str(), moved.priority.get(), moved.state),
        ("moves.b", 200, State::Ready)
    );
    let heard = loop {
        match events.try_next().unwrap() {
            Some(event) if event.kind == EventKind::Moved => break event,
            Some(_) => {}
            None => events.news().await,
        }
    };
    assert_eq!(
        (&heard.queue, &heard.moved_from, heard.id),
        (&Some(queue("moves.b")), &Some(queue("moves")), Some(id))
    );
    assert!(backend.claim(ask("moves")).await.unwrap().tasks.is_empty());
    let (first, token) = claim_one(backend, "moves.b").await;
    assert_eq!(first, id, "the more urgent one");
    assert_eq!(
        refusal(backend.reschedule(id, to("moves")).await),
        Refusal::Leased(id)
    );
    let dead = Failure {
        dead: true,
        ..Failure::default()
    };
    backend.fail(id, token, dead).await.unwrap();
    let moved = backend.reschedule(id, to("moves")).await.unwrap();
    assert_eq!((moved.queue.as_str(), moved.state), ("moves", State::Dead));
    // Who has seen it elsewhere does nothing to it.
    let seen_in = |name| Meant {
        id,
        queue: Some(queue(name)),
    };
    let elsewhere = || seen_in("moves.b");
    let refusals = [
        refusal(backend.cancel(elsewhere()).await),
        refusal(backend.retry(elsewhere()).await),
        refusal(backend.complete(elsewhere(), None, None).await),
        refusal(backend.reschedule(elsewhere(), to("moves.b")).await),
    ];
    assert!(refusals.iter().all(|one| *one == Refusal::Moved(id)));
    assert_eq!(backend.task(id).await.unwrap().state, State::Dead);
    let moved = backend.reschedule(seen_in("moves"), to("moves.b")).await;
    assert_eq!(moved.unwrap().queue.as_str(), "moves.b");
    // A queue that nobody has named before is made, and a claim that waits there is served.
    let waiting = backend.claim(ClaimRequest {
        wait: Millis(30_000),
        ..ask("moves.new")
    });
    let (answer, ()) = tokio::join!(waiting, async {
        backend.retry(id).await.unwrap();
        backend.reschedule(id, to("moves.new")).await.unwrap();
    });
    assert_eq!(texts(&answer.unwrap()), ["a"]);

    let keyed = |name| {
        let mut keyed = task(name, "k");
        keyed.options.unique_key = Some("k".into());
        keyed
    };
    let (one, other) = (keyed("moves"), keyed("moves.b"));
    let (one, other) = (submit(backend, one).await, submit(backend, other).await);
    assert_eq!(
        refusal(backend.reschedule(one, to("moves.b")).await),
        Refusal::UniqueKeyInUse(other)
    );
    backend.drain(Some(queue("moves.b")), true).await.unwrap();
    assert_eq!(
        refusal(backend.reschedule(one, to("moves.b")).await),
        Refusal::Draining(Some(queue("moves.b")))
    );
}

/// A task that is asked for by itself shows what happened to it, one in a list does not.
async fn past(backend: &impl Backend) {
    let id = submit(backend, task("past", "a")).await;
    let told = |view: &TaskView| -> Vec<(EventKind, Option<u32>)> {
        let history = view.history.as_deref().unwrap();
        let happenings = history.happenings.iter();
        happenings.map(|one| (one.kind, one.attempt)).collect()
    };
    let view = backend.task(id).await.unwrap();
    assert_eq!(told(&view), [(EventKind::Submitted, None)]);
    let worker = Some(WorkerName::parse("tester").unwrap());
    let request = || ClaimRequest {
        worker: worker.clone(),
        ..ask("past")
    };
    let claim = || async { backend.claim(request()).await.unwrap().tasks[0].1 };
    let token = claim().await;
    backend.release(id, token).await.unwrap();
    let change = Change {
        queue: None,
        priority: Some(Priority::new(5)),
        exectime: None,
    };
    backend.reschedule(id, change).await.unwrap();
    let token = claim().await;
    let failure = |dead| Failure {
        error: "broken".to_owned(),
        retry_in: Some(Millis(0)),
        dead,
    };
    backend.fail(id, token, failure(false)).await.unwrap();
    let token = claim().await;
    backend.fail(id, token, failure(true)).await.unwrap();
    backend.retry(id).await.unwrap();
    claim().await;

    let view = backend.task(id).await.unwrap();
    let expected = [
        (EventKind::Submitted, None),
        (EventKind::Claimed, Some(1)),
        (EventKind::Released, Some(1)),
        (EventKind::Rescheduled, None),
        (EventKind::Claimed, Some(1)),
        (EventKind::Failed, Some(1)),
        (EventKind::Claimed, Some(2)),
        (EventKind::Dead, Some(2)),
        (EventKind::Retried, None),
        (EventKind::Claimed, Some(1)),
    ];
    assert_eq!(told(&view), expected);
    let history = view.history.as_deref().unwrap();
    assert_eq!(history.left_out, 0);
    for one in &history.happenings {
        assert!(one.at.is_some(), "{one:?}");
        let by_a_worker = one.attempt.is_some();
        assert_eq!(one.worker, worker.clone().filter(|_| by_a_worker));
        let failed = matches!(one.kind, EventKind::Failed | EventKind::Dead);
        assert_eq!(one.error.as_deref(), failed.then_some("broken"));
        let changed = one.kind == EventKind::Rescheduled;
        assert_eq!(one.priority, changed.then_some(Priority::new(5)));
    }
    let times = history.happenings.iter().map(|one| one.at);
    assert!(times.is_sorted());

    let query = PageQuery {
        id_prefix: None,
        queue: Some(queue("past")),
        state: None,
        limit: 1,
        after: None,
    };
    assert_eq!(backend.tasks(query).await.unwrap().tasks[0].history, None);
}
