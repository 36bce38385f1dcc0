//! Pages that follow what happens: in a second window, while somebody types, and over a restart of the daemon.

use serde_json::json;

use crate::{
    chromium::Browser,
    common::{Daemon, Way},
    scene::at,
    tab::Tab,
};

/// The rows of a table whose text has this, in a page.
fn row(text: &str) -> String {
    format!(
        "[...document.querySelectorAll('#rows tr')].find(row => row.textContent.includes({}))",
        json!(text)
    )
}

/// Waits until a page listens to events.
fn until_live(tab: &Tab) {
    tab.until("document.querySelector('#connection').dataset.state === 'live'");
}

#[test]
fn a_task_is_submitted_in_one_window_and_seen_claimed_and_gone_in_another() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let daemon = Daemon::start(&[]);
    daemon.submit(r#"{"queue":"orders","payload":"first","priority":50}"#);
    let (watching, writing) = (browser.open(), browser.open());
    watching.go(&at(&daemon, "/queues/orders"));
    until_live(&watching);
    // A page that is loaded again would forget this.
    watching.value("window.same = true");

    writing.go(&at(&daemon, "/new"));
    writing.fill("textarea[name=payload]", "a teapot for Ada");
    writing.fill("input[name=queue]", "orders");
    writing.fill("input[name=priority]", "300");
    writing.click_through("#submit button", "Submit");
    writing.until_text("The task was submitted.");

    watching.until(&format!(
        "{}.textContent.includes('ready')",
        row("a teapot for Ada")
    ));
    let claimed = daemon.claim("orders", 1);
    assert_eq!(claimed[0]["payload"], "a teapot for Ada");
    watching.until(&format!(
        "{}.textContent.includes('leased')",
        row("a teapot for Ada")
    ));
    let id = claimed[0]["id"].as_str().expect("an id");
    let token = json!({"token": claimed[0]["token"]});
    let (status, answer) = daemon.post(&format!("/api/v1/tasks/{id}/complete"), &token.to_string());
    assert_eq!(status, 200, "{answer}");
    watching.until(&format!("!{}", row("a teapot for Ada")));
    assert!(
        watching.holds(&row("first")),
        "the other one is still there"
    );
    assert!(watching.holds("window.same"), "nothing was loaded again");
    assert_eq!(watching.complaints(0), [""; 0]);
}

#[test]
fn the_overview_counts_along() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let daemon = Daemon::start(&[]);
    let tab = browser.open();
    tab.go(&at(&daemon, "/"));
    until_live(&tab);
    tab.value("window.same = true");
    assert!(tab.holds("!document.querySelector('#queue-mails')"));
    for number in 0..3 {
        daemon.submit(&json!({"queue": "mails", "payload": number}).to_string());
    }
    tab.until("document.querySelector('#queue-mails .ready dd').textContent === '3'");
    daemon.claim("mails", 2);
    tab.until("document.querySelector('#queue-mails .leased dd').textContent === '2'");
    assert!(tab.holds("window.same"), "nothing was loaded again");
}

#[test]
fn what_is_being_written_stays_while_the_page_changes_around_it() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let daemon = Daemon::start(&[]);
    daemon.submit(r#"{"queue":"orders","payload":"first"}"#);
    let tab = browser.open();
    tab.go(&at(&daemon, "/queues/orders"));
    until_live(&tab);
    tab.fill("textarea[name=payload]", "half a sen");
    daemon.submit(r#"{"queue":"orders","payload":"meanwhile"}"#);
    tab.until(&row("meanwhile"));
    tab.write("tence");
    assert_eq!(
        tab.value("document.activeElement.value"),
        "half a sentence",
        "the text, the focus and the place in it stay"
    );
}

#[test]
fn a_page_says_that_the_daemon_is_away_and_that_it_is_back() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let mut daemon = Daemon::start(&[]);
    daemon.submit(r#"{"queue":"orders","payload":"before"}"#);
    let tab = browser.open();
    tab.go(&at(&daemon, "/queues/orders"));
    until_live(&tab);
    let address = daemon.address.clone();
    daemon.set_way(Way::with(&["--listen", &address]));

    daemon.stop();
    tab.until("/reconnecting/i.test(document.querySelector('#connection').innerText)");
    assert!(
        tab.holds(&row("before")),
        "what was last known is still shown"
    );
    daemon.restart();
    // It comes while the page may not have noticed yet that there is a daemon again: it is shown all the same.
    daemon.submit(r#"{"queue":"orders","payload":"after"}"#);
    tab.until("/connected again/i.test(document.querySelector('#connection').innerText)");
    tab.until(&row("after"));
    daemon.submit(r#"{"queue":"orders","payload":"later"}"#);
    tab.until(&row("later"));
}

#[test]
fn times_are_the_browsers_own() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let daemon = Daemon::start(&[]);
    let tab = browser.open();
    tab.live_in("Asia/Kathmandu");
    tab.go(&at(&daemon, "/new"));
    tab.until("/Asia.Kath?mandu/.test(document.querySelector('.zone').innerText)");
    tab.fill("textarea[name=payload]", "tea");
    tab.click("label:has(> input[value=at])", "");
    tab.value(
        "(() => { const field = document.querySelector('input[name=exectime]'); field.value = '2090-07-01T12:00:00';
        field.dispatchEvent(new Event('input', {bubbles: true})); field.dispatchEvent(new Event('change', {bubbles: true})) })()",
    );
    tab.click_through("#submit button", "Submit");
    let (_, page) = daemon.get("/api/v1/tasks");
    // 12:00 in Nepal, which is 5 h 45 min ahead: 06:15 in UTC.
    assert_eq!(page["tasks"][0]["exectime"], 3_802_572_900_u64, "{page}");
    tab.go(&at(&daemon, "/list"));
    tab.until("/12:00/.test(document.querySelector('#rows time').innerText)");
    assert_eq!(
        tab.value("document.querySelector('#rows time').dateTime"),
        "2090-07-01T06:15:00Z"
    );
}

#[test]
fn a_time_is_in_the_zone_as_it_will_be_on_that_day() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let daemon = Daemon::start(&[]);
    let tab = browser.open();
    tab.live_in("Europe/Berlin");
    // Noon in winter is 11:00 in UTC, noon in summer 10:00, whenever one asks.
    for (local, exectime) in [
        ("2040-01-10T12:00:00", 2_209_806_000_u64),
        ("2040-07-10T12:00:00", 2_225_527_200),
    ] {
        tab.go(&at(&daemon, "/new"));
        tab.until("document.querySelector('.zone').innerText.includes('Berlin')");
        tab.fill("textarea[name=payload]", local);
        tab.click("label:has(> input[value=at])", "");
        tab.value(&format!(
            "(() => {{ const field = document.querySelector('input[name=exectime]'); field.value = '{local}';
            field.dispatchEvent(new Event('input', {{bubbles: true}})); field.dispatchEvent(new Event('change', {{bubbles: true}})) }})()"
        ));
        tab.click_through("#submit button", "Submit");
        let (_, page) = daemon.get("/api/v1/tasks");
        let tasks = page["tasks"].as_array().expect("tasks");
        let task = tasks.iter().find(|task| task["payload"] == local);
        assert_eq!(task.expect("it is there")["exectime"], exectime, "{page}");
    }
}
