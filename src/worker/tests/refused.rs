//! A daemon, or a proxy before it, that refuses what handlers print.

use super::*;

/// A worker with tasks whose results are all refused, without a word which, and that is told to stop when the first is, or not. What is
/// asked is answered until all are completed.
async fn refused(count: usize, stops: bool) -> Counts {
    let ids: Vec<_> = (0..count).map(|number| format!("t{number}")).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    let mut stage = Stage::with(|config| {
        speaker(config);
        config.concurrency = count as u32;
    });
    stage.daemon.claim().await.give(&ids);
    let mut waiting = Vec::new();
    let (mut completed, mut refused) = (0, None);
    while completed < count {
        let call = stage.daemon.next().await;
        let id = call.path.strip_prefix("/api/v1/tasks/").map(str::to_owned);
        let Some(id) = id else {
            let with_result = call.body["complete"].as_array().into_iter().flatten();
            if with_result.into_iter().any(|one| !one["result"].is_null()) {
                if stops {
                    stage.stop.cancel();
                }
                call.refuse(413);
            } else if call.body["wait"] == json!(0.0) {
                completed += call.completes().len();
                call.give(&[]);
            } else {
                waiting.push(call);
            }
            continue;
        };
        if let Some(before) = refused.take() {
            assert_eq!((id, &call.body["result"]), (before, &Value::Null));
        } else if !call.body["result"].is_null() {
            refused = Some(id);
            call.refuse(413);
            continue;
        }
        completed += 1;
        call.answer(200, &json!({"status": "ok"}));
    }
    stage.stop.cancel();
    let counts = stage.counts().await;
    drop(waiting);
    counts
}

/// With a growing wait after each it took minutes, and a worker that was stopped gave up most.
#[tokio::test]
async fn many_refused_results_hold_no_worker_up() {
    for stops in [false, true] {
        let begun = Instant::now();
        let counts = refused(20, stops).await;
        assert_eq!((counts.completed, counts.lost), (20, 0), "{stops}");
        // The waits alone were ten times as long; a busy machine is to have the rest.
        assert!(begun.elapsed() < Duration::from_secs(10), "{stops}");
    }
}
