//! What people do on the pages: each with its script and without any, by mouse and by keyboard.

use std::sync::atomic::{AtomicI32, Ordering};

use serde_json::{Value, json};

use crate::{
    chromium::Browser,
    common::Daemon,
    scene::{at, claim, submit_all},
    tab::Tab,
};

/// A task that is dead of an error.
fn die(daemon: &Daemon, queue: &str, payload: &str, error: &str) -> String {
    /// Each is the most urgent one so far.
    static PRIORITY: AtomicI32 = AtomicI32::new(1_000_000);
    let priority = PRIORITY.fetch_add(1, Ordering::Relaxed);
    let task = json!({"queue": queue, "payload": payload, "max_attempts": 1, "priority": priority});
    let id = daemon.submit(&task.to_string());
    let claimed = claim(daemon, queue, 1, "worker-1:42");
    assert_eq!(claimed[0]["id"], id.as_str());
    let failure = json!({"token": claimed[0]["token"], "error": error});
    let (status, answer) = daemon.post(&format!("/api/v1/tasks/{id}/fail"), &failure.to_string());
    assert_eq!(status, 200, "{answer}");
    id
}

fn state_of(daemon: &Daemon, id: &str) -> Value {
    let (status, task) = daemon.get(&format!("/api/v1/tasks/{id}"));
    if status == 404 {
        return Value::Null;
    }
    task["state"].clone()
}

fn queue(daemon: &Daemon, name: &str) -> Value {
    let (status, queue) = daemon.get(&format!("/api/v1/queues/{name}"));
    assert_eq!(status, 200, "{queue}");
    queue
}

/// Every action of the pages, each from where a user finds it.
fn every_action(daemon: &Daemon, tab: &Tab) {
    submit(daemon, tab);
    a_form_that_is_wrong(daemon, tab);
    one_dead_task(daemon, tab);
    all_the_dead(daemon, tab);
    switches(daemon, tab);
    a_waiting_task(daemon, tab);
    a_task_that_moves(daemon, tab);
    looking_closer(daemon, tab);
    rejected_files(daemon, tab);
}

fn submit(daemon: &Daemon, tab: &Tab) {
    tab.go(&at(daemon, "/"));
    tab.fill("#submit textarea[name=payload]", "{\"tea\": [1, 2]}");
    tab.click("#submit label:has(> input[value=json])", "");
    tab.fill("#submit input[name=queue]", "acts");
    tab.fill("#submit input[name=priority]", "7");
    tab.click("#submit label:has(> input[value=in])", "");
    tab.fill("#submit input[name=in]", "2h");
    tab.click_through("#submit button", "Submit");
    assert!(
        tab.text().contains("The task was submitted."),
        "{}",
        tab.text()
    );
    let (_, page) = daemon.get("/api/v1/tasks?queue=acts");
    let task = &page["tasks"][0];
    assert_eq!(task["payload"], json!({"tea": [1, 2]}), "{task}");
    assert_eq!(task["priority"], 7);
    assert_eq!(task["state"], "scheduled");
}

fn a_form_that_is_wrong(daemon: &Daemon, tab: &Tab) {
    tab.go(&at(daemon, "/new"));
    tab.fill("textarea[name=payload]", "keep this\nand this");
    tab.fill("input[name=queue]", "Not A Queue");
    tab.fill("input[name=priority]", "12");
    tab.click_through("#submit button", "Submit");
    assert!(tab.text().contains("not submitted"), "{}", tab.text());
    for (field, kept) in [
        ("textarea[name=payload]", "keep this\nand this"),
        ("input[name=queue]", "Not A Queue"),
        ("input[name=priority]", "12"),
    ] {
        let value = tab.value(&format!("document.querySelector('{field}').value"));
        assert_eq!(value, kept, "{field}");
    }
    assert_eq!(
        tab.value("[...document.querySelectorAll('[aria-invalid=true]')].map(field => field.name)"),
        json!(["queue"]),
        "the field that is wrong is marked, and no other"
    );
    tab.fill("input[name=queue]", "acts");
    tab.click_through("#submit button", "Submit");
    assert!(
        tab.text().contains("The task was submitted."),
        "{}",
        tab.text()
    );
    let (_, page) = daemon.get("/api/v1/tasks?queue=acts&state=ready");
    assert_eq!(page["tasks"][0]["payload"], "keep this\nand this");
}

