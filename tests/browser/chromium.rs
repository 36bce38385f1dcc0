//! A chromium of a test's own, and the pipe on which it is spoken to: Chromium's `DevTools` protocol, JSON texts with a zero byte
//! behind each. A pipe and no port, because then nothing else can speak to it, and because it ends by itself when the pipe
//! closes: also where the test program is killed, no process stays behind.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::Instant,
};

use serde_json::{Value, json};

use crate::{
    common::{self, PATIENCE},
    tab::Tab,
};

/// Chromium takes its commands from descriptor 3 and answers on 4: a shell puts our two pipes there.
const PIPES: &str = r#"exec 3<&0 4>&1 </dev/null >/dev/null && exec "$@""#;

/// Without a screen, without what a browser does for its owner in the background, and without the sandbox, which does not
/// work as root in a container: all that it loads is ours.
const FLAGS: [&str; 20] = [
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--no-zygote",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--disable-breakpad",
    "--disable-features=Translate,OptimizationHints,MediaRouter",
    "--metrics-recording-only",
    "--password-store=basic",
    "--hide-scrollbars",
    "--window-size=1200,900",
];

/// A running chromium with an empty profile.
pub struct Browser {
    child: Child,
    link: Arc<Link>,
    /// Removed when the browser has ended.
    profile: tempfile::TempDir,
}

impl Browser {
    /// Starts one; `None`, with a loud word, where there is none to start.
    pub fn start() -> Option<Self> {
        let Some(program) = ["chromium", "chromium-browser"]
            .into_iter()
            .find(|program| common::package::there_is(program))
        else {
            common::package::skipped("the pages in a browser, because chromium is not here");
            return None;
        };
        let profile = tempfile::tempdir().expect("a directory for its profile");
        let log = std::fs::File::create(profile.path().join("log")).expect("a log");
        let mut child = Command::new("sh")
            .args(["-c", PIPES, "sh", program])
            .args(FLAGS)
            .arg(format!(
                "--user-data-dir={}",
                profile.path().join("profile").display()
            ))
            .arg("about:blank")
            .env("HOME", profile.path())
            .env("XDG_CONFIG_HOME", profile.path())
            .env("XDG_CACHE_HOME", profile.path())
            .env("TZ", "UTC")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("chromium starts");
        let pen = child.stdin.take().expect("the pipe to it");
        let lines = child.stdout.take().expect("the pipe from it");
        let link = Arc::new(Link {
            pen: Mutex::new(Some(pen)),
            heard: Mutex::default(),
            news: Condvar::new(),
        });
        let ear = Arc::clone(&link);
        std::thread::spawn(move || ear.listen(lines));
        let browser = Self {
            child,
            link,
            profile,
        };
        if let Err(error) = browser.link.call(None, "Browser.getVersion", &json!({})) {
            panic!("chromium did not start: {error}\n{}", browser.log());
        }
        Some(browser)
    }

    /// Opens a window of its own.
    pub fn open(&self) -> Tab {
        let target = self.call(
            "Target.createTarget",
            &json!({"url": "about:blank", "newWindow": true}),
        );
        let session = self.call(
            "Target.attachToTarget",
            &json!({"targetId": target["targetId"], "flatten": true}),
        );
        let session = session["sessionId"].as_str().expect("a session").to_owned();
        Tab::new(Arc::clone(&self.link), session)
    }

    fn call(&self, method: &str, parameters: &Value) -> Value {
        self.link
            .call(None, method, parameters)
            .unwrap_or_else(|error| panic!("{method}: {error}\n{}", self.log()))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.profile.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The end of the pipe is the end of the browser; its profile is removed when it no longer writes there.
        self.link.hang_up();
        common::wait(&mut self.child);
    }
}

/// What chromium has said so far.
#[derive(Default)]
struct Heard {
    last_id: u64,
    replies: HashMap<u64, Result<Value, String>>,
    events: Vec<Event>,
    ended: bool,
}

