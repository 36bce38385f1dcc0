//! Clients that keep account of every reply, and the account that is held against what a daemon has after it was killed.
//!
//! What an account holds: an acknowledged submit is there with its payload, an acknowledged completion never comes back,
//! nobody is handed a task that another holds, and a lease that was told outlives the daemon that gave it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Condvar, Mutex, MutexGuard},
    time::Duration,
};

use serde_json::{Value, json};

use super::{Daemon, PATIENCE, is_guarded, mount::say, names};

/// Numbers from a seed (splitmix64).
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

/// The seed of a run: the environment's `WORKQUEUE_SEED`, or one of this moment; said, so that a failure can be tried again.
pub fn seed(of: &str) -> u64 {
    let seed = std::env::var("WORKQUEUE_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.expect("after 1970").as_nanos() as u64
        });
    say(&format!("{of}: WORKQUEUE_SEED={seed}"));
    seed
}

/// A connection that is kept, as real clients keep theirs.
pub struct Line(BufReader<TcpStream>);

impl Line {
    pub fn open(address: &str) -> Option<Self> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.set_nodelay(true).ok()?;
        Some(Self(BufReader::new(stream)))
    }

    /// One request. `None`: no whole answer came.
    pub fn ask(&mut self, method: &str, path: &str, body: &str) -> Option<(u16, Value)> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.get_mut().write_all(request.as_bytes()).ok()?;
        let mut status = None;
        let mut length = 0;
        let mut head = String::new();
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).ok()? == 0 {
                return None;
            }
            head.push_str(&line);
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if status.is_none() {
                status = Some(line.split(' ').nth(1)?.parse().ok()?);
            } else if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        is_guarded(&head);
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).ok()?;
        let value = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).expect("JSON, as it is whole")
        };
        Some((status?, value))
    }
}

/// What clients were told.
#[derive(Default)]
struct Book {
    /// Submits that were acknowledged, with their payloads.
    submitted: BTreeMap<String, Value>,
    /// Completions that were acknowledged, and those that turned out to have been made.
    completed: BTreeSet<String>,
    /// Asked to be completed, without an answer: either is right.
    doubtful: BTreeSet<String>,
    /// Who was told that he holds it, and by which token.
    held: BTreeMap<String, (usize, Value)>,
    /// Answers of any kind.
    replies: u64,
    submits: u64,
}

/// An account that many clients keep.
#[derive(Default)]
pub struct Account {
    book: Mutex<Book>,
    told: Condvar,
}

/// A payload that says of itself whether it is whole.
fn payload(client: usize, number: u64, size: u64) -> Value {
    json!({"client": client, "number": number, "size": size, "rest": "x".repeat(size as usize)})
}

fn is_whole(payload: &Value) -> bool {
    let rest = payload["rest"].as_str().map_or(0, str::len) as u64;
    payload["client"].is_u64() && payload["number"].is_u64() && payload["size"] == json!(rest)
}

