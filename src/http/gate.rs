//! [`Gate`]: how many connections there are, and how many there may be.
//!
//! One gate stands before all TCP listeners, another before the admin socket, so that a flood of the one leaves the other
//! open. Counting a connection is one addition and a look into a table that has at most as many entries as there are
//! connections.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use tokio::sync::Notify;

use super::{
    caller::Peer,
    flight::{Flight, LightShare},
    rates::Rates,
};
use crate::task::{Millis, Refusal};

/// What a connection is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The most connections at once.
    pub max_connections: u64,
    /// The most connections at once from one address; of IPv6 one network of 64 bits counts as one.
    pub max_connections_per_address: u64,
    /// How long a client may take over a request's head, from its first byte on; for the first request of a connection,
    /// from its beginning on.
    pub header_timeout: Millis,
    /// How long a client may read nothing of its answer.
    pub reader_timeout: Millis,
    /// How long a connection may be kept without a request.
    pub idle_timeout: Millis,
    /// How long the TLS handshake may take.
    pub handshake_timeout: Millis,
    /// The longest head of a request, in bytes.
    pub max_head: usize,
    /// The most header fields of a request.
    pub max_headers: usize,
    /// The longest target of a request (path and query), in bytes.
    pub max_url: usize,
    /// How many requests a second one address may send, in the long run; zero: any number.
    pub request_rate: u64,
    /// How many it may send at once.
    pub request_burst: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            max_connections: 16_384,
            max_connections_per_address: 16_384,
            header_timeout: Millis::from_secs(30),
            reader_timeout: Millis::from_secs(30),
            idle_timeout: Millis::from_secs(75),
            handshake_timeout: Millis::from_secs(10),
            max_head: 64 << 10,
            max_headers: 100,
            max_url: 8 << 10,
            request_rate: 0,
            request_burst: 100,
        }
    }
}

/// What happened at the gates, for `/metrics`.
#[derive(Debug, Default)]
pub struct Tally {
    /// Connections that are open.
    pub(super) open: AtomicU64,
    /// Connections that were let in.
    pub(super) accepted: AtomicU64,
    /// Connections turned away because there were too many in all.
    pub(super) over_all: AtomicU64,
    /// Connections turned away because there were too many from their address, or on the admin socket of their user.
    pub(super) over_address: AtomicU64,
    /// Times that accepting failed for want of descriptors or memory.
    pub(super) accept_errors: AtomicU64,
    /// Handshakes of TLS that failed or took too long.
    pub(super) handshakes_failed: AtomicU64,
    /// Connections closed because a head took too long or none came.
    pub(super) timed_out: AtomicU64,
    /// Connections closed because nothing of an answer was read.
    pub(super) unread: AtomicU64,
    /// Heads that were refused: malformed, too long, too many fields.
    pub(super) heads_refused: AtomicU64,
    /// Requests refused because their address sent too many.
    pub(super) over_rate: AtomicU64,
}

impl Tally {
    pub(super) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts connections and turns away those that are too many.
#[derive(Debug, Default)]
pub struct Gate {
    bounds: RwLock<Bounds>,
    open: AtomicU64,
    origins: Mutex<Origins>,
    tally: Arc<Tally>,
    flight: Arc<Flight>,
    rates: Rates,
    /// Told when a connection has ended, and its descriptor is free.
    ended: Notify,
}

/// Why a connection is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// There are too many in all.
    All,
    /// There are too many from this address.
    Address,
    /// There are too many of this user, or of all such users.
    User(u32),
}

/// How many connections come from where.
type Origins = HashMap<Origin, u64, RandomState>;

/// Whose connections are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    /// Those of an address, or of a network of IPv6.
    Address(IpAddr),
    /// Those of a user of this machine.
    User(u32),
}

impl Origin {
    /// That of `peer`, where the daemon runs as the user `own`. None: root's and the daemon's connections are held to no share,
    /// since they are who puts things right when others have taken theirs.
    pub(super) fn of(peer: &Peer, own: u32) -> Option<Self> {
        if let Some(address) = peer.address {
            return Some(Self::Address(network(address)));
        }
        Self::of_user(peer.user.as_ref()?.uid, own)
    }