/// Something that happened in a page.
#[derive(Debug, Clone)]
pub struct Event {
    session: String,
    /// The protocol's name of it.
    pub method: String,
    /// What the protocol says with it.
    pub parameters: Value,
}

/// Both directions of the pipe.
pub struct Link {
    pen: Mutex<Option<ChildStdin>>,
    heard: Mutex<Heard>,
    news: Condvar,
}

impl Link {
    /// One command and its answer.
    pub fn call(
        &self,
        session: Option<&str>,
        method: &str,
        parameters: &Value,
    ) -> Result<Value, String> {
        let id = {
            let mut heard = self.lock();
            heard.last_id += 1;
            heard.last_id
        };
        let mut command = json!({"id": id, "method": method, "params": parameters});
        if let Some(session) = session {
            command["sessionId"] = json!(session);
        }
        let mut text = command.to_string().into_bytes();
        text.push(0);
        self.pen
            .lock()
            .expect("nobody panicked")
            .as_mut()
            .ok_or("the browser is gone")?
            .write_all(&text)
            .map_err(|error| error.to_string())?;
        self.wait(|heard| heard.replies.remove(&id))
            .unwrap_or_else(|| Err(format!("no answer in {} s", PATIENCE.as_secs())))
    }

    /// How many events there were: where those begin that come from now on.
    pub fn mark(&self) -> usize {
        self.lock().events.len()
    }

    /// The events of a session since `mark`.
    pub fn events(&self, session: &str, mark: usize) -> Vec<Event> {
        let heard = self.lock();
        let since = heard.events[mark..].iter();
        since
            .filter(|event| event.session == session)
            .cloned()
            .collect()
    }

    /// Waits for an event of a session since `mark`; `None`: it did not come in time.
    pub fn event(
        &self,
        session: &str,
        mark: usize,
        is_it: impl Fn(&Event) -> bool,
    ) -> Option<Event> {
        let mut seen = mark;
        self.wait(|heard| {
            let fresh = &heard.events[seen..];
            let found = fresh
                .iter()
                .find(|event| event.session == session && is_it(event));
            let found = found.cloned();
            seen = heard.events.len();
            found
        })
    }

    fn wait<T>(&self, mut look: impl FnMut(&mut Heard) -> Option<T>) -> Option<T> {
        let begin = Instant::now();
        let mut heard = self.lock();
        loop {
            if let Some(found) = look(&mut heard) {
                return Some(found);
            }
            let left = PATIENCE.checked_sub(begin.elapsed())?;
            if heard.ended {
                return None;
            }
            heard = self
                .news
                .wait_timeout(heard, left)
                .expect("nobody panicked")
                .0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().expect("nobody panicked")
    }

    fn listen(&self, lines: ChildStdout) {
        let mut lines = BufReader::new(lines);
        let mut text = Vec::new();
        while lines.read_until(0, &mut text).is_ok_and(|count| count > 0) {
            text.pop();
            let told: Value = serde_json::from_slice(&text).expect("chromium speaks JSON");
            text.clear();
            self.lock().note(told);
            self.news.notify_all();
        }
        self.lock().ended = true;
        self.news.notify_all();
    }

    fn hang_up(&self) {
        drop(self.pen.lock().expect("nobody panicked").take());
    }
}

impl Heard {
    fn note(&mut self, mut told: Value) {
        if let Some(id) = told["id"].as_u64() {
            let reply = match told.get("error") {
                Some(error) => Err(error["message"].as_str().unwrap_or("no reason").to_owned()),
                None => Ok(told["result"].take()),
            };
            self.replies.insert(id, reply);
        } else {
            self.events.push(Event {
                session: told["sessionId"].as_str().unwrap_or_default().to_owned(),
                method: told["method"].as_str().unwrap_or_default().to_owned(),
                parameters: told["params"].take(),
            });
        }
    }
}
