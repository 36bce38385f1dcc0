//! A daemon that is there, and connections to it that are dead or closed by one half: what a firewall leaves that forgot them, and what
//! a worker leaves that stops.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;

/// What lies between a worker and its daemon.
struct Between {
    address: SocketAddr,
    /// Cancelled, the connections that there are swallow what they are given.
    dead: CancellationToken,
}

impl Between {
    async fn to(daemon: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let dead = CancellationToken::new();
        let die = dead.clone();
        tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut far = TcpStream::connect(daemon).await.unwrap();
                // Those that come later live.
                let die = (!die.is_cancelled()).then(|| die.clone());
                tokio::spawn(async move {
                    let died = async {
                        match die {
                            Some(die) => die.cancelled().await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        biased;
                        () = died => {}
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
                    }
                    // Neither end is told, and what comes is read.
                    tokio::io::copy(&mut near, &mut tokio::io::sink())
                        .await
                        .unwrap_or_default();
                    drop(far);
                });
            }
        });
        Self { address, dead }
    }
}

/// A stage with something between.
async fn apart(change: impl FnOnce(&mut Config)) -> (Stage, Between) {
    let daemon = Server::start();
    let between = Between::to(daemon.address).await;
    let address = between.address;
    let mut stage = Stage::with(|config| {
        change(config);
        config.url = Endpoint::Http(format!("http://{address}"));
    });
    stage.daemon = daemon;
    (stage, between)
}

/// A worker whose handler of the task `a` ended with a status when its connection to the daemon had just died.
async fn ended_on_a_dead_connection(change: impl FnOnce(&mut Config), status: u16) -> Stage {
    let (mut stage, between) = apart(change).await;
    stage.daemon.claim().await.give(&["a"]);
    let handler = stage.begun("a").await;
    between.dead.cancel();
    handler.answer(status, &json!(null));
    stage
}

impl Stage {
    /// The next request that is no extension; those are good, and counted.
    async fn next_but_extensions(&mut self) -> (Call, usize) {
        let mut extensions = 0;
        loop {
            let call = self.daemon.next().await;
            if !call.path.ends_with("/extend") {
                return (call, extensions);
            }
            extensions += 1;
            call.extend();
        }
    }
}

#[tokio::test]
async fn a_claim_that_carries_a_completion_does_not_wait_and_the_next_one_does() {
    let mut stage = Stage::with(|_| {});
    stage.daemon.claim().await.give(&["a"]);
    stage.begun("a").await.answer(200, &json!(null));
    let carrying = stage.daemon.claim().await;
    assert_eq!(carrying.completes(), ["a"]);
    assert_eq!(
        (&carrying.body["max"], &carrying.body["wait"]),
        (&json!(1), &json!(0.0))
    );
    carrying.give(&[]);
    let waiting = stage.daemon.claim().await;
    assert_eq!(
        (waiting.completes().len(), &waiting.body["wait"]),
        (0, &json!(30.0))
    );
    stage.stop.cancel();
    // It knew of its completion before: nothing is told again.
    assert_eq!(stage.counts().await.completed, 1);
}

/// Else the task is done twice, with a daemon that can be reached all the time.
#[tokio::test]
async fn a_completion_on_a_dead_connection_goes_over_another_within_its_lease() {
    let begun = Instant::now();
    let mut stage =
        ended_on_a_dead_connection(|config| config.lease = Millis::from_secs(6), 200).await;
    let (claim, _) = stage.next_but_extensions().await;
    assert_eq!(claim.completes(), ["a"]);
    // It was told in half of the time at best; a busy machine is to have the rest.
    assert!(begun.elapsed() < Duration::from_secs(20));
    // The daemon had it already, and only its answer did not come.
    let completed = json!([{"id": "a", "problem": problem(404)}]);
    claim.answer(200, &json!({"tasks": [], "completed": completed}));
    stage.daemon.claim().await;
    stage.stop.cancel();
    let counts = stage.counts().await;
    assert_eq!((counts.completed, counts.lost), (1, 0));
}

#[tokio::test]
async fn the_lease_of_a_completion_that_is_kept_is_extended() {
    let mut stage = Stage::with(|config| config.lease = Millis::from_secs(3));
    stage.daemon.claim().await.give(&["a"]);
    stage.begun("a").await.answer(200, &json!(null));
    let mut extended = 0;
    while extended < 2 {
        let (claim, extensions) = stage.next_but_extensions().await;
        assert_eq!(claim.completes(), ["a"]);
        claim.refuse(503);
        extended += extensions;
    }
    let (claim, _) = stage.next_but_extensions().await;
    claim.give(&[]);
    // With it the holding ends.
    let waiting = stage.next_but_extensions().await.0;
    assert!(waiting.completes().is_empty());
    stage.stop.cancel();
    assert_eq!(stage.counts().await.completed, 1);
}

