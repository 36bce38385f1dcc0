//! The daemon and the worker in a really booted systemd: readiness, sockets, watchdog, reload, sandbox, stops and restarts.

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and holds real programs against a real clock"
)]

mod common;

use serde_json::Value;

use common::{
    installed::{DAEMON, answers, api, drop_in, ids, machine, submit, submit_all},
    load,
};

#[test]
fn it_starts_says_so_and_serves() {
    let Some(machine) = machine() else { return };
    machine.sh("systemctl start workqueued");
    for unit in DAEMON.split(' ') {
        assert_eq!(machine.show(unit, "ActiveState"), "active", "{unit}");
    }
    submit(&machine, r#"{"payload":1}"#);
    submit(&machine, r#"{"payload":2,"delay":600}"#);
    machine.until("the status line has the counts", || {
        let text = machine.show("workqueued", "StatusText");
        (text.contains("1 ready, 1 scheduled") && text.contains("files lag")).then_some(())
    });
    let page = machine.sh("curl -sS http://127.0.0.1:5000/healthz");
    assert_eq!(page, "ok");
    machine.sh("systemctl stop workqueued");
    assert_eq!(machine.show("workqueued", "Result"), "success");
}

#[test]
fn a_restart_under_load_refuses_no_connection_and_loses_no_request() {
    let Some(machine) = machine() else { return };
    machine.sh("systemctl start workqueued");
    let (account, ()) = machine.network(|| {
        // Enough that some are asking at any moment; more would only fight with the restarts for the machine.
        load::submit_while(16, "127.0.0.1:5000", |answered| {
            for _ in 0..20 {
                answers(&machine, answered, 64);
                machine.sh("systemctl restart workqueued");
            }
            answers(&machine, answered, 64);
        })
    });
    assert_eq!(account.errors, Vec::<String>::new());
    let there = ids(&machine);
    assert!(account.ids.len() > 20 * 64, "{}", account.ids.len());
    assert_eq!(
        there,
        account.ids.iter().cloned().collect(),
        "what was answered is what is there"
    );
    assert_eq!(there.len(), account.ids.len(), "each once");
    assert_eq!(machine.show("workqueued", "NRestarts"), "0");
}

#[test]
fn the_daemons_sandbox_is_tight() {
    let Some(machine) = machine() else { return };
    let exposure = |unit: &str| -> f64 {
        let text = machine.sh(&format!(
            "systemd-analyze security {unit} --no-pager | tail -n 1"
        ));
        let number = text.split_whitespace().find_map(|word| word.parse().ok());
        number.unwrap_or_else(|| panic!("{text}"))
    };
    let detail = machine.sh("systemd-analyze security workqueued --no-pager | grep '✗'");
    let daemon = exposure("workqueued.service");
    println!("workqueued.service: {daemon}\n{detail}");
    assert!(daemon <= 1.2, "{detail}");
    let detail = machine.sh("systemd-analyze security workqueue-worker --no-pager | grep '✗'");
    let worker = exposure("workqueue-worker.service");
    println!("workqueue-worker.service: {worker}\n{detail}");
    // 0.3 of it for its delegated control group, in which handlers end with all that they started.
    assert!(worker <= 1.4, "{detail}");
    let said = machine.run(
        "cd /usr/lib/systemd/system && systemd-analyze verify --man=no workqueue*.service workqueue*.socket workqueue*.timer 2>&1
         cd ../user && XDG_RUNTIME_DIR=/run systemd-analyze verify --user --man=no workqueue*.service workqueue*.socket 2>&1",
    );
    assert_eq!(String::from_utf8_lossy(&said.stdout), "");
}

#[test]
fn a_stuck_engine_is_restarted_by_the_watchdog_and_nothing_is_lost() {
    let Some(machine) = machine() else { return };
    drop_in(&machine, "workqueued.service", "[Service]\nWatchdogSec=8\n");
    machine.sh("systemctl start workqueued");
    // Idle for longer than the watchdog allows: it is told that all is well though nothing happens.
    let first = machine.main_pid("workqueued");
    machine.sh("sleep 18");
    assert_eq!(machine.main_pid("workqueued"), first);

    let (account, ()) = machine.network(|| {
        load::submit_while(8, "127.0.0.1:5000", |answered| {
            answers(&machine, answered, 100);
            // Both: one alone may stand in its write, and looks like a disk that does not answer.
            stop_threads(first, "engine", || {
                machine.until("the watchdog has had enough", || {
                    // Not "is 1": where the disk is slow under the load, the next one can be found stuck as well.
                    (machine.show("workqueued", "NRestarts") != "0").then_some(())
                });
            });
            answers(&machine, answered, 100);
        })
    });
    assert_ne!(machine.main_pid("workqueued"), first);
    let log = || machine.sh("journalctl -b -u workqueued --no-pager -o cat");
    for text in ["Watchdog timeout", "makes no progress"] {
        machine.until(&format!("{text:?} is in the journal"), || {
            log().contains(text).then_some(())
        });
    }
    // Clients saw their connections end; what they were answered is there.
    let there = ids(&machine);
    let lost: Vec<_> = account
        .ids
        .iter()
        .filter(|id| !there.contains(*id))
        .collect();
    assert_eq!(lost, Vec::<&String>::new());
}

/// Stops all threads of that name of a process as a debugger does while `meanwhile` runs; the process may end in that time.
fn stop_threads(pid: u32, name: &str, meanwhile: impl FnOnce()) {
    use nix::{
        sys::{ptrace, wait},
        unistd::Pid,
    };
    let threads: Vec<Pid> = std::fs::read_dir(format!("/proc/{pid}/task"))
        .expect("its threads")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name)
        })
        .filter_map(|path| Some(Pid::from_raw(path.file_name()?.to_str()?.parse().ok()?)))
        .collect();
    assert_ne!(threads, [], "the threads");
    // Whoever traces is a thread, not a process: one of its own, which reaps what it traced as soon as that ends.
    let (tell, stopped) = std::sync::mpsc::channel();
    let tracer = std::thread::spawn(move || {
        let all = Some(wait::WaitPidFlag::__WALL);
        for thread in &threads {
            ptrace::attach(*thread).expect("attach");
            let status = wait::waitpid(*thread, all).expect("it stops");
            assert!(
                matches!(status, wait::WaitStatus::Stopped(..)),
                "{status:?}"
            );
        }
        tell.send(()).expect("the test waits");
        for thread in threads {
            while !matches!(
                wait::waitpid(thread, all),
                Err(_) | Ok(wait::WaitStatus::Exited(..) | wait::WaitStatus::Signaled(..))
            ) {}
        }
    });
    stopped.recv().expect("they are stopped");
    meanwhile();
    tracer.join().expect("the tracer");
}

