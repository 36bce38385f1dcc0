//! [`fuzz`]: runs one target, from seeds to mutated inputs, and holds each to its bounds.
//!
//! Knows nothing of what an input means.

use std::{
    any::Any,
    collections::HashSet,
    env, fs,
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    process,
    sync::{
        Arc, Mutex, Once, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    MEMORY,
    mutate::{Chance, Mutator},
};

/// The longest that one input may take: a thousand times what the slowest does in a debug build on a busy machine. One that
/// takes twice as long is found for certain.
pub(crate) const LONGEST: Duration = Duration::from_secs(10);

/// Into how many shares the hours of a long run go: the tests that call [`fuzz`].
const SHARES: f64 = 11.0;

/// How often an input may be handled until it takes no more memory than is allowed.
const TRIES: u32 = 3;

/// How many inputs become seeds because of how they were answered.
const MOST_FOUND: usize = 2000;

/// What a target is called and held to.
pub(crate) struct Target {
    /// The name of its corpus.
    pub(crate) name: &'static str,
    /// Inputs made of one seed.
    pub(crate) inputs: u64,
    /// Bytes of memory that each byte of an input may take, at the peak.
    pub(crate) per_byte: usize,
    /// Bytes of memory besides.
    pub(crate) besides: usize,
    /// The longest input that is made, in bytes.
    pub(crate) longest: usize,
}

/// What is fuzzed.
pub(crate) trait Subject {
    /// What to begin with.
    fn seeds(&self) -> Vec<Vec<u8>>;
    /// A new input, made of `seed` and perhaps of others in the pool.
    fn mutate(&self, mutator: &mut Mutator, seed: &[u8], pool: &[Vec<u8>]) -> Vec<u8>;
    /// Something that is not to be measured, before the input of this number.
    fn prepare(&mut self, _number: u64) {}
    /// Handles an input, and says how it was answered: two that took the same way say the same. Panics if a property is
    /// broken.
    fn handle(&mut self, input: &[u8]) -> String;
    /// After the last input.
    fn finish(&mut self) {}
}

/// One target at a time: memory is counted for the whole program.
static ALONE: Mutex<()> = Mutex::new(());
/// Whether an input is being handled: a panic is noted then, and told later.
static HANDLING: AtomicBool = AtomicBool::new(false);
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if HANDLING.load(Ordering::Relaxed) {
                let mut panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
                panics.push(info.to_string());
            } else {
                usual(info);
            }
        }));
    });
}

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    env::var(name).ok()?.parse().ok()
}

/// Runs a target as the environment says.
pub(crate) fn fuzz<S: Subject>(target: &Target, subject: S) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // Gone before another's turn comes, with its threads and its memory.
    let mut subject = subject;
    note_panics();
    let watch = Watch::start(target.name);
    let mut run = Run {
        target,
        subject: &mut subject,
        watch,
        at_hand: AtHand::open(target.name),
        most: 0,
        most_per_byte: 0,
        told: HashSet::new(),
    };
    if let Some(path) = env::var_os("WORKQUEUE_INPUT") {
        let input = fs::read(&path).expect("the input is there");
        println!("{}: {}", target.name, run.one(&input, 0, 0));
        return;
    }
    let end = setting::<f64>("WORKQUEUE_HOURS")
        .map(|hours| Instant::now() + Duration::from_secs_f64(hours * 3600.0 / SHARES));
    let begun = Instant::now();
    let mut inputs = 0;
    let mut seed = first_seed(end.is_some());
    loop {
        inputs += run.batch(seed);
        if end.is_none_or(|end| Instant::now() >= end) {
            break;
        }
        seed = seed.wrapping_add(1);
    }
    run.subject.finish();
    println!(
        "{}: {inputs} inputs in {:.1} s, {} answers, at most {} KiB, at most {} bytes for one besides {} KiB",
        target.name,
        begun.elapsed().as_secs_f64(),
        run.told.len(),
        run.most >> 10,
        run.most_per_byte,
        target.besides >> 10,
    );
}

/// A long run begins anywhere, one of the tests always in the same place.
fn first_seed(is_long: bool) -> u64 {
    let given = setting("WORKQUEUE_SEED").or_else(|| setting("WORKQUEUE_FIRST_SEED"));
    given.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        // Six digits that can be typed again.
        if is_long {
            u64::from(now.expect("after 1970").subsec_nanos()) % 1_000_000
        } else {
            0
        }
    })
}

struct Run<'a> {
    target: &'a Target,
    subject: &'a mut dyn Subject,
    watch: Watch,
    at_hand: AtHand,
    /// The most memory that an input took, and the most for each byte of one, besides what the target allows.
    most: usize,
    most_per_byte: usize,
    /// In how many ways inputs were answered.
    told: HashSet<String>,
}