fn one_dead_task(daemon: &Daemon, tab: &Tab) {
    let id = die(daemon, "acts", "fragile", "it broke: <b>badly</b>");
    tab.go(&at(daemon, "/queues/acts?state=dead"));
    tab.click_through("#rows a", &id);
    let text = tab.text();
    assert!(text.contains("it broke: <b>badly</b>"), "{text}");
    assert!(
        text.contains("worker-1:42"),
        "its history names who had it: {text}"
    );
    tab.click_through("main button", "Retry");
    assert_eq!(state_of(daemon, &id), "ready");
    assert!(tab.text().contains("ready"), "{}", tab.text());
    let (status, _) = daemon.send("DELETE", &format!("/api/v1/tasks/{id}"), "");
    assert!(status < 300);
}

fn all_the_dead(daemon: &Daemon, tab: &Tab) {
    for number in 0..3 {
        die(daemon, "acts", &format!("dead {number}"), "no");
    }
    tab.go(&at(daemon, "/queues/acts"));
    tab.click_through("main a", "Retry the dead");
    assert!(tab.text().contains("3 "), "the count: {}", tab.text());
    assert_eq!(queue(daemon, "acts")["dead"], 3, "nothing yet");
    tab.click_through("main button", "Retry");
    assert_eq!(queue(daemon, "acts")["dead"], 0);
    assert!(tab.text().contains("3 tasks"), "{}", tab.text());

    for number in 0..2 {
        die(daemon, "acts", &format!("dead again {number}"), "no");
    }
    let all = |queue: &Value| ["ready", "scheduled", "dead"].map(|state| queue[state].as_u64());
    let before = all(&queue(daemon, "acts"));
    tab.go(&at(daemon, "/queues/acts"));
    tab.click_through("main a", "Purge the dead");
    assert!(tab.text().contains("2 "), "the count: {}", tab.text());
    tab.click_through("main button", "Purge");
    assert!(tab.text().contains("2 tasks"), "{}", tab.text());
    let after = all(&queue(daemon, "acts"));
    assert_eq!(
        after,
        [before[0], before[1], Some(0)],
        "the dead and no other"
    );
}

fn switches(daemon: &Daemon, tab: &Tab) {
    tab.go(&at(daemon, "/queues/acts"));
    for (button, mark, switch, on) in [
        ("Pause", "paused", "paused", true),
        ("Resume", "", "paused", false),
        ("Drain", "draining", "draining", true),
        ("Take new tasks again", "", "draining", false),
    ] {
        tab.click_through("main button", button);
        assert_eq!(queue(daemon, "acts")[switch], on, "{button}");
        let marks = tab
            .value("[...document.querySelectorAll('h1 .mark')].map(one => one.textContent).join()");
        assert_eq!(marks, mark, "after {button}");
    }
}