impl Account {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("no client has failed")
    }

    /// Answers so far.
    pub fn replies(&self) -> u64 {
        self.book().replies
    }

    /// Completions that were acknowledged.
    pub fn completions(&self) -> usize {
        self.book().completed.len()
    }

    /// Waits until so many answers were given.
    pub fn wait_for(&self, replies: u64) {
        let book = self.book();
        let (book, late) = self
            .told
            .wait_timeout_while(book, PATIENCE, |book| book.replies < replies)
            .expect("no client has failed");
        assert!(!late.timed_out(), "{} of {replies} answers", book.replies);
    }

    fn answered(&self, note: impl FnOnce(&mut Book)) {
        let mut book = self.book();
        book.replies += 1;
        note(&mut book);
        drop(book);
        self.told.notify_all();
    }

    /// A client's life until the daemon says no more: submits, claims, completes, now by a call and now by a claim.
    pub fn client(&self, address: &str, number: usize, seed: u64) {
        let mut chance = Chance(seed ^ (number as u64) << 32);
        let Some(mut line) = Line::open(address) else {
            return;
        };
        // What he held when the daemon was killed is still his.
        let mine: Vec<(String, Value)> = {
            let book = self.book();
            let mine = book.held.iter().filter(|(_, (who, _))| *who == number);
            mine.map(|(id, (_, token))| (id.clone(), token.clone()))
                .collect()
        };
        for (id, token) in mine {
            if chance.below(2) == 0 && self.complete(&mut line, &id, &token).is_none() {
                return;
            }
        }
        while self.turn(&mut line, number, &mut chance).is_some() {}
    }

    fn turn(&self, line: &mut Line, number: usize, chance: &mut Chance) -> Option<()> {
        let count = if chance.below(5) == 0 { 3 } else { 1 };
        let tasks: Vec<Value> = (0..count)
            .map(|_| {
                let serial = {
                    let mut book = self.book();
                    book.submits += 1;
                    book.submits
                };
                let size = if chance.below(20) == 0 { 5000 } else { 80 };
                let size = chance.below(size);
                json!({
                    "payload": payload(number, serial, size),
                    "queue": format!("q{}", chance.below(3)),
                    "priority": chance.below(3),
                })
            })
            .collect();
        let (status, answer) = line.ask("POST", "/api/v1/tasks", &json!(tasks).to_string())?;
        match status {
            201 => self.answered(|book| {
                for (task, asked) in answer.as_array().expect("tasks").iter().zip(&tasks) {
                    let id = task["id"].as_str().expect("an id").to_owned();
                    assert_eq!(task["payload"], asked["payload"]);
                    book.submitted.insert(id, asked["payload"].clone());
                }
            }),
            // A daemon that is stopping may say so.
            503 => return None,
            _ => panic!("{status}: {answer}"),
        }
        let queues =
            json!({"queues": ["q0", "q1", "q2"], "max": 1 + chance.below(4), "lease": 3600});
        let (status, answer) = line.ask("POST", "/api/v1/claim", &queues.to_string())?;
        if status == 503 {
            return None;
        }
        assert_eq!(status, 200, "{answer}");
        let tasks = answer["tasks"].as_array().expect("tasks").clone();
        self.answered(|book| book.claimed(number, &tasks));
        let (by_claim, by_call): (Vec<&Value>, Vec<&Value>) =
            tasks.iter().partition(|_| chance.below(2) == 0);
        for task in by_call {
            self.complete(line, task["id"].as_str().expect("an id"), &task["token"])?;
        }
        self.complete_by_claim(line, &by_claim)
    }

    fn complete(&self, line: &mut Line, id: &str, token: &Value) -> Option<()> {
        let before = self.book().doubtful.replace(id.to_owned());
        let path = format!("/api/v1/tasks/{id}/complete");
        let (status, answer) = line.ask("POST", &path, &json!({"token": token}).to_string())?;
        match status {
            200 => {}
            // It was done when the answer got lost.
            404 if before.is_some() => {}
            503 => return None,
            _ => panic!("{id} is held and can't be completed: {status}: {answer}"),
        }
        self.answered(|book| book.ended(id));
        Some(())
    }

    fn complete_by_claim(&self, line: &mut Line, tasks: &[&Value]) -> Option<()> {
        if tasks.is_empty() {
            return Some(());
        }
        let ids = tasks.iter().filter_map(|task| task["id"].as_str());
        self.book().doubtful.extend(ids.map(str::to_owned));
        let complete: Vec<Value> = tasks
            .iter()
            .map(|task| json!({"id": task["id"], "token": task["token"]}))
            .collect();
        let body = json!({"queues": ["none"], "max": 0, "complete": complete});
        let (status, answer) = line.ask("POST", "/api/v1/claim", &body.to_string())?;
        if status == 503 {
            return None;
        }
        assert_eq!(status, 200, "{answer}");
        let completed = answer["completed"].as_array().expect("outcomes");
        assert_eq!(completed.len(), tasks.len(), "{answer}");
        for one in completed {
            assert!(one.get("problem").is_none_or(Value::is_null), "{answer}");
        }
        self.answered(|book| {
            for task in tasks {
                book.ended(task["id"].as_str().expect("an id"));
            }
        });
        Some(())
    }

    /// Holds what clients were told against what the daemon has; what it turns out to have is in the account from now on.
    pub fn hold(&self, daemon: &Daemon, when: &str) {
        let there = all(daemon);
        let mut book = self.book();
        for (id, payload) in &book.submitted {
            match there.get(id) {
                Some(task) => assert_eq!(&task["payload"], payload, "{when}: {id}"),
                None => assert!(
                    book.completed.contains(id) || book.doubtful.contains(id),
                    "{when}: {id} was acknowledged and is lost"
                ),
            }
        }
        for id in &book.completed {
            assert!(
                !there.contains_key(id),
                "{when}: {id} was completed and is back"
            );
        }
        for id in book.held.keys().filter(|id| !book.doubtful.contains(*id)) {
            assert_eq!(there[id]["state"], "leased", "{when}: {id} is held");
        }
        // What nobody was told may be there, but whole.
        for (id, task) in there
            .iter()
            .filter(|(id, _)| !book.submitted.contains_key(*id))
        {
            assert!(is_whole(&task["payload"]), "{when}: {id}: {task}");
        }
        let new = there
            .iter()
            .map(|(id, task)| (id.clone(), task["payload"].clone()));
        book.submitted.extend(new);
        for id in std::mem::take(&mut book.doubtful) {
            if there.contains_key(&id) {
                continue;
            }
            book.ended(&id);
        }
    }

    /// Holds the directory against the daemon, once nothing is left to be written: a file for each task and no other.
    pub fn hold_files(&self, daemon: &Daemon, when: &str) {
        daemon.until_files_are_written();
        let there: BTreeSet<String> = all(daemon).into_keys().collect();
        let mut files = BTreeSet::new();
        for queue in ["", "q0", "q1", "q2"] {
            for name in names(&daemon.tasks().join(queue)) {
                let id = id_of(&name).unwrap_or_else(|| panic!("{when}: {name} in {queue:?}"));
                assert!(files.insert(id), "{when}: two files of one task: {name}");
                let size = std::fs::metadata(daemon.tasks().join(queue).join(&name));
                assert!(
                    size.expect("its size").size() > 0,
                    "{when}: {name} is empty"
                );
            }
        }
        for id in &self.book().completed {
            assert!(
                !files.contains(id),
                "{when}: {id} has a file and was completed"
            );
        }
        let odd: Vec<_> = files.symmetric_difference(&there).collect();
        assert!(odd.is_empty(), "{when}: files and tasks differ: {odd:?}");
        let temporary = leftovers(&daemon.tasks());
        assert!(temporary.is_empty(), "{when}: {temporary:?}");
    }
}

