//! A window of the browser: goes to pages, clicks and types as a hand does, waits until the page shows something, and keeps
//! what it loaded and what it complained of.
//!
//! Nothing here waits for a time. A condition in the page is looked at again whenever the page changes, by an observer inside
//! the page; a page that is replaced meanwhile is asked anew.

use std::sync::Arc;

use base64::Engine as _;
use serde_json::{Value, json};

use crate::chromium::{Event, Link};

/// Looks at a condition now, and again at every change of the document, until it holds.
const UNTIL: &str = "new Promise(hold => {
    const holds = () => { try { return Boolean(CONDITION) } catch { return false } };
    if (holds()) return hold(true);
    const watch = new MutationObserver(() => { if (holds()) { watch.disconnect(); hold(true) } });
    watch.observe(document, {subtree: true, childList: true, attributes: true, characterData: true});
})";

/// The first element that a selector and a text (its own, or its label) mean, and the middle of what is seen of it.
const SPOT: &str = "(() => {
    const named = element => [element.getAttribute('aria-label'), element.value, element.textContent]
        .some(text => text && text.includes(TEXT));
    const element = [...document.querySelectorAll(SELECTOR)].find(element => named(element) && element.checkVisibility());
    if (!element) return null;
    element.scrollIntoView({block: 'center', behavior: 'instant'});
    const box = element.getClientRects()[0];
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    const top = document.elementFromPoint(x, y);
    return {x, y, hit: element === top || element.contains(top) || Boolean(top?.closest('label')?.contains(element)),
        top: top?.outerHTML.slice(0, 200)};
})()";

/// What the protocol says of an evaluation whose page was replaced meanwhile.
const REPLACED: [&str; 4] = [
    "Inspected target navigated or closed",
    "Execution context was destroyed.",
    "Cannot find context with specified id",
    "Promise was collected",
];

/// A window.
pub struct Tab {
    link: Arc<Link>,
    session: String,
}

impl Tab {
    pub fn new(link: Arc<Link>, session: String) -> Self {
        let tab = Self { link, session };
        for domain in ["Page", "Runtime", "Log", "Network", "Audits"] {
            tab.call(&format!("{domain}.enable"), &json!({}));
        }
        // Each window thinks that it is the one in front: the focus is where the keys go, and nothing is put to sleep.
        tab.call(
            "Emulation.setFocusEmulationEnabled",
            &json!({"enabled": true}),
        );
        tab.prefer("light");
        tab
    }

