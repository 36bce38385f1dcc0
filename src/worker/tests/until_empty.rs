//! `--until-empty`: what is waited for, what is kept meanwhile, and how it ends.

use super::*;

#[tokio::test]
async fn until_empty_ends_when_nothing_is_due_and_all_is_told() {
    let mut stage = Stage::with(|config| {
        config.until_empty = true;
        config.concurrency = 2;
    });
    let claim = stage.daemon.claim().await;
    assert_eq!(claim.body["wait"], 0.0);
    claim.give(&["a"]);
    let handler = stage.begun("a").await;
    // Nothing more now; but what runs may bring something.
    stage.daemon.claim().await.give(&[]);
    handler.answer(200, &json!(null));
    // What is told and asked from here on may come in either order; there is nothing more in any case.
    let answer_rest = async {
        while let Some(call) = stage.daemon.calls.recv().await {
            call.give(&[]);
        }
    };
    tokio::select! {
        counts = &mut stage.worker => assert_eq!(counts.unwrap().unwrap().completed, 1),
        () = answer_rest => panic!("the daemon ended first"),
    }
}

#[tokio::test]
async fn until_empty_without_a_daemon_is_an_error() {
    let stage = Stage::with(|config| {
        config.until_empty = true;
        config.url = Endpoint::Unix("/none/such.sock".into());
    });
    let error = stage.worker.await.unwrap().unwrap_err();
    assert!(
        error.to_string().contains("is workqueued running?"),
        "{error}"
    );
}

/// Gives back the tasks whose payload is `later`, and those alone.
fn deferrer(config: &mut Config) {
    sleeper(config);
    if let HandlerConfig::Exec(exec) = &mut config.handler {
        let script = "case $(cat) in later*) exit 75;; esac";
        exec.command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    }
    config.until_empty = true;
}

/// The daemon would hand it out again before the others, which were never done then.
#[tokio::test]
async fn until_empty_keeps_what_is_given_back_until_the_rest_is_done() {
    let mut stage = Stage::with(deferrer);
    stage.daemon.claim().await.give(&["later"]);
    for id in ["a", "later2", "b"] {
        let claim = stage.daemon.claim().await;
        assert_eq!(claim.body["max"], 1);
        claim.give(&[id]);
    }
    stage.daemon.claim().await.give(&[]);
    let mut released = Vec::new();
    for _ in 0..2 {
        let call = stage.daemon.next().await;
        released.push(call.path.clone());
        call.answer(200, &json!({"status": "ok"}));
    }
    released.sort();
    let path = |id: &str| format!("/api/v1/tasks/{id}/release");
    assert_eq!(released, [path("later"), path("later2")]);
    let counts = stage.counts().await;
    assert_eq!((counts.completed, counts.released, counts.lost), (2, 2, 0));
}

#[tokio::test]
async fn the_lease_of_what_until_empty_keeps_is_extended_and_a_stop_lets_it_go() {
    let mut stage = Stage::with(|config| {
        deferrer(config);
        config.lease = Millis(150);
    });
    stage.daemon.claim().await.give(&["later"]);
    let mut claim = stage.daemon.next().await;
    let mut extended = 0;
    let waiting = loop {
        if claim.path == "/api/v1/claim" {
            break claim;
        }
        claim.answer(200, &json!({"id": "later", "lease_expires": 1.0}));
        claim = stage.daemon.next().await;
    };
    while extended < 2 {
        let call = stage.daemon.next().await;
        assert_eq!(call.path, "/api/v1/tasks/later/extend");
        call.answer(200, &json!({"id": "later", "lease_expires": 1.0}));
        extended += 1;
    }
    stage.stop.cancel();
    drop(waiting);
    let mut call = stage.daemon.next().await;
    while call.path != "/api/v1/tasks/later/release" {
        call.answer(200, &json!({"id": "later", "lease_expires": 1.0}));
        call = stage.daemon.next().await;
    }
    call.answer(200, &json!({"status": "ok"}));
    assert_eq!(stage.counts().await.released, 1);
}

#[tokio::test]
async fn until_empty_says_when_more_is_given_back_than_it_keeps() {
    let mut stage = Stage::with(|config| {
        deferrer(config);
        config.concurrency = 50;
    });
    let (mut given, mut released) = (0, 0);
    let error = loop {
        let call = tokio::select! {
            call = stage.daemon.next() => call,
            ended = &mut stage.worker => break ended.unwrap().unwrap_err(),
        };
        if call.path == "/api/v1/claim" {
            let max = call.body["max"].as_u64().unwrap();
            let ids: Vec<_> = (given..given + max)
                .map(|number| format!("later{number}"))
                .collect();
            given += max;
            call.give(&ids.iter().map(String::as_str).collect::<Vec<_>>());
        } else {
            assert!(call.path.ends_with("/release"), "{}", call.path);
            released += 1;
            call.answer(200, &json!({"status": "ok"}));
        }
    };
    assert!(
        error.to_string().contains("gave 1000 tasks back"),
        "{error}"
    );
    assert_eq!((given, released), (1000, 1000));
}
