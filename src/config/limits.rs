//! Every default and every limit of a setting, each with its reason. Nothing else in the crate hides such a number.
//!
//! What belongs to a task itself (the longest lease, the longest key) is a constant of its type in [`crate::task`].

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
};

use crate::task::{Backoff, Millis, Options, PayloadLimits};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Where the page and the API are by default: on this machine only, at the original's port.
pub const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);
/// The most addresses: more is a mistake in a list.
pub const MAX_LISTEN: usize = 16;
/// The group that may use the admin socket.
pub const ADMIN_GROUP: &str = "workqueue";
/// The longest path of a Unix socket: `sun_path` of unix(7) has 108 bytes, one of them for the end.
pub const MAX_SOCKET_PATH: usize = 107;
/// What is logged by default: what a person on call wants to see the day after.
pub const LOG_LEVEL: &str = "info";

/// The journal where stderr is the journal, else lines for people.
pub const LOG_FORMAT: &str = "auto";

/// How often `durability = "interval"` syncs: what a crash of the machine may take back.
pub const SYNC_INTERVAL: Millis = Millis(100);
/// Below a millisecond `sync` is the better choice; above a minute `none` is the honest one.
pub const SYNC_INTERVALS: RangeInclusive<Millis> = Millis(1)..=Millis::from_secs(60);

/// How long finished work may stay only in the journal: short enough that `ls` feels live.
pub const SPOOL_DELAY: Millis = Millis(100);
/// A lag of more than a minute would make the directory useless to look at.
pub const SPOOL_DELAYS: RangeInclusive<Millis> = Millis(0)..=Millis::from_secs(60);

/// The lease of `GET /api/next`: the original's worker gives no sign of life, so its task comes back after this.
pub const LEGACY_LEASE: Millis = Millis::from_secs(60);
/// As for every lease.
pub const LEASES: RangeInclusive<Millis> = Options::MIN_LEASE..=Options::MAX_LEASE;

/// How often the task directory is looked through where the kernel may have told nothing (network file systems).
pub const RESCAN_EVERY: Millis = Millis::from_secs(300);
/// Zero is never. Reading a large directory more than once a second would be all that the daemon does.
pub const RESCANS: RangeInclusive<Millis> = Millis::from_secs(1)..=Millis::from_secs(86_400);

/// The largest payload: what a page shows and a journal record carries without hurting its neighbours.
pub const MAX_PAYLOAD: u64 = MIB;
/// A queue is not a file store: a larger payload belongs in a file, its path in the task.
pub const MAX_PAYLOADS: RangeInclusive<u64> = 1..=64 * MIB;

/// How deep a payload is: enough for anything that people write, and below what parsers of workers give up at.
pub const MAX_DEPTH: u64 = PayloadLimits::MAX_DEPTH as u64;
/// What the daemon's own parser can take.
pub const MAX_DEPTHS: RangeInclusive<u64> = 1..=PayloadLimits::MOST_DEPTH as u64;

/// The largest request body: sixteen of the largest payloads, or some hundred thousand small tasks.
pub const MAX_BODY: u64 = 16 * MIB;
/// A body is held in memory, once for each connection.
pub const MAX_BODIES: RangeInclusive<u64> = KIB..=GIB;

/// The longest that a claim may wait: below the idle timeouts of the usual proxies.
pub const MAX_WAIT: Millis = Millis::from_secs(300);
/// Zero turns waiting off.
pub const MAX_WAITS: RangeInclusive<Millis> = Millis(0)..=Millis::from_secs(3600);

/// How long a client may take over a request's head: a slow one is a defect or an attack.
pub const HEADER_TIMEOUT: Millis = Millis::from_secs(30);
/// Below a second an honest client on a busy machine would be cut off.
pub const HEADER_TIMEOUTS: RangeInclusive<Millis> = Millis::from_secs(1)..=Millis::from_secs(600);

