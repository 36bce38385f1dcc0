//! The admin surface against a backend and a process that only remember.

use std::sync::{Arc, Mutex};

use super::{Control, router};
use crate::{
    api,
    http::{
        About, Facts,
        tests::{Site, fake::WALL},
    },
    task::WallMillis,
};

#[derive(Default)]
struct FakeControl(Mutex<Vec<String>>);

impl About for FakeControl {
    fn facts(&self) -> Facts {
        Facts {
            version: "1".to_owned(),
            pid: 42,
            started: WallMillis(WALL.0 - 5000),
            data_dir: "/data".to_owned(),
            listen: vec!["127.0.0.1:5000".to_owned()],
            admin_socket: Some("/run/admin.sock".to_owned()),
            durability: "sync".to_owned(),
        }
    }

    fn settings(&self) -> Vec<api::Setting> {
        vec![api::Setting {
            key: "listen".to_owned(),
            value: "127.0.0.1:5000".to_owned(),
            source: "default".to_owned(),
            in_effect: None,
        }]
    }
}

impl Control for FakeControl {
    fn set_log_level(&self, directives: &str) -> Result<(), String> {
        if directives == "loud" {
            return Err("no such level".to_owned());
        }
        self.0.lock().unwrap().push(directives.to_owned());
        Ok(())
    }

    fn reload(&self) -> Result<(), String> {
        Err("line 3: unknown key".to_owned())
    }

    fn shutdown(&self) {
        self.0.lock().unwrap().push("shutdown".to_owned());
    }
}

fn site() -> (Site, Arc<FakeControl>) {
    let mut site = Site::new();
    let control = Arc::new(FakeControl::default());
    site.router = router(site.http.clone(), Arc::clone(&control));
    (site, control)
}

#[tokio::test]
async fn status_joins_the_backends_numbers_and_the_processs_facts() {
    let (site, _) = site();
    site.post("/api/v1/tasks", r#"{"payload":1}"#).await;
    let got = site.get("/status").await;
    let status: api::Status = serde_json::from_str(&got.body).unwrap();
    assert_eq!(
        (status.status.as_str(), status.pid, status.ready),
        ("ok", 42, 1)
    );
    assert!((status.uptime - 5.0).abs() < 1e-6);
    assert_eq!(status.spool_pending, 4);
    site.http.stop.cancel();
    assert_eq!(site.get("/status").await.json()["status"], "stopping");
    assert_eq!(
        site.get("/config").await.json()["settings"][0]["key"],
        "listen"
    );
}

#[tokio::test]
async fn leases_are_listed() {
    let (site, _) = site();
    site.post("/api/v1/tasks", r#"[{"payload":1},{"payload":2}]"#)
        .await;
    site.post("/api/v1/claim", r#"{"worker":"host:1"}"#).await;
    let got = site.get("/leases").await;
    let leases: api::Leases = serde_json::from_str(&got.body).unwrap();
    assert_eq!(leases.leases.len(), 1);
    let lease = &leases.leases[0];
    assert_eq!(
        (lease.kind.as_str(), lease.worker.as_deref(), lease.attempt),
        ("v1", Some("host:1"), 1)
    );
}

#[tokio::test]
async fn a_switch_is_for_one_queue_or_for_all() {
    let (site, _) = site();
    site.send("POST", "/pause", "", "").await;
    site.send("POST", "/resume?queue=a", "", "").await;
    site.post("/drain", r#"{"queue":"b"}"#).await;
    site.post("/undrain", "{}").await;
    assert_eq!(
        site.send("POST", "/retry-dead", "", "").await.json()["count"],
        3
    );
    assert_eq!(
        site.post("/purge", r#"{"state":"ready"}"#).await.json()["count"],
        4
    );
    site.send("POST", "/purge?queue=a", "", "").await;
    site.send("POST", "/rescan", "", "").await;
    site.send("POST", "/checkpoint", "", "").await;
    site.get("/rejected?limit=5").await;
    let asked = site.backend.asked.lock().unwrap().clone();
    assert_eq!(
        asked,
        [
            "pause None true",
            "pause Some(QueueName(\"a\")) false",
            "drain Some(QueueName(\"b\")) true",
            "drain None false",
            "retry_dead None",
            "purge None ready",
            "purge Some(QueueName(\"a\")) dead",
            "rescan",
            "checkpoint",
            "rejected 5",
        ]
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_switch_is_named() {
    let (site, _) = site();
    for (path, body, field) in [
        ("/pause?queue=a", r#"{"queue":"a"}"#, "queue"),
        ("/pause", r#"{"queue":"A"}"#, "queue"),
        ("/pause?q=a", "", "q"),
        ("/pause", r#"{"que":"a"}"#, "que"),
        ("/purge", r#"{"state":"leased"}"#, "state"),
        ("/reload", "", "config"),
        ("/log-level", r#"{"level":"loud"}"#, "level"),
    ] {
        let got = site.post(path, body).await;
        assert_eq!(
            (got.status.as_u16(), &got.json()["field"]),
            (400, &field.into()),
            "{path} {body}"
        );
    }
    assert!(site.backend.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_process_is_asked_to_log_and_to_stop() {
    let (site, control) = site();
    site.post("/log-level", r#"{"level":"debug"}"#).await;
    assert_eq!(site.send("POST", "/shutdown", "", "").await.status, 200);
    assert_eq!(*control.0.lock().unwrap(), ["debug", "shutdown"]);
}

#[tokio::test]
async fn v1_is_here_too_and_the_admin_surface_is_not_on_tcp() {
    let (site, _) = site();
    assert_eq!(site.get("/api/v1/queues").await.status, 200);
    assert_eq!(site.get("/metrics").await.status, 200);
    let tcp = Site::new();
    assert_eq!(tcp.get("/status").await.status, 404);
    assert_eq!(tcp.send("POST", "/shutdown", "", "").await.status, 404);
}

#[test]
fn the_documents_of_the_admin_api_are_the_committed_ones() {
    crate::http::tests::documents::hold("openapi-admin.json", &super::openapi_json());
}
