//! What the loop makes of answers, without a daemon.

use super::*;
use crate::{
    api::Problem,
    worker::{flight::Kept, shared},
};

type Worker = Claims<fn(&Counts)>;

/// A loop that has not begun, whose daemon is not there.
fn worker() -> Worker {
    let config = Config {
        url: crate::client::Endpoint::Unix("/none/such".into()),
        ..Config::default()
    };
    let shared = shared(&config, CancellationToken::new()).unwrap();
    Claims::new(shared, config, CancellationToken::new(), |_| {})
}

/// Completions with these results.
fn kept(results: &[(&str, &str)]) -> Vec<Kept> {
    let one = |(id, result): &(&str, &str)| api::Completion {
        id: (*id).to_owned(),
        token: "k".to_owned(),
        result: (!result.is_empty()).then(|| Payload::from_text(result)),
    };
    let completions = results.iter().map(one);
    completions
        .map(|completion| Kept::new(completion, Instant::now()))
        .collect()
}

fn problem(status: u16, field: Option<&str>) -> Problem {
    Problem {
        kind: "/problems/x".to_owned(),
        title: "x".to_owned(),
        status,
        detail: "no".to_owned(),
        field: field.map(str::to_owned),
        line: None,
        column: None,
        accepted: None,
    }
}

fn refusal(status: u16, field: Option<&str>) -> ClientError {
    ClientError::Problem(Box::new(problem(status, field)))
}

fn outcome(id: &str, status: Option<u16>) -> api::CompletionOutcome {
    api::CompletionOutcome {
        id: id.to_owned(),
        problem: status.map(|status| problem(status, None)),
    }
}

/// What is kept, in its order: whose completion, whether with a result, whether it goes alone.
fn left(worker: &Worker) -> Vec<(&str, bool, bool)> {
    let kept = worker.kept.iter();
    kept.map(|kept| {
        let completion = &kept.completion;
        let has_result = completion.result.is_some();
        (completion.id.as_str(), has_result, kept.is_alone)
    })
    .collect()
}

/// How long until something is sent again.
fn pause(worker: &Worker) -> Option<Duration> {
    let at = worker.retry_at?;
    Some(at.saturating_duration_since(Instant::now()))
}

#[tokio::test]
async fn a_result_that_a_refusal_names_is_left_out_and_the_rest_goes_on_at_once() {
    let mut worker = worker();
    worker.kept = kept(&[("z", "later")]);
    let carried = kept(&[("a", "1"), ("b", "22"), ("c", "333")]);
    worker.unanswered(carried, &refusal(400, Some("complete[1].result")));
    let expected = [("a", true), ("b", false), ("c", true), ("z", true)];
    let expected = expected.map(|(id, has_result)| (id, has_result, false));
    assert_eq!(left(&worker), expected);
    assert_eq!(pause(&worker), None);
}

/// Each of them would be refused in its turn.
#[tokio::test]
async fn with_a_result_that_is_too_large_those_are_left_out_that_are_no_smaller() {
    let mut worker = worker();
    let carried = kept(&[("a", "1"), ("b", "22"), ("c", "333"), ("d", "")]);
    worker.unanswered(carried, &refusal(413, Some("complete[1].result")));
    let expected = [("a", true), ("b", false), ("c", false), ("d", false)];
    assert_eq!(
        left(&worker),
        expected.map(|(id, has_result)| (id, has_result, false))
    );
    assert_eq!(pause(&worker), None);
}

#[tokio::test]
async fn a_refusal_that_names_no_completion_of_its_request_makes_each_go_alone() {
    for field in [None, Some("complete[7].result"), Some("complete[2].result")] {
        let mut worker = worker();
        worker.kept = kept(&[("z", "later")]);
        let carried = kept(&[("a", "1"), ("b", "2"), ("c", "")]);
        worker.unanswered(carried, &refusal(413, field));
        let expected = [
            ("a", true, true),
            ("b", true, true),
            ("c", false, true),
            ("z", true, false),
        ];
        assert_eq!(left(&worker), expected, "{field:?}");
        assert_eq!(pause(&worker), None);
    }
}