fn a_waiting_task(daemon: &Daemon, tab: &Tab) {
    let id = daemon.submit(r#"{"queue":"acts","payload":"to be moved and cancelled"}"#);
    tab.go(&at(daemon, &format!("/tasks/{id}")));
    assert!(tab.text().contains("to be moved and cancelled"));
    tab.click("main summary", "another place");
    tab.fill("main form input[name=priority]", "321");
    tab.follow(|| tab.press("Enter"));
    assert!(tab.text().contains("321"), "{}", tab.text());
    let (_, task) = daemon.get(&format!("/api/v1/tasks/{id}"));
    assert_eq!(task["priority"], 321, "{task}");
    tab.click_through("main a", "Cancel the task");
    assert_eq!(state_of(daemon, &id), "ready", "asked first");
    tab.click_through("main button", "Cancel the task");
    assert_eq!(state_of(daemon, &id), Value::Null, "it is gone");

    let id = daemon.submit(r#"{"queue":"acts","payload":"to be deleted","priority":999999}"#);
    tab.go(&at(daemon, "/queues/acts"));
    tab.click_through(&format!("#t{id} button, [id='t{id}'] button"), "Delete");
    assert_eq!(state_of(daemon, &id), Value::Null, "it is gone");
}

fn a_task_that_moves(daemon: &Daemon, tab: &Tab) {
    let id = daemon.submit(r#"{"queue":"acts","payload":"goes elsewhere"}"#);
    tab.go(&at(daemon, &format!("/tasks/{id}")));
    tab.click("main summary", "another place");
    tab.fill("main form input[name=queue]", "elsewhere");
    tab.follow(|| tab.press("Enter"));
    let (_, task) = daemon.get(&format!("/api/v1/tasks/{id}"));
    assert_eq!(task["queue"], "elsewhere", "{task}");
    tab.go(&at(daemon, "/queues/elsewhere"));
    tab.click_through("#rows a", &id);
    assert!(tab.text().contains("goes elsewhere"), "{}", tab.text());
}

/// Finds one of many tasks by the beginning of its id, and looks further back in the charts.
fn looking_closer(daemon: &Daemon, tab: &Tab) {
    let id = "b3f0c0de-1111-4222-8333-444455556666";
    let task = json!({"queue": "acts", "payload": "a needle", "id": id, "priority": -5});
    daemon.submit(&task.to_string());
    tab.go(&at(daemon, "/queues/acts"));
    tab.fill("main input[name=id]", "b3f0c0de");
    tab.follow(|| tab.press("Enter"));
    assert_eq!(tab.value("document.querySelectorAll('#rows tr').length"), 1);
    tab.click_through("#rows a", id);
    assert!(tab.text().contains("a needle"), "{}", tab.text());

    tab.go(&at(daemon, "/"));
    for span in ["minute", "day", "hour"] {
        tab.click_through(&format!("a[href='/?span={span}']"), "");
        let current =
            "document.querySelector('a[href^=\"/?span=\"][aria-current]').getAttribute('href')";
        assert_eq!(tab.value(current), format!("/?span={span}"));
        assert!(tab.holds("document.querySelectorAll('main svg').length > 0"));
    }
}

fn rejected_files(daemon: &Daemon, tab: &Tab) {
    for name in ["one.json", "two.json"] {
        daemon.drop_file(name, b"{\"payload\": <script>alert(1)</script>");
    }
    let rejected = || {
        let (_, answer) = daemon.admin("GET", "/rejected", "");
        answer["rejected"].as_array().map_or(0, Vec::len)
    };
    daemon.until_rejected(2);
    tab.go(&at(daemon, "/rejected"));
    let text = tab.text();
    assert!(
        text.contains("one.json") && text.contains("two.json"),
        "{text}"
    );
    assert!(
        text.contains("<script>alert(1)</script>"),
        "its beginning, as text: {text}"
    );
    tab.click_through("main button", "Discard");
    assert_eq!(rejected(), 1);
    // The file that is left is made whole by hand, and tried again.
    let dir = daemon.data().join("rejected");
    let left = ["one.json", "two.json"].map(|name| dir.join(name));
    let left = left
        .iter()
        .find(|path| path.is_file())
        .expect("one is left");
    std::fs::write(left, br#"{"payload": "mended", "queue": "mended"}"#).expect("mend it");
    tab.go(&at(daemon, "/rejected"));
    tab.click_through("main button", "Retry");
    crate::common::until("it is taken in", || {
        (daemon.get("/api/v1/queues/mended").1["ready"] == 1).then_some(())
    });
    assert_eq!(rejected(), 0);
}

#[test]
fn every_action_of_the_pages() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let (daemon, tab) = (Daemon::start(&[]), browser.open());
    every_action(&daemon, &tab);
    assert_eq!(tab.dialogs(0), 0, "pages ask on pages");
}

#[test]
fn every_action_of_the_pages_without_a_script() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let (daemon, tab) = (Daemon::start(&[]), browser.open());
    tab.without_scripts();
    tab.go(&at(&daemon, "/new"));
    assert!(
        tab.text().contains("UTC")
            && tab.holds("document.querySelector('#connection').innerText === ''"),
        "nothing is promised that a script would have to keep: {}",
        tab.text()
    );
    every_action(&daemon, &tab);
}

#[test]
fn a_task_is_submitted_by_keyboard_alone() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let (daemon, tab) = (Daemon::start(&[]), browser.open());
    tab.go(&at(&daemon, "/new"));
    tab.press("Tab");
    assert!(
        tab.holds("document.activeElement.matches('a.skip') && document.activeElement.getBoundingClientRect().top >= 0"),
        "the first stop leads past the navigation, and is to be seen"
    );
    tab.press("Enter");
    let focused = |name: &str| tab.holds(&format!("document.activeElement.name === '{name}'"));
    let to = |name: &str| {
        for _ in 0..20 {
            if focused(name) {
                return;
            }
            tab.press("Tab");
        }
        panic!(
            "no way to {name} by keyboard: {}",
            tab.value("document.activeElement.outerHTML")
        );
    };
    tab.press("Tab");
    assert!(focused("payload"), "the content begins with the form");
    tab.write("by hand");
    to("queue");
    tab.write("typed");
    to("priority");
    tab.write("5");
    tab.follow(|| tab.press("Enter"));
    assert!(
        tab.text().contains("The task was submitted."),
        "{}",
        tab.text()
    );
    let (_, page) = daemon.get("/api/v1/tasks?queue=typed");
    assert_eq!(page["tasks"][0]["payload"], "by hand");
    assert_eq!(page["tasks"][0]["priority"], 5);
}

#[test]
fn a_payload_is_text_and_nothing_else() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let (daemon, tab) = (Daemon::start(&[]), browser.open());
    let run = "document.documentElement.dataset.ran='yes';alert(1)";
    let hostile = [
        format!("<script>{run}</script>"),
        format!("</textarea></pre></table><img src=x onerror=\"{run}\"><svg onload=\"{run}\">"),
        format!("\"><a href=\"javascript:{run}\">here</a>"),
    ];
    let mut addresses = vec![
        "/".to_owned(),
        "/list".to_owned(),
        "/queues/hostile".to_owned(),
        "/workers".to_owned(),
    ];
    for text in &hostile {
        let id = die(&daemon, "hostile", text, text);
        addresses.push(format!("/tasks/{id}"));
        let object = json!({"queue": "hostile", "payload": {text: [text]}});
        addresses.push(format!("/tasks/{}", daemon.submit(&object.to_string())));
    }
    claim(&daemon, "hostile", 1, &hostile[0]);
    for address in &addresses {
        let mark = tab.mark();
        tab.go(&at(&daemon, address));
        assert_eq!(tab.dialogs(mark), 0, "{address}");
        assert!(
            tab.holds("!document.documentElement.dataset.ran"),
            "{address}"
        );
        assert_eq!(
            tab.value("document.querySelectorAll('img, script:not([src]), svg[onload], a[href^=javascript]').length"),
            0,
            "{address}"
        );
        assert_eq!(
            tab.complaints(mark),
            [""; 0],
            "nothing was even tried at {address}"
        );
    }
    let (_, page) = daemon.get("/api/v1/tasks?queue=hostile&state=dead");
    let id = page["tasks"][0]["id"].as_str().expect("an id").to_owned();
    tab.go(&at(&daemon, &format!("/tasks/{id}")));
    assert!(
        tab.text().contains("alert(1)"),
        "it is shown: {}",
        tab.text()
    );
}

