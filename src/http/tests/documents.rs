//! Health, metrics, and the API's description.

use super::Site;
use crate::{backend::Fault, http::openapi_json};

#[tokio::test]
async fn health_tells_of_a_fault_and_readiness_of_a_stop() {
    let site = Site::new();
    assert_eq!(site.get("/healthz").await.body, "ok\n");
    assert_eq!(site.get("/readyz").await.status, 200);
    site.http.stop.cancel();
    assert_eq!(site.get("/healthz").await.status, 200);
    assert_eq!(site.get("/readyz").await.status, 503);
    *site.backend.fault.lock().unwrap() = Some(Fault("fsync failed".into()));
    let got = site.get("/healthz").await;
    assert_eq!((got.status.as_u16(), &*got.body), (503, "fsync failed\n"));
}

#[tokio::test]
async fn metrics_have_help_and_absolute_values() {
    let site = Site::new();
    site.post("/api/v1/tasks", r#"{"payload":1}"#).await;
    for _ in 0..2 {
        let got = site.get("/metrics").await;
        for line in [
            "# HELP workqueue_tasks Tasks by queue and state.",
            "# TYPE workqueue_submitted_total counter",
            "workqueue_tasks{queue=\"default\",state=\"ready\"} 1",
            "workqueue_submitted_total{queue=\"default\"} 3",
            "workqueue_oldest_due_age_seconds{queue=\"default\"} 90",
            "workqueue_spool_lag_seconds 1.5",
            "workqueue_spool_pending_files 4",
            "workqueue_journal_bytes 4096",
            "workqueue_journal_syncs_total 5",
            "workqueue_journal_records_total 6",
            "workqueue_rejected_files_total 7",
            "workqueue_waiting_claims 2",
            "workqueue_disk_free_bytes 1073741824",
            "workqueue_disk_size_bytes 4294967296",
            "workqueue_checkpoint_age_seconds 2.5",
            "workqueue_attempts_total{queue=\"default\",outcome=\"completed\"} 2",
            "workqueue_queue_unasked_seconds{queue=\"default\"} 1",
            "workqueue_task_wait_seconds_bucket{le=\"0.005\"} 1",
            "workqueue_task_wait_seconds_count 2",
            "workqueue_task_run_seconds_sum 2",
            "workqueue_journal_sync_seconds_bucket{le=\"0.0001\"} 1",
            "workqueue_journal_sync_seconds_count 3",
            concat!(
                "workqueue_build_info{version=\"",
                env!("CARGO_PKG_VERSION"),
                "\"} 1"
            ),
        ] {
            assert!(
                got.body.lines().any(|one| one == line),
                "{line}\nin\n{}",
                got.body
            );
        }
        assert!(got.body.contains("process_resident_memory_bytes"));
        assert!(got.body.contains("process_start_time_seconds"));
    }
}

/// Holds a description against its committed copy, or writes that.
pub(crate) fn hold(name: &str, made: &str) {
    let path = format!("{}/packaging/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        made == committed,
        "run the test with UPDATE=1 and commit {path}"
    );
}

#[tokio::test]
async fn the_description_is_the_committed_one() {
    hold("openapi.json", &openapi_json());
    let got = Site::new().get("/api/openapi.json").await;
    assert_eq!(got.json()["openapi"], "3.1.0");
    assert_eq!(got.body, openapi_json());
}

#[tokio::test]
async fn every_error_that_is_described_has_a_document() {
    let document: serde_json::Value = serde_json::from_str(&openapi_json()).unwrap();
    for (path, entry) in document["paths"].as_object().unwrap() {
        for (verb, operation) in entry.as_object().unwrap() {
            for (status, response) in operation["responses"].as_object().unwrap() {
                if status.starts_with(['4', '5']) && path.starts_with("/api/") {
                    let schema = &response["content"]["application/problem+json"]["schema"]["$ref"];
                    let guarded = matches!(status.as_str(), "401" | "403" | "421");
                    let wanted = match path.as_str() {
                        "/api/next" | "/api/complete" if !guarded => "OriginalProblem",
                        _ => "Problem",
                    };
                    assert_eq!(
                        *schema,
                        format!("#/components/schemas/{wanted}"),
                        "{verb} {path} {status}"
                    );
                }
            }
        }
    }
}