/// How many connections there may be: more than one machine's workers need; each costs some kilobytes and a descriptor.
pub const MAX_CONNECTIONS: u64 = 16_384;
/// The kernel's own bound on descriptors (`fs.nr_open`) is of the size of the upper end.
pub const MAX_CONNECTIONS_RANGE: RangeInclusive<u64> = 1..=1_000_000;
/// How long a kept connection may be idle: longer than the usual proxies and clients keep theirs (60 s), so that they close first.
pub const IDLE_TIMEOUT: Millis = Millis::from_secs(75);
/// Up to a day, for clients that reconnect badly.
pub const IDLE_TIMEOUTS: RangeInclusive<Millis> = Millis::from_secs(1)..=Millis::from_secs(86_400);
/// How long a body may take, or each 16 KiB of it, as for a head.
pub const BODY_TIMEOUT: Millis = Millis::from_secs(30);
/// How long a client may read nothing of an answer, as for a head.
pub const READER_TIMEOUT: Millis = Millis::from_secs(30);
/// How long a handshake of TLS may take: two round trips and some arithmetic.
pub const HANDSHAKE_TIMEOUT: Millis = Millis::from_secs(10);
/// The longest head of a request: many times what browsers and programs send.
pub const MAX_HEAD: u64 = 64 * KIB;
/// Below 8 KiB ordinary cookies would not pass; the head is held in memory, once for each connection.
pub const MAX_HEADS: RangeInclusive<u64> = 8 * KIB..=MIB;
/// The most header fields of a request: several times what browsers send behind several proxies.
pub const MAX_HEADERS: u64 = 100;
/// Below ten ordinary clients would not pass.
pub const MAX_HEADERS_RANGE: RangeInclusive<u64> = 10..=1000;
/// The longest path and query: that of the usual servers.
pub const MAX_URL: u64 = 8 * KIB;
/// The upper end is what the parser takes.
pub const MAX_URLS: RangeInclusive<u64> = 256..=60 * KIB;
/// Requests a second from one address: any number, since workers behind one proxy have one address.
pub const REQUEST_RATE: u64 = 0;
/// Zero is any number.
pub const REQUEST_RATES: RangeInclusive<u64> = 0..=1_000_000;
/// Requests a second with one token: any number, like those of one address.
pub const TOKEN_RATE: u64 = 0;
/// Requests at once from one address, where there is a rate: a page and its parts, many times.
pub const REQUEST_BURST: u64 = 200;
/// One is needed for any to pass.
pub const REQUEST_BURSTS: RangeInclusive<u64> = 1..=1_000_000;

/// The length of a journal segment: small enough to be given back soon, large enough that new ones are rare.
pub const JOURNAL_SEGMENT: u64 = 4 * MIB;
/// Below 64 KiB every second record would open a file.
pub const JOURNAL_SEGMENTS: RangeInclusive<u64> = 64 * KIB..=GIB;

/// How much journal there may be since the last checkpoint: some seconds of replay at a start.
pub const CHECKPOINT_BYTES: u64 = 64 * MIB;
/// A checkpoint after each megabyte would write more than the journal itself.
pub const CHECKPOINTS: RangeInclusive<u64> = MIB..=64 * GIB;

/// How much memory payloads may take before they are read from their files again.
pub const PAYLOAD_CACHE: u64 = 256 * MIB;
/// Zero keeps none in memory but those not yet written.
pub const PAYLOAD_CACHES: RangeInclusive<u64> = 0..=1024 * GIB;

/// How many queues there may be: each is a folder and a watch, and a name made from user input must not fill the disk.
pub const MAX_QUEUES: u64 = 10_000;
/// The kernel's default of `fs.inotify.max_user_watches` is of this size on small machines.
pub const MAX_QUEUES_RANGE: RangeInclusive<u64> = 1..=1_000_000;