impl Run<'_> {
    /// All inputs of one seed; gives how many they were.
    fn batch(&mut self, seed: u64) -> u64 {
        let mut pool = self.subject.seeds();
        assert!(!pool.is_empty(), "{}: a corpus", self.target.name);
        let committed = pool.len();
        let mut told = HashSet::new();
        for (number, input) in pool.iter().enumerate() {
            told.insert(self.one(input, seed, number as u64));
        }
        let mut mutator = Mutator::new(Chance::of(seed, self.target.name), self.target.longest);
        for number in 0..self.target.inputs {
            // What was found lately is as good as all that was committed.
            let from = if mutator.chance.below(3) == 0 {
                0..pool.len()
            } else {
                0..committed
            };
            let picked = from.start + mutator.chance.below(from.len() as u64) as usize;
            let input = self.subject.mutate(&mut mutator, &pool[picked], &pool);
            let answer = self.one(&input, seed, number + committed as u64);
            if told.insert(answer) && pool.len() < committed + MOST_FOUND {
                pool.push(input);
            }
        }
        self.told.extend(told);
        committed as u64 + self.target.inputs
    }

    /// Handles one input, and fails the test if it broke a bound or a property.
    fn one(&mut self, input: &[u8], seed: u64, number: u64) -> String {
        self.at_hand.note(input);
        self.subject.prepare(number);
        let allowed = input.len() * self.target.per_byte + self.target.besides;
        // Other threads (the harness, an engine that writes its files) take memory now and then, this input each time.
        for _ in 1..TRIES {
            let (answer, took) = self.handled(input, seed);
            if took <= allowed {
                return answer;
            }
        }
        let (answer, took) = self.handled(input, seed);
        if took > allowed {
            let len = input.len();
            let text = format!("{took} bytes of memory for {len} of input; {allowed} are allowed");
            self.fail(input, seed, &text);
        }
        answer
    }

    /// Handles one input. Gives its answer, and the memory that was taken meanwhile.
    fn handled(&mut self, input: &[u8], seed: u64) -> (String, usize) {
        HANDLING.store(true, Ordering::Relaxed);
        self.watch.begin();
        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        let answer = panic::catch_unwind(AssertUnwindSafe(|| self.subject.handle(input)));
        let took = MEMORY.peak_usage().saturating_sub(before);
        self.watch.end();
        HANDLING.store(false, Ordering::Relaxed);
        self.most = self.most.max(took);
        let beyond = took.saturating_sub(self.target.besides);
        self.most_per_byte = self.most_per_byte.max(beyond.div_ceil(input.len().max(1)));
        let panics = std::mem::take(&mut *PANICS.lock().unwrap_or_else(PoisonError::into_inner));
        match answer {
            Ok(_) if !panics.is_empty() => self.fail(input, seed, &panics.join("\n")),
            Ok(answer) => (shape(&answer), took),
            Err(panic) => {
                let text = format!("{}\n{}", panics.join("\n"), words(&*panic));
                self.fail(input, seed, &text)
            }
        }
    }

    fn fail(&self, input: &[u8], seed: u64, what: &str) -> ! {
        let name = self.target.name;
        let path = directory().join(format!("{name}-{seed}"));
        fs::write(&path, input).expect("the input is kept");
        let start = String::from_utf8_lossy(&input[..input.len().min(2000)]).into_owned();
        panic!(
            "\n{name}, seed {seed}: {what}\n\nThe input, {} bytes: {start:?}\n\n\
             It alone: WORKQUEUE_INPUT={} cargo test --test fuzz {name}\n\
             All: WORKQUEUE_SEED={seed} cargo test --test fuzz {name}\n\
             When it is mended: tests/fuzz/corpus/{name}\n",
            input.len(),
            path.display(),
        );
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or_default().to_owned()
}

/// An answer without its numbers and what it quotes, so that two of a kind are the same.
fn shape(answer: &str) -> String {
    let mut kept = String::new();
    let mut quoted = false;
    for letter in answer.chars().take(400) {
        if matches!(letter, '"' | '`') {
            quoted = !quoted;
        } else if letter.is_ascii_digit() {
            if !kept.ends_with('0') {
                kept.push('0');
            }
        } else if !quoted {
            kept.push(letter);
        }
    }
    kept
}

/// Where inputs are kept.
fn directory() -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("fuzz");
    fs::create_dir_all(&path).expect("a directory for inputs");
    path
}

/// The input that is being handled, in a file: what it does may end this program.
struct AtHand {
    path: PathBuf,
    file: fs::File,
}

impl AtHand {
    fn open(name: &str) -> Self {
        let path = directory().join(format!("{name}-at-hand-{}", process::id()));
        let file = fs::File::create(&path).expect("a file for the input at hand");
        Self { path, file }
    }

    fn note(&self, input: &[u8]) {
        let noted = self
            .file
            .write_all_at(input, 0)
            .and_then(|()| self.file.set_len(input.len() as u64));
        noted.expect("the input at hand is noted");
    }
}

impl Drop for AtHand {
    fn drop(&mut self) {
        fs::remove_file(&self.path).expect("it was made here");
    }
}

/// Ends the program when an input takes too long.
struct Watch {
    /// Odd while an input is handled.
    step: Arc<AtomicU64>,
    end: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Watch {
    fn start(name: &'static str) -> Self {
        let step = Arc::new(AtomicU64::new(0));
        let (end, ended) = mpsc::channel();
        let seen = Arc::clone(&step);
        let thread = thread::spawn(move || {
            let mut last = 0;
            while ended.recv_timeout(LONGEST) == Err(mpsc::RecvTimeoutError::Timeout) {
                let now = seen.load(Ordering::Relaxed);
                if now == last && now % 2 == 1 {
                    // The macros write to what the harness keeps, and that would go with the program.
                    let text = format!(
                        "{name}: an input takes more than {LONGEST:?}: {}/{name}-at-hand-{}\n",
                        directory().display(),
                        process::id()
                    );
                    drop(io::stderr().write_all(text.as_bytes()));
                    process::exit(101);
                }
                last = now;
            }
        });
        Self {
            step,
            end: Some(end),
            thread: Some(thread),
        }
    }

    fn begin(&self) {
        self.step.fetch_add(1, Ordering::Relaxed);
    }

    fn end(&self) {
        self.step.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