    /// One command of the protocol.
    pub fn call(&self, method: &str, parameters: &Value) -> Value {
        self.link
            .call(Some(&self.session), method, parameters)
            .unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Goes to an address and waits until all of the page is loaded.
    pub fn go(&self, address: &str) {
        self.follow(|| {
            let answer = self.call("Page.navigate", &json!({"url": address}));
            assert!(answer.get("errorText").is_none(), "{address}: {answer}");
        });
    }

    /// Does what leads to another page, and waits until all of that is loaded.
    pub fn follow(&self, lead: impl FnOnce()) {
        let mark = self.link.mark();
        lead();
        self.happens(mark, "Page.loadEventFired");
    }

    fn happens(&self, mark: usize, method: &str) -> Event {
        self.link
            .event(&self.session, mark, |event| event.method == method)
            .unwrap_or_else(|| panic!("waited too long for {method}\n{}", self.state()))
    }

    /// The value of an expression in the page; of a promise, what it holds in the end.
    pub fn value(&self, expression: &str) -> Value {
        self.try_value(expression)
            .unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    fn try_value(&self, expression: &str) -> Result<Value, String> {
        let mut answer = self.link.call(
            Some(&self.session),
            "Runtime.evaluate",
            &json!({"expression": expression, "awaitPromise": true, "returnByValue": true}),
        )?;
        match answer.get("exceptionDetails") {
            Some(details) => Err(format!("{details}")),
            None => Ok(answer["result"]["value"].take()),
        }
    }

    /// Whether something holds in the page now.
    pub fn holds(&self, condition: &str) -> bool {
        self.value(&format!("Boolean({condition})")) == true
    }

    /// Waits until something holds in the page, and over pages that replace it.
    pub fn until(&self, condition: &str) {
        let promise = UNTIL.replace("CONDITION", condition);
        loop {
            match self.try_value(&promise) {
                Ok(_) => return,
                Err(error) if REPLACED.iter().any(|one| error.contains(one)) => {}
                Err(error) => panic!(
                    "waited in vain until {condition}: {error}\n{}",
                    self.state()
                ),
            }
        }
    }

    /// Waits until the page's main part has this text.
    pub fn until_text(&self, text: &str) {
        self.until(&format!(
            "document.body.innerText.includes({})",
            json!(text)
        ));
    }

    /// The text that one sees in the page.
    pub fn text(&self) -> String {
        let text = self.value("document.body?.innerText ?? ''");
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Where it is, and what it shows: for a test that fails.
    fn state(&self) -> String {
        let shown =
            self.try_value("location.href + '\\n' + document.body.innerText.slice(0, 3000)");
        format!("{shown:?}\n{:?}", self.complaints(0))
    }

    /// Clicks with the mouse in the middle of the element that a selector and a text (empty: any) mean.
    pub fn click(&self, selector: &str, text: &str) {
        let spot = SPOT
            .replace("SELECTOR", &json!(selector).to_string())
            .replace("TEXT", &json!(text).to_string());
        let spot = self.value(&spot);
        assert!(
            spot.is_object(),
            "no {selector} with {text:?} is to be seen\n{}",
            self.state()
        );
        assert_eq!(
            spot["hit"], true,
            "{selector} with {text:?} is covered: {spot}"
        );
        for kind in ["mousePressed", "mouseReleased"] {
            self.call(
                "Input.dispatchMouseEvent",
                &json!({"type": kind, "x": spot["x"], "y": spot["y"], "button": "left", "clickCount": 1}),
            );
        }
    }

    /// Clicks what leads to another page, and waits until that is loaded.
    pub fn click_through(&self, selector: &str, text: &str) {
        self.follow(|| self.click(selector, text));
    }

    /// Writes into a field, in place of what it holds.
    pub fn fill(&self, selector: &str, text: &str) {
        let found = self.value(&format!(
            "(() => {{ const field = document.querySelector({}); field?.focus(); field?.select(); return Boolean(field) }})()",
            json!(selector)
        ));
        assert_eq!(found, true, "no field {selector}\n{}", self.state());
        self.write(text);
    }

    /// Writes where the focus is.
    pub fn write(&self, text: &str) {
        self.call("Input.insertText", &json!({"text": text}));
    }

    /// Presses a key: Tab, Enter, Space.
    pub fn press(&self, key: &str) {
        let (code, number, text) = match key {
            "Tab" => ("Tab", 9, ""),
            "Enter" => ("Enter", 13, "\r"),
            " " => ("Space", 32, " "),
            other => panic!("what number has the key {other}?"),
        };
        let press = json!({"type": "keyDown", "key": key, "code": code, "windowsVirtualKeyCode": number, "text": text});
        self.call("Input.dispatchKeyEvent", &press);
        let lift =
            json!({"type": "keyUp", "key": key, "code": code, "windowsVirtualKeyCode": number});
        self.call("Input.dispatchKeyEvent", &lift);
    }

    /// Prefers dark colours, or light ones, and that nothing moves: what is looked at is at rest.
    pub fn prefer(&self, scheme: &str) {
        let features = json!([
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]);
        self.call("Emulation.setEmulatedMedia", &json!({"features": features}));
    }

    /// A window of this size, in the pixels of a page.
    pub fn resize(&self, width: u32, height: u32) {
        self.call(
            "Emulation.setDeviceMetricsOverride",
            &json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}),
        );
    }

    /// From the next page on, no script of a page runs.
    pub fn without_scripts(&self) {
        self.call(
            "Emulation.setScriptExecutionDisabled",
            &json!({"value": true}),
        );
    }

    /// A browser whose owner lives elsewhere.
    pub fn live_in(&self, zone: &str) {
        self.call(
            "Emulation.setTimezoneOverride",
            &json!({"timezoneId": zone}),
        );
    }

    /// Nothing is kept from one page to the next: each is loaded whole.
    pub fn without_cache(&self) {
        self.call("Network.setCacheDisabled", &json!({"cacheDisabled": true}));
    }

    /// Where what happens from now on begins.
    pub fn mark(&self) -> usize {
        self.link.mark()
    }

    /// How many bytes came over the line since `mark`, heads included, and for what. What stands in the page itself (a `data:`
    /// address) or in the browser came over no line.
    pub fn transferred(&self, mark: usize) -> (u64, Vec<String>) {
        let (mut sum, mut addresses) = (0, Vec::new());
        let mut inside = Vec::new();
        for Event {
            method, parameters, ..
        } in self.link.events(&self.session, mark)
        {
            let bytes = match method.as_str() {
                "Network.responseReceived" => {
                    let response = &parameters["response"];
                    let address = response["url"].as_str().unwrap_or_default();
                    if address.starts_with("http") {
                        addresses.push(format!("{} {address}", response["status"]));
                        response["encodedDataLength"].as_f64()
                    } else {
                        inside.push(parameters["requestId"].clone());
                        None
                    }
                }
                "Network.dataReceived" if !inside.contains(&parameters["requestId"]) => {
                    parameters["encodedDataLength"].as_f64()
                }
                _ => None,
            };
            sum += bytes.unwrap_or(0.0) as u64;
        }
        (sum, addresses)
    }

    /// What page and browser complained of since `mark`: exceptions, errors and warnings in the console, violations of the
    /// content policy.
    pub fn complaints(&self, mark: usize) -> Vec<String> {
        let events = self.link.events(&self.session, mark);
        let mut complaints: Vec<String> = events.iter().filter_map(complaint).collect();
        complaints.sort();
        complaints.dedup();
        complaints
    }

    /// Dialogs that a page has opened since `mark`.
    pub fn dialogs(&self, mark: usize) -> usize {
        let events = self.link.events(&self.session, mark);
        let opened = events
            .iter()
            .filter(|event| event.method == "Page.javascriptDialogOpening");
        opened.count()
    }

    /// A picture of the window, or, taller, of the page down to a height.
    pub fn picture(&self, height: Option<u32>) -> Vec<u8> {
        // Two frames: the first may have been on its way before the last change.
        let size = self.value(
            "new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(() =>
                drawn([document.documentElement.clientWidth, document.documentElement.scrollHeight, innerHeight]))))",
        );
        let whole = size[1].as_u64().unwrap_or_default();
        let height = height.map_or(size[2].clone(), |height| json!(whole.min(height.into())));
        let answer = self.call(
            "Page.captureScreenshot",
            &json!({"format": "png", "captureBeyondViewport": true,
                "clip": {"x": 0, "y": 0, "width": size[0], "height": height, "scale": 1}}),
        );
        let text = answer["data"].as_str().expect("a picture");
        let engine = base64::engine::general_purpose::STANDARD;
        engine.decode(text).expect("base64")
    }
}

/// What an event complains of, in short; `None` if it does not.
fn complaint(event: &Event) -> Option<String> {
    let parameters = &event.parameters;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match event.method.as_str() {
        "Runtime.exceptionThrown" => Some(parameters["exceptionDetails"].to_string()),
        "Runtime.consoleAPICalled"
            if ["error", "warning", "assert"]
                .iter()
                .any(|kind| parameters["type"] == **kind) =>
        {
            Some(parameters["args"].to_string())
        }
        "Log.entryAdded"
            if ["error", "warning"]
                .iter()
                .any(|level| parameters["entry"]["level"] == **level) =>
        {
            let entry = &parameters["entry"];
            Some(format!(
                "{} ({})",
                text(&entry["text"]),
                text(&entry["url"])
            ))
        }
        "Audits.issueAdded" if parameters["issue"]["code"] == "ContentSecurityPolicyIssue" => {
            let details = &parameters["issue"]["details"]["contentSecurityPolicyIssueDetails"];
            Some(format!(
                "Content Security Policy: {} of {}",
                text(&details["violatedDirective"]),
                text(&details["blockedURL"])
            ))
        }
        _ => None,
    }
}