    /// The same of one who came by a Unix socket.
    pub(super) fn of_user(uid: u32, own: u32) -> Option<Self> {
        (uid != 0 && uid != own).then_some(Self::User(uid))
    }

    /// Whether one more is too many, beside those that are there.
    fn is_over(self, there: &Origins, bounds: Bounds) -> Option<Over> {
        let own = there.get(&self).copied().unwrap_or(0);
        match self {
            Self::Address(_) => {
                (own >= bounds.max_connections_per_address).then_some(Over::Address)
            }
            Self::User(user) => {
                let share = (bounds.max_connections / 2).max(1);
                let kept = (bounds.max_connections / KEPT_PART).max(1);
                let most = bounds.max_connections.saturating_sub(kept).max(1);
                // Several may stand together: what is left beside all of them is root's.
                let all: u64 = there.values().sum();
                (own >= share || all >= most).then_some(Over::User(user))
            }
        }
    }
}

/// The part of a gate's connections that is kept from users of this machine together: a quarter. One of them may have half of all, which
/// is enough for a worker also where there may be few, and always one.
const KEPT_PART: u64 = 4;

impl Gate {
    /// A gate with these bounds, which counts in `tally`.
    #[must_use]
    pub fn new(bounds: Bounds, tally: Arc<Tally>) -> Arc<Self> {
        Self::with_flight(bounds, tally, Arc::default())
    }

    /// The same, which holds requests that come beside others on their connection to what may be in `flight`.
    #[must_use]
    pub fn with_flight(bounds: Bounds, tally: Arc<Tally>, flight: Arc<Flight>) -> Arc<Self> {
        Arc::new(Self {
            bounds: RwLock::new(bounds),
            tally,
            flight,
            ..Self::default()
        })
    }

    /// Other bounds from now on: a reload. Who is in stays in.
    pub fn set(&self, bounds: Bounds) {
        *self.bounds.write().unwrap_or_else(PoisonError::into_inner) = bounds;
    }

    /// The bounds of the moment.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        *self.bounds.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Whether a request of this address is within its rate; if not, after how many seconds one will be.
    pub(super) fn admit_request(&self, address: IpAddr) -> Result<(), u64> {
        let (rate, burst) = {
            let bounds = self.bounds.read().unwrap_or_else(PoisonError::into_inner);
            (bounds.request_rate, bounds.request_burst)
        };
        if rate == 0 {
            return Ok(());
        }
        self.rates
            .take(network(address), rate, burst)
            .inspect_err(|_| {
                Tally::count(&self.tally.over_rate);
            })
    }

    /// Lets a request of `bytes` in that comes beside others on its connection, as long as the share is kept.
    pub(super) fn admit_beside(&self, bytes: u64) -> Result<LightShare, Refusal> {
        self.flight.take_beside(bytes)
    }

    /// The same of the answer to one that was not let in; none: it is to be an answer that costs nothing.
    pub(super) fn admit_refused(&self, bytes: u64) -> Option<LightShare> {
        self.flight.take_refused(bytes)
    }

    /// Lets a connection in, as long as the pass is kept. Without an origin it is held to the bound of all alone.
    pub(super) fn enter(self: &Arc<Self>, origin: Option<Origin>) -> Result<Pass, Over> {
        let bounds = self.bounds();
        if self.open.fetch_add(1, Ordering::Relaxed) >= bounds.max_connections {
            self.open.fetch_sub(1, Ordering::Relaxed);
            Tally::count(&self.tally.over_all);
            return Err(Over::All);
        }
        if let Some(origin) = origin {
            let mut origins = self.lock();
            if let Some(over) = origin.is_over(&origins, bounds) {
                drop(origins);
                self.open.fetch_sub(1, Ordering::Relaxed);
                Tally::count(&self.tally.over_address);
                return Err(over);
            }
            *origins.entry(origin).or_insert(0) += 1;
        }
        Tally::count(&self.tally.open);
        Tally::count(&self.tally.accepted);
        Ok(Pass {
            gate: Arc::clone(self),
            origin,
        })
    }