/// Else it is done twice: what had no answer before is waited for longer than a lease lasts.
#[tokio::test]
async fn the_lease_of_a_completion_that_waits_behind_a_slow_report_is_extended() {
    let mut stage = Stage::with(|config| {
        config.concurrency = 3;
        config.lease = Millis(600);
    });
    stage.daemon.claim().await.give(&["a", "b"]);
    let (one, two) = (stage.site.next().await, stage.site.next().await);
    let waiting = stage.next_but_extensions().await.0;
    assert!(waiting.completes().is_empty());
    let second = two.body.clone();
    one.answer(200, &json!(null));
    let first_report = stage.next_but_extensions().await.0;
    let slow_report = stage.next_but_extensions().await.0;
    assert_eq!(first_report.completes(), slow_report.completes());
    // The daemon answers, but not that.
    waiting.give(&[]);
    let waiting = stage.next_but_extensions().await.0;
    assert!(waiting.completes().is_empty());
    two.answer(200, &json!(null));
    let path = format!("/api/v1/tasks/{}/extend", second.as_str().unwrap());
    let mut extensions = 0;
    loop {
        let call = stage.daemon.next().await;
        if call.path == "/api/v1/claim" {
            break;
        }
        extensions += usize::from(call.path == path);
        call.extend();
    }
    // One may have been under way when the handler ended.
    assert!(extensions > 2, "{extensions}");
}

#[tokio::test]
async fn a_failure_on_a_dead_connection_is_told_over_another_while_its_lease_is_held() {
    let mut stage =
        ended_on_a_dead_connection(|config| config.lease = Millis::from_secs(3), 500).await;
    let (call, _) = stage.next_but_extensions().await;
    assert_eq!(call.path, "/api/v1/tasks/a/fail");
    // It was taken, and only the answer was lost.
    call.refuse(409);
    let (claim, _) = stage.next_but_extensions().await;
    assert!(claim.completes().is_empty());
    stage.stop.cancel();
    assert_eq!(stage.counts().await.failed, 1);
}

/// With the default lease an answer may take 20 s; after a stop there are five.
#[tokio::test]
async fn what_ends_after_a_stop_is_told_over_another_connection_when_one_is_dead() {
    for (status, path) in [(200, "/api/v1/claim"), (500, "/api/v1/tasks/a/fail")] {
        let (mut stage, between) = apart(|_| {}).await;
        stage.daemon.claim().await.give(&["a"]);
        let handler = stage.begun("a").await;
        between.dead.cancel();
        stage.stop.cancel();
        handler.answer(status, &json!(null));
        let call = stage.daemon.next().await;
        assert_eq!(call.path, path);
        if status == 200 {
            assert_eq!(call.completes(), ["a"]);
            call.give(&[]);
        } else {
            call.answer(200, &json!({"id": "a"}));
        }
        let counts = stage.counts().await;
        assert_eq!(counts.completed + counts.failed, 1);
        assert_eq!(counts.lost, 0);
    }
}

/// One request as it stands on the wire.
async fn request(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if body.len() == length.map_or(0, |length| length.parse().unwrap()) {
                return text;
            }
        }
        assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0, "{text}");
    }
}

fn response(body: &Value) -> String {
    let body = body.to_string();
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

/// Else it is leased to nobody until its lease ends, and dead without having run where it has one attempt.
#[tokio::test]
async fn a_task_that_is_handed_out_at_the_moment_of_a_stop_is_given_back() {
    let daemon = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", daemon.local_addr().unwrap());
    let stage = Stage::with(|config| config.url = Endpoint::Http(url));
    let (mut waiting, _) = daemon.accept().await.unwrap();
    assert!(
        request(&mut waiting)
            .await
            .starts_with("POST /api/v1/claim ")
    );
    stage.stop.cancel();
    // The claim is withdrawn when the worker sends no more, and a daemon that has answered it before does not know.
    assert_eq!(waiting.read(&mut [0]).await.unwrap(), 0);
    let answer = json!({"tasks": [claimed("a")], "completed": []});
    waiting
        .write_all(response(&answer).as_bytes())
        .await
        .unwrap();
    drop(waiting);
    // Should it come too late, the worker ends without a word.
    let next = tokio::time::timeout(Duration::from_secs(30), daemon.accept()).await;
    let (mut next, _) = next.expect("it is released").unwrap();
    let release = request(&mut next).await;
    assert!(
        release.starts_with("POST /api/v1/tasks/a/release "),
        "{release}"
    );
    let done = response(&json!({"status": "ok"}));
    next.write_all(done.as_bytes()).await.unwrap();
    assert_eq!(stage.counts().await.released, 1);
}

#[tokio::test]
async fn a_claim_on_a_dead_connection_keeps_no_worker_from_stopping() {
    let daemon = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", daemon.local_addr().unwrap());
    let stage = Stage::with(|config| config.url = Endpoint::Http(url));
    let (mut waiting, _) = daemon.accept().await.unwrap();
    assert!(
        request(&mut waiting)
            .await
            .starts_with("POST /api/v1/claim ")
    );
    stage.stop.cancel();
    assert_eq!(stage.counts().await, Counts::default());
}