#[test]
fn text_from_right_to_left_turns_nothing_around_it() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let (daemon, tab) = (Daemon::start(&[]), browser.open());
    // Hebrew, then a character that turns all that follows where nothing holds it back, then what it would hide.
    let payload = "שלום עולם \u{202e}gnp.exe";
    let id = daemon.submit(&json!({"queue": "rtl", "payload": payload}).to_string());
    daemon.submit(r#"{"queue":"rtl","payload":"plain"}"#);
    tab.go(&at(&daemon, "/queues/rtl"));
    let columns = "[...document.querySelectorAll('#rows tr')].map(row => [...row.cells].map(cell => Math.round(cell.getBoundingClientRect().x)))";
    let columns = tab.value(columns);
    assert_eq!(columns.as_array().expect("rows").len(), 2);
    assert_eq!(
        columns[0], columns[1],
        "the cells stand where they stand in other rows"
    );
    assert!(
        columns[0]
            .as_array()
            .expect("cells")
            .windows(2)
            .all(|two| two[0].as_i64() < two[1].as_i64()),
        "from left to right: {columns}"
    );
    for address in ["/queues/rtl".to_owned(), format!("/tasks/{id}")] {
        tab.go(&at(&daemon, &address));
        let text = tab.text();
        assert!(text.contains("שלום עולם"), "{text}");
        assert!(
            !text.contains('\u{202e}'),
            "the character that turns text is shown, not obeyed: {text:?}"
        );
    }
}