impl Book {
    fn claimed(&mut self, number: usize, tasks: &[Value]) {
        for task in tasks {
            let id = task["id"].as_str().expect("an id").to_owned();
            assert!(is_whole(&task["payload"]), "{task}");
            assert!(!self.completed.contains(&id), "handed out again: {task}");
            let holder = self.held.insert(id, (number, task["token"].clone()));
            assert!(holder.is_none(), "{holder:?} holds it already: {task}");
        }
    }

    fn ended(&mut self, id: &str) {
        self.held.remove(id);
        self.doubtful.remove(id);
        self.completed.insert(id.to_owned());
    }
}

/// All tasks by id, page by page.
pub fn all(daemon: &Daemon) -> BTreeMap<String, Value> {
    let mut line = Line::open(&daemon.address).expect("it serves");
    let mut there = BTreeMap::new();
    let mut after = String::new();
    loop {
        let path = format!("/api/v1/tasks?limit=1000{after}");
        let (status, page) = line.ask("GET", &path, "").expect("an answer");
        assert_eq!(status, 200, "{page}");
        for task in page["tasks"].as_array().expect("tasks") {
            let id = task["id"].as_str().expect("an id").to_owned();
            let twin = there.insert(id, task.clone());
            assert!(twin.is_none(), "listed twice: {task}");
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return there,
        }
    }
}

/// The id in a canonical name.
pub fn id_of(name: &str) -> Option<String> {
    let id = name.strip_suffix(".json")?.rsplit('_').next()?;
    (id.len() == 36).then(|| id.to_owned())
}

/// The daemon's own temporary files.
fn leftovers(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            found.extend(leftovers(&path));
        } else if name.starts_with(".wq-") {
            found.push(name);
        }
    }
    found
}

/// How long the moment of a crash may be put off at random: it only says where the crash falls.
pub fn a_moment(chance: &mut Chance, within: Duration) {
    let nanos = chance.below(within.as_nanos() as u64);
    std::thread::sleep(Duration::from_nanos(nanos));
}