#[tokio::test]
async fn a_refused_result_is_left_out_before_the_next_one_is_tried() {
    let mut worker = worker();
    worker.unanswered(kept(&[("a", "1"), ("b", "2")]), &refusal(413, None));
    for id in ["a", "b"] {
        let alone = worker.report_batch();
        assert_eq!(alone[0].completion.id, id);
        worker.unanswered(alone, &refusal(413, None));
        assert_eq!(left(&worker)[0], (id, false, true));
        assert_eq!(pause(&worker), None);
        let alone = worker.report_batch();
        assert_eq!(alone[0].completion.id, id);
        worker.answered(alone, &[outcome(id, None)]);
    }
    assert_eq!((worker.kept.len(), worker.counts.completed), (0, 2));
}

#[tokio::test]
async fn after_a_stop_all_go_without_their_results_when_one_is_refused() {
    let named = refusal(413, Some("complete[0].result"));
    for (is_alone, error) in [
        (false, named),
        (false, refusal(413, None)),
        (true, refusal(413, None)),
    ] {
        let mut worker = worker();
        worker.begin_stop();
        worker.kept = kept(&[("y", "1"), ("z", "2")]);
        for kept in &mut worker.kept {
            kept.is_alone = is_alone;
        }
        let mut carried = kept(&[("a", "333")]);
        carried[0].is_alone = is_alone;
        worker.unanswered(carried, &error);
        let batch = worker.batch();
        let ids: Vec<_> = batch.iter().map(|kept| &kept.completion.id).collect();
        assert_eq!(ids, ["a", "y", "z"], "{is_alone} {error}");
        assert!(batch.iter().all(|kept| kept.completion.result.is_none()));
        assert_eq!(pause(&worker), None);
        // Refused without them, it is for something else: each alone.
        worker.unanswered(batch, &error);
        assert!(worker.kept.iter().all(|kept| kept.is_alone));
    }
}

#[tokio::test]
async fn an_answer_with_many_completions_that_are_not_taken_now_is_one_failure() {
    let mut worker = worker();
    let ids: Vec<_> = (0..20).map(|number| format!("t{number}")).collect();
    let results: Vec<_> = ids.iter().map(|id| (id.as_str(), "")).collect();
    let outcomes: Vec<_> = ids.iter().map(|id| outcome(id, Some(507))).collect();
    worker.answered(kept(&results), &outcomes);
    assert_eq!(worker.kept.len(), 20);
    assert!(pause(&worker).unwrap() <= Duration::from_millis(100));
    // A daemon that says so again and again is asked less and less.
    for _ in 0..6 {
        let batch = worker.batch();
        worker.answered(batch, &outcomes);
    }
    assert!(pause(&worker).unwrap() > Duration::from_secs(1));
}

#[tokio::test]
async fn a_completion_of_which_an_answer_says_nothing_is_sent_again_in_doubt() {
    let mut worker = worker();
    let outcomes = [outcome("c", None), outcome("x", None)];
    worker.answered(kept(&[("a", "1"), ("b", "2"), ("c", "3")]), &outcomes);
    assert_eq!(left(&worker), [("a", true, false), ("b", true, false)]);
    assert_eq!((worker.counts.completed, worker.counts.lost), (1, 0));
    assert!(pause(&worker).is_some());
    // It may have been taken before.
    let batch = worker.batch();
    worker.answered(batch, &[outcome("a", Some(404)), outcome("b", Some(409))]);
    assert_eq!((worker.counts.completed, worker.counts.lost), (2, 1));
    assert!(worker.kept.is_empty());
}

#[tokio::test]
async fn ids_are_one_in_whatever_way_they_are_written() {
    let mut worker = worker();
    let id = "01A22C8C-9100-7101-B91C-AB40B7FCD9D8";
    let told = id.to_lowercase();
    worker.answered(kept(&[(id, "1")]), &[outcome(&told, None)]);
    assert_eq!((worker.kept.len(), worker.counts.completed), (0, 1));
}

/// The daemon's name or path is wrong just now: it says nothing of the task, whose completion may arrive yet.
#[tokio::test]
async fn a_refusal_of_the_address_keeps_what_was_carried_and_waits() {
    let refusals = [
        (421, "/problems/wrong-host"),
        (405, "/problems/method-not-allowed"),
        (404, "/problems/not-found"),
    ];
    for (status, kind) in refusals {
        let mut worker = worker();
        let refused = Problem {
            kind: kind.to_owned(),
            ..problem(status, None)
        };
        let carried = kept(&[("a", "1")]);
        worker.unanswered(carried, &ClientError::Problem(Box::new(refused)));
        assert_eq!(left(&worker), [("a", true, false)]);
        assert!(pause(&worker).is_some());
        assert_eq!(worker.counts.lost, 0);
    }
}