#[test]
fn a_hundred_thousand_tasks_are_paged_through() {
    const COUNT: usize = 100_000;
    let Some(browser) = Browser::start() else {
        return;
    };
    let (daemon, tab) = (Daemon::start(&[]), browser.open());
    for batch in 0..COUNT / 5000 {
        let tasks: Vec<Value> = (0..5000)
            .map(|number| json!({"queue": "deep", "payload": batch * 5000 + number}))
            .collect();
        submit_all(&daemon, &tasks);
    }
    tab.go(&at(&daemon, "/"));
    let shown = tab
        .value("document.querySelector('#queue-deep .ready dd').textContent.replace(/\\D/g, '')");
    assert_eq!(shown, COUNT.to_string());

    // The first pages as a hand turns them.
    let payloads =
        "[...document.querySelectorAll('#rows .payload')].map(cell => Number(cell.innerText))";
    tab.go(&at(&daemon, "/queues/deep"));
    let mut next = 0;
    for _ in 0..3 {
        next = follows(&tab.value(payloads), next);
        tab.click_through("a[rel=next]", "");
    }
    // All of them along the same links; painting a thousand rows a hundred times would tell nothing more.
    let mut address = Some("/queues/deep?limit=1000".to_owned());
    let mut last = String::new();
    next = 0;
    while let Some(from) = address {
        let page = tab.value(&PAGE.replace("FROM", &json!(from).to_string()));
        next = follows(&page["payloads"], next);
        last = from;
        address = page["next"].as_str().map(str::to_owned);
    }
    assert_eq!(next, COUNT as u64, "each of them once, in order");
    tab.go(&at(&daemon, &last));
    follows(&tab.value(payloads), COUNT as u64 - 1000);
    assert!(!tab.holds("document.querySelector('a[rel=next]')"));
    tab.click_through("a[rel=first]", "");
    follows(&tab.value(payloads), 0);
}

/// What is on a page, and where its link to the next one leads.
const PAGE: &str = "(async () => {
    const page = new DOMParser().parseFromString(await (await fetch(FROM)).text(), 'text/html');
    const payloads = [...page.querySelectorAll('#rows .payload')].map(cell => Number(cell.textContent));
    const next = page.querySelector('a[rel=next]')?.getAttribute('href') ?? null;
    return {payloads, next} })()";

/// The payloads of a page are the numbers from `next` on; gives the number after them.
fn follows(page: &Value, next: u64) -> u64 {
    let page = page.as_array().expect("payloads");
    assert!(!page.is_empty(), "a page with nothing on it at {next}");
    for (index, payload) in page.iter().enumerate() {
        assert_eq!(payload.as_u64(), Some(next + index as u64));
    }
    next + page.len() as u64
}
