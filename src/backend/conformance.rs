//! What any [`Backend`] must hold: run on each implementation.

use super::{Backend, ClaimRequest, Error, Failure, PageQuery};
use crate::task::{
    LeaseKind, Millis, NewTask, Payload, Priority, QueueName, Refusal, State, Token,
};

fn claim(queue: &QueueName, wait: u64) -> ClaimRequest {
    ClaimRequest {
        queues: vec![queue.clone()],
        max: 1,
        wait: Millis(wait),
        lease: Some(Millis::from_secs(60)),
        kind: LeaseKind::V1,
        worker: None,
        complete: Vec::new(),
    }
}

fn task(queue: &QueueName, text: &str, priority: i32) -> NewTask {
    NewTask {
        queue: queue.clone(),
        priority: Priority::new(priority),
        ..NewTask::of(Payload::from_text(text))
    }
}

/// Runs all of it on a backend that is empty.
pub(crate) async fn suite(backend: &impl Backend) {
    order_and_ends(backend).await;
    attempts(backend).await;
    waiting(backend).await;
    switches(backend).await;
}

async fn order_and_ends(backend: &impl Backend) {
    let queue = QueueName::parse("order").unwrap();
    let tasks = [("low", 1), ("first", 5), ("second", 5)];
    let tasks = tasks.map(|(text, priority)| task(&queue, text, priority));
    let outcomes = backend.submit(tasks.to_vec()).await.unwrap();
    assert!(outcomes.iter().all(|one| one.created));
    let again = NewTask {
        id: Some(outcomes[0].task.id),
        ..task(&queue, "low", 1)
    };
    assert!(!backend.submit(vec![again]).await.unwrap()[0].created);
    for wanted in ["\"first\"", "\"second\"", "\"low\""] {
        let answer = backend.claim(claim(&queue, 0)).await.unwrap();
        let (got, token) = &answer.tasks[0];
        assert_eq!((got.payload.as_json(), got.attempts), (wanted, 1));
        let stale = backend.complete(got.id, Some(Token(token.0 ^ 1)), None);
        let refused = Err(Error::Refused(Refusal::StaleToken(got.id)));
        assert_eq!(stale.await, refused);
        let leased = backend.cancel(got.id).await;
        assert_eq!(leased, Err(Error::Refused(Refusal::Leased(got.id))));
        backend.complete(got.id, Some(*token), None).await.unwrap();
        let gone = backend.task(got.id).await.unwrap_err();
        assert_eq!(gone, Error::Refused(Refusal::NoSuchTask(got.id)));
    }
    let nothing = backend.claim(claim(&queue, 0)).await.unwrap();
    assert!(nothing.tasks.is_empty());
}

async fn attempts(backend: &impl Backend) {
    let queue = QueueName::parse("attempts").unwrap();
    let outcomes = backend.submit(vec![task(&queue, "x", 100)]).await.unwrap();
    let id = outcomes[0].task.id;
    let (_, token) = backend.claim(claim(&queue, 0)).await.unwrap().tasks[0].clone();
    backend.release(id, token).await.unwrap();
    let (view, token) = backend.claim(claim(&queue, 0)).await.unwrap().tasks[0].clone();
    assert_eq!(view.attempts, 1, "a release counts no attempt");
    backend.extend(id, token, None).await.unwrap();
    let failure = Failure {
        error: "no".into(),
        dead: true,
        ..Failure::default()
    };
    let dead = backend.fail(id, token, failure).await.unwrap();
    assert_eq!(
        (dead.state, dead.last_error.as_deref()),
        (State::Dead, Some("no"))
    );
    let alive = backend.retry(id).await.unwrap();
    assert_eq!((alive.state, alive.attempts), (State::Ready, 0));
    let query = PageQuery {
        queue: Some(queue.clone()),
        state: None,
        limit: 10,
        after: None,
    };
    let page = backend.tasks(query).await.unwrap();
    assert_eq!((page.tasks.len(), page.tasks[0].id), (1, id));
    assert_eq!(backend.purge(Some(queue), State::Ready).await.unwrap(), 1);
}

async fn waiting(backend: &impl Backend) {
    let queue = QueueName::parse("waiting").unwrap();
    let submit = backend.submit(vec![task(&queue, "x", 100)]);
    let wait = backend.claim(claim(&queue, 60_000));
    let (answer, submitted) = tokio::join!(wait, submit);
    let id = submitted.unwrap()[0].task.id;
    let (got, token) = answer.unwrap().tasks[0].clone();
    assert_eq!(got.id, id);
    {
        // One that gives up gets nothing.
        let gives_up = backend.claim(claim(&queue, 60_000));
        let brief = std::time::Duration::from_millis(5);
        assert!(tokio::time::timeout(brief, gives_up).await.is_err());
    }
    backend.release(id, token).await.unwrap();
    let (got, token) = backend.claim(claim(&queue, 60_000)).await.unwrap().tasks[0].clone();
    assert_eq!((got.id, got.attempts), (id, 1));
    backend.complete(id, Some(token), None).await.unwrap();
}

async fn switches(backend: &impl Backend) {
    let queue = QueueName::parse("switches").unwrap();
    backend.submit(vec![task(&queue, "x", 100)]).await.unwrap();
    backend.pause(Some(queue.clone()), true).await.unwrap();
    backend.drain(Some(queue.clone()), true).await.unwrap();
    assert!(
        backend
            .claim(claim(&queue, 0))
            .await
            .unwrap()
            .tasks
            .is_empty()
    );
    let refused = backend.submit(vec![task(&queue, "y", 100)]).await;
    let draining = Error::Refused(Refusal::Draining(Some(queue.clone())));
    assert_eq!(refused.unwrap_err(), draining);
    backend.drain(Some(queue.clone()), false).await.unwrap();
    let wait = backend.claim(claim(&queue, 60_000));
    let (answer, resumed) = tokio::join!(wait, backend.pause(Some(queue.clone()), false));
    resumed.unwrap();
    assert_eq!(answer.unwrap().tasks.len(), 1);
    backend.checkpoint().await.unwrap();
    assert!(backend.status().await.unwrap().fault.is_none());
}