#[test]
fn a_reload_changes_what_can_change_and_names_the_rest_and_a_broken_file_changes_nothing() {
    let Some(machine) = machine() else { return };
    machine.sh("systemctl start workqueued");
    let since = machine.sh("date +%s.%N");
    let first = machine.main_pid("workqueued");
    let big = format!(r#"{{"payload":"{}"}}"#, "x".repeat(2000));

    machine.write(
        "/etc/workqueue/workqueued.toml",
        "max_payload = \"1KiB\"\njournal_segment = \"8MiB\"\nlog_level = \"debug\"\n\
         [defaults]\nmax_attempts = 7\n[retention]\ndone = \"1h\"\n",
    );
    machine.sh("systemctl reload workqueued");
    let log = || {
        machine.sh(&format!(
            "journalctl -b -u workqueued --no-pager -o cat --since @{since}"
        ))
    };
    let is_logged = |text: &str| {
        machine.until(&format!("{text:?} is in the journal"), || {
            log().contains(text).then_some(())
        });
    };
    is_logged("a setting takes effect at the next start");
    assert_eq!(api(&machine, "POST", "/api/v1/tasks", &big)["status"], 413);
    let id = submit(&machine, r#"{"payload":1}"#);
    assert_eq!(
        api(&machine, "GET", &format!("/api/v1/tasks/{id}"), "")["max_attempts"],
        7
    );
    // Also a file that is dropped, which never comes by HTTP.
    machine.sh(&format!(
        "echo '{big}' > /root/big.json && mv /root/big.json /var/lib/workqueue/tasks/"
    ));
    machine.until("the file is rejected", || {
        machine
            .is("test -f /var/lib/workqueue/rejected/big.json")
            .then_some(())
    });
    let task = &api(&machine, "POST", "/api/v1/claim", "{}")["tasks"][0];
    let token = task["token"].as_str().expect("a token");
    api(
        &machine,
        "POST",
        &format!("/api/v1/tasks/{id}/complete"),
        &format!(r#"{{"token":"{token}"}}"#),
    );
    machine.until("the task is kept", || {
        machine
            .is("ls /var/lib/workqueue/done/*.json")
            .then_some(())
    });
    let config = machine.sh("workqueuectl config");
    assert!(
        config.contains("1KiB") && !config.contains("8MiB"),
        "{config}"
    );

    // By the signal as well, as a manager of type notify-reload sends it.
    machine.write("/etc/workqueue/workqueued.toml", "max_payload = \"4KiB\"\n");
    machine.sh("systemctl kill --kill-who=main -s HUP workqueued");
    machine.until("the signal was heeded", || {
        (api(&machine, "POST", "/api/v1/tasks", &big)["status"] != 413).then_some(())
    });

    machine.write(
        "/etc/workqueue/workqueued.toml",
        "max_payload = \"9KiB\"\nmax_paylod = 1\n",
    );
    assert!(
        !machine.is("systemctl reload workqueued"),
        "a broken file is told"
    );
    is_logged("nothing has changed");
    is_logged("workqueued.toml:2");
    let config = machine.sh("workqueuectl config");
    assert!(config.contains("4KiB"), "{config}");
    assert_eq!(machine.show("workqueued", "ActiveState"), "active");
    assert_eq!(machine.main_pid("workqueued"), first);
}

#[test]
fn a_failed_start_is_told_with_its_reason_and_numbers() {
    let Some(machine) = machine() else { return };
    drop_in(
        &machine,
        "workqueued.service",
        "[Unit]\nWants=\n[Service]\nRestart=no\nEnvironment=WORKQUEUE_DATA_DIR=/etc/hostname\n",
    );
    assert!(!machine.is("systemctl start workqueued"));
    assert_eq!(machine.show("workqueued", "ExecMainStatus"), "73");
    let text = machine.show("workqueued", "StatusText");
    assert!(text.contains("/etc/hostname"), "{text}");
    drop_in(
        &machine,
        "workqueued.service",
        "[Service]\nRestart=no\nEnvironment=WORKQUEUE_DATA_DIR=/etc/queue\n",
    );
    assert!(!machine.is("systemctl start workqueued"));
    // EROFS: the sandbox.
    assert_eq!(machine.show("workqueued", "StatusErrno"), "30");
}

#[test]
fn the_journal_tells_a_tasks_life_and_explains_it() {
    let Some(machine) = machine() else { return };
    machine.sh("journalctl --update-catalog && systemctl start workqueued");
    let id = submit(
        &machine,
        r#"{"payload":1,"max_attempts":2,"backoff":{"base":0,"max":0}}"#,
    );
    let claim = || {
        let claim = api(
            &machine,
            "POST",
            "/api/v1/claim",
            r#"{"worker":"test:1","wait":10}"#,
        );
        claim["tasks"][0]["token"]
            .as_str()
            .unwrap_or_else(|| panic!("{claim}"))
            .to_owned()
    };
    for _ in 0..2 {
        let token = claim();
        let body = format!(r#"{{"token":"{token}","error":"no such\nthing"}}"#);
        api(&machine, "POST", &format!("/api/v1/tasks/{id}/fail"), &body);
    }
    machine.sh(&format!("workqueuectl retry {id}"));
    let token = claim();
    api(
        &machine,
        "POST",
        &format!("/api/v1/tasks/{id}/complete"),
        &format!(r#"{{"token":"{token}"}}"#),
    );
    let entries: Vec<Value> = machine.until("its end is in the journal", || {
        let text = machine.sh(&format!(
            "journalctl -b -u workqueued TASK_ID={id} -o json --no-pager"
        ));
        let entries: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        (entries.len() >= 8).then_some(entries)
    });
    let lives: Vec<&str> = entries
        .iter()
        .map(|entry| {
            let message = entry["MESSAGE"].as_str().expect("a message");
            message.split(" task_id").next().expect("a line")
        })
        .collect();
    assert_eq!(
        lives,
        [
            "a task was submitted",
            "a task was claimed",
            "an attempt failed",
            "a task was claimed",
            "a task is out of attempts",
            "a task has changed",
            "a task was claimed",
            "a task was completed",
        ]
    );
    let dead = &entries[4];
    assert_eq!(dead["QUEUE"], "default", "{dead}");
    assert_eq!(dead["WORKER"], "test:1", "{dead}");
    assert_eq!(dead["ATTEMPT"], "2", "{dead}");
    assert_eq!(dead["ERROR"], "no such\nthing", "{dead}");
    assert_eq!(dead["PRIORITY"], "4", "{dead}");
    assert_eq!(
        dead["MESSAGE_ID"],
        workqueue::systemd::catalog::TASK_DEAD.id,
        "{dead}"
    );
    assert!(
        entries[7]["DURATION_USEC"]
            .as_str()
            .is_some_and(|text| text.parse::<u64>().is_ok()),
        "{}",
        entries[7]
    );
    let explained = machine.sh(&format!(
        "journalctl -b -x -u workqueued TASK_ID={id} --no-pager"
    ));
    assert!(
        explained.contains(&format!("workqueuectl retry {id}")),
        "{explained}"
    );
}

/// Tokens and certificates come as credentials here; the port is one of TLS by what the socket unit calls it.
#[test]
fn who_changed_what_and_who_was_refused_is_in_the_journal() {
    let Some(machine) = machine() else { return };
    let key = rcgen::KeyPair::generate().expect("a key");
    let names = vec!["localhost".to_owned()];
    let params = rcgen::CertificateParams::new(names).expect("parameters");
    let certificate = params.self_signed(&key).expect("a certificate").pem();
    machine.write("/root/certificate.pem", &certificate);
    machine.write("/root/key.pem", key.serialize_pem());
    let token = machine
        .sh("workqueuectl token new --scope work --file /root/tokens.toml press 2>/dev/null");
    machine.write(
        "/etc/workqueue/workqueued.toml",
        "tokens = \"credential:tokens\"\n\
         [tls]\ncertificate = \"credential:certificate\"\nkey = \"credential:key\"\n\
         [admin.users]\nbackup = [\"read\"]\n",
    );
    drop_in(
        &machine,
        "workqueued.service",
        "[Service]\nLoadCredential=tokens:/root/tokens.toml\n\
         LoadCredential=certificate:/root/certificate.pem\nLoadCredential=key:/root/key.pem\n",
    );
    drop_in(
        &machine,
        "workqueued.socket",
        "[Socket]\nFileDescriptorName=https\n",
    );
    drop_in(
        &machine,
        "workqueued-admin.socket",
        "[Socket]\nSocketMode=0666\n",
    );
    machine.sh("systemctl start workqueued");
    submit(&machine, r#"{"payload":1}"#);

    let status = |arguments: &str| -> String {
        let curl = "curl -sS -o /dev/null -w '%{http_code}'";
        machine.sh(&format!("{curl} {arguments}"))
    };
    let tls = "--cacert /root/certificate.pem https://localhost:5000/api/v1";
    let shows = |token: &str| format!("-H 'Authorization: Bearer {token}' {tls}");
    let token = token.trim();
    assert_eq!(
        status(&format!("--json '{{}}' {}/claim", shows(token))),
        "200"
    );
    assert_eq!(status(&format!("{}/tasks?show=no", shows(token))), "403");
    assert_eq!(status(&format!("{}/tasks", shows("guessed"))), "401");
    let by = |user: &str, rest: &str| {
        let as_user = format!("setpriv --reuid {user} --regid nogroup --clear-groups");
        let curl =
            "curl -sS -o /dev/null -w '%{http_code}' --unix-socket /run/workqueue/admin.sock";
        machine.sh(&format!("{as_user} {curl} {rest}"))
    };
    let queue = "http://localhost/api/v1/queues/default";
    assert_eq!(by("backup", queue), "200");
    assert_eq!(by("backup", &format!("-X POST {queue}/pause")), "403");
    assert_eq!(by("nobody", queue), "403");
    machine.sh("workqueuectl pause default");

    let told = |id: &str, count: usize| -> Vec<Value> {
        machine.until("the journal has it", || {
            let text = machine.sh(&format!(
                "journalctl -b -u workqueued MESSAGE_ID={id} -o json --no-pager"
            ));
            let entries: Vec<Value> = text
                .lines()
                .map(|line| serde_json::from_str(line).expect("JSON"))
                .collect();
            (entries.len() >= count).then_some(entries)
        })
    };
    let refused = told(workqueue::systemd::catalog::CREDENTIAL_REFUSED.id, 4);
    let seen = |entry: &Value| {
        let text = |field: &str| entry[field].as_str().expect("a text").to_owned();
        // The number of a port is anything.
        let peer = text("PEER");
        let peer = peer
            .strip_prefix("127.0.0.1:")
            .map_or(peer.as_str(), |_| "127.0.0.1");
        format!("{} {peer} {} {}", text("BY"), text("METHOD"), text("PATH"))
    };
    let refused: Vec<String> = refused.iter().map(seen).collect();
    assert_eq!(
        refused,
        [
            "press 127.0.0.1 GET /api/v1/tasks",
            "unknown 127.0.0.1 GET /api/v1/tasks",
            "backup uid 34 POST /api/v1/queues/default/pause",
            "unknown uid 65534 - the admin socket",
        ]
    );
    let done = told(workqueue::systemd::catalog::ADMIN_ACTION.id, 1);
    let last = done.last().expect("one");
    assert_eq!(seen(last), "root uid 0 POST /pause");
    let asked = last["ASKED"].as_str().unwrap_or_default();
    assert!(asked.contains("default"), "{last}");
    assert_eq!(last["STATUS"], "200", "{last}");
    assert!(!machine.sh("journalctl -b --no-pager").contains(token));
}

#[test]
fn under_another_supervisor_lines_are_json_and_a_flood_is_counted_not_waited_for() {
    let Some(machine) = machine() else { return };
    drop_in(
        &machine,
        "workqueued.service",
        "[Service]\nEnvironment=WORKQUEUE_LOG_FORMAT=json\nStandardError=file:/var/lib/workqueue/log.json\n",
    );
    machine.sh("systemctl start workqueued");
    submit_all(&machine, (0..2000).map(|number| number.to_string()));
    let metrics = machine.sh("curl -sS http://127.0.0.1:5000/metrics");
    let count = |name: &str| -> u64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.trim().parse().ok())
            .unwrap_or_else(|| panic!("{name}: {metrics}"))
    };
    assert!(count("workqueue_log_events_passed_over_total ") > 0);
    assert_eq!(count("workqueue_log_lines_dropped_total "), 0);
    machine.sh("systemctl stop workqueued.socket workqueued-admin.socket workqueued");
    let log = machine.read("/var/lib/workqueue/log.json");
    let entries: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    assert!(
        entries
            .iter()
            .any(|entry| entry["message"] == "events were passed over"),
        "{log}"
    );
    assert!(
        entries
            .iter()
            .any(|entry| entry["message"] == "workqueued has ended"),
        "the last lines are written before the end: {log}"
    );
}