    /// Ready when a connection has ended since this was last asked.
    pub(super) async fn someone_left(&self) {
        self.ended.notified().await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Origins> {
        self.origins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection that was let in.
#[derive(Debug)]
pub(super) struct Pass {
    gate: Arc<Gate>,
    origin: Option<Origin>,
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(origin) = self.origin {
            let mut origins = self.gate.lock();
            if let Some(count) = origins.get_mut(&origin) {
                *count -= 1;
                if *count == 0 {
                    origins.remove(&origin);
                }
            }
        }
        self.gate.open.fetch_sub(1, Ordering::Relaxed);
        self.gate.tally.open.fetch_sub(1, Ordering::Relaxed);
        self.gate.ended.notify_one();
    }
}

/// What counts as one address: of IPv6 the network of 64 bits, all of which one machine may use.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        access::Grant,
        http::caller::{Standing, User},
    };

    fn gate(all: u64, per_address: u64) -> Arc<Gate> {
        let bounds = Bounds {
            max_connections: all,
            max_connections_per_address: per_address,
            ..Bounds::default()
        };
        Gate::new(bounds, Arc::default())
    }

    fn from(address: impl Into<IpAddr>) -> Option<Origin> {
        let peer = Peer {
            address: Some(address.into()),
            ..Peer::default()
        };
        Origin::of(&peer, 0)
    }

    fn user(uid: u32) -> Option<Origin> {
        #[derive(Debug)]
        struct Anyone;
        impl Standing for Anyone {
            fn grant(&self) -> Option<Arc<Grant>> {
                None
            }
        }
        let peer = Peer {
            user: Some(User {
                uid,
                standing: Arc::new(Anyone),
            }),
            ..Peer::default()
        };
        Origin::of(&peer, 990)
    }

    #[test]
    fn users_of_the_machine_do_not_shut_out_root_and_the_daemon_nor_one_another() {
        let gate = gate(8, 1);
        let mut passes: Vec<_> = (0..4).map(|_| gate.enter(user(1000)).unwrap()).collect();
        assert_eq!(gate.enter(user(1000)).unwrap_err(), Over::User(1000));
        for uid in [1001, 1002] {
            passes.push(gate.enter(user(uid)).unwrap());
        }
        assert_eq!(gate.enter(user(1003)).unwrap_err(), Over::User(1003));
        assert_eq!(gate.tally.over_address.load(Ordering::Relaxed), 2);
        let _root = gate.enter(user(0)).unwrap();
        let own = gate.enter(user(990)).unwrap();
        assert_eq!(gate.enter(user(0)).unwrap_err(), Over::All);
        drop((own, passes));
        let _again = gate.enter(user(1000)).unwrap();
        assert_eq!(gate.lock().len(), 1);
    }

    #[test]
    fn where_there_may_be_one_connection_any_user_may_have_it() {
        for most in 1..4 {
            let gate = gate(most, 1);
            let _one = gate.enter(user(1000)).unwrap();
            gate.enter(user(1000)).unwrap_err();
            assert_eq!(gate.enter(user(0)).is_ok(), most > 1);
        }
    }

    #[test]
    fn connections_are_counted_in_all_and_by_address_and_given_back() {
        let gate = gate(3, 2);
        let (a, b) = (from([10, 0, 0, 1]), from([10, 0, 0, 2]));
        let first = gate.enter(a).unwrap();
        let _second = gate.enter(a).unwrap();
        assert_eq!(gate.enter(a).unwrap_err(), Over::Address);
        let _third = gate.enter(b).unwrap();
        assert_eq!(gate.enter(b).unwrap_err(), Over::All);
        drop(first);
        let _fourth = gate.enter(a).unwrap();
        assert_eq!(gate.tally.open.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn the_table_of_addresses_forgets_those_who_left() {
        let gate = gate(1_000, 1_000);
        let passes: Vec<_> = (0..100_u8)
            .map(|last| gate.enter(from([10, 0, 0, last])).unwrap())
            .collect();
        assert_eq!(gate.lock().len(), 100);
        drop(passes);
        assert!(gate.lock().is_empty());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_a_mapped_one_is_ipv4() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }
}