/// How many tasks there may be, unfinished and dead: some gigabytes of memory, which a start reads back in a minute.
pub const MAX_TASKS: u64 = 20_000_000;
/// One directory of ext4 ends near 10^7 names, its index full.
pub const MAX_QUEUE_TASKS: u64 = 10_000_000;
/// More than a thousand million would not fit into the memory of a machine that runs this.
pub const MAX_TASKS_RANGE: RangeInclusive<u64> = 1..=1_000_000_000;
/// How many unique keys unfinished tasks may hold: as many as there may be tasks.
pub const MAX_UNIQUE_KEYS: u64 = MAX_TASKS;

/// How many bytes the payloads of all tasks may have; zero: any, as far as the disk has room.
pub const MAX_SPOOL: u64 = 0;
/// Less than the largest payload is raised to it: a single task must be able to pass. No directory holds more.
pub const MAX_SPOOLS: RangeInclusive<u64> = 0..=1024 * 1024 * GIB;

/// How many claims may wait for a task: each holds a connection or a stream of one, and some kilobytes.
pub const MAX_WAITING: u64 = 20_000;
/// Zero answers every claim at once.
pub const MAX_WAITING_RANGE: RangeInclusive<u64> = 0..=1_000_000;

/// How many workers are remembered: names are the callers' to choose.
pub const MAX_WORKERS: u64 = 10_000;
/// None remembered would say that no worker is there.
pub const MAX_WORKERS_RANGE: RangeInclusive<u64> = 1..=1_000_000;

/// How many may listen to events: each is told of everything that happens, which costs the others time.
pub const MAX_LISTENERS: u64 = 1000;
/// Zero turns events off.
pub const MAX_LISTENERS_RANGE: RangeInclusive<u64> = 0..=100_000;

/// Memory above which no new task is taken; zero: where a cgroup limits the memory, nine tenths of that.
pub const MAX_MEMORY: u64 = 0;
/// Below what an idle daemon takes, nothing would ever be taken; that is for who sets it to see.
pub const MAX_MEMORIES: RangeInclusive<u64> = 0..=64 * 1024 * GIB;

/// Bytes of submitted tasks that may wait for an answer: a slow disk is felt as latency first, then refused in time.
pub const MAX_SUBMITTING: u64 = 256 * MIB;
/// Less than the largest body is raised to it: a single request must be able to pass.
pub const MAX_SUBMITTINGS: RangeInclusive<u64> = MIB..=1024 * GIB;

/// Bytes of requests and answers that slow clients may have the daemon hold: some hundred of the largest pages.
pub const MAX_IN_FLIGHT: u64 = 256 * MIB;
/// A request or an answer that is alone passes in any case.
pub const MAX_IN_FLIGHTS: RangeInclusive<u64> = MIB..=1024 * GIB;

/// Attempts of a task that asks for no number.
pub const MAX_ATTEMPTS: u64 = 5;
/// As for every task.
pub const ATTEMPTS: RangeInclusive<u64> = 1..=Options::MAX_ATTEMPTS as u64;
/// The lease of a task and a claim that ask for none: longer than most handlers, short enough to notice a dead worker.
pub const LEASE: Millis = Millis::from_secs(60);
/// The wait between attempts of a task that asks for none.
pub const BACKOFF: Backoff = Backoff::DEFAULT;
/// Up to a year, as for every task.
pub const BACKOFFS: RangeInclusive<Millis> = Millis(0)..=Options::MAX_BACKOFF;

/// How long finished tasks are kept in `done/`: not at all.
pub const RETENTION_DONE: Millis = Millis(0);
/// Up to ten years.
pub const RETENTIONS: RangeInclusive<Millis> = Millis(0)..=Millis::from_secs(10 * 366 * 86_400);

/// How many changes of task files may wait before submits wait too: the files then lag by a few seconds at most, and the
/// payloads that are not on the disk yet have a bounded place in memory.
pub const MAX_PENDING_FILES: usize = 400_000;
