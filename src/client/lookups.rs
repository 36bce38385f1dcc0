//! [`Lookups`]: addresses of names, a few at a time.
//!
//! A lookup blocks its thread for as long as the resolver likes, also after nobody waits for it any more. Of such threads a program
//! has few, and shares them: so only some may be in lookups at once, and the others wait without a thread.

use std::{
    future::Future,
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::client::legacy::connect::dns::Name;
use tokio::sync::Semaphore;
use tower::Service;

/// How long a lookup is waited for where an earlier one has an answer: less than the shortest time that a worker gives a request.
const PATIENCE: Duration = Duration::from_millis(500);

type Addresses = Vec<SocketAddr>;

/// The name that was looked up last, and its addresses.
type Last = Arc<Mutex<Option<(Name, Addresses)>>>;

/// Looks names up. Clones share their threads and what they remember.
#[derive(Debug, Clone)]
pub(crate) struct Lookups {
    turns: Arc<Semaphore>,
    last: Option<Last>,
}

impl Lookups {
    /// At most so many at once.
    pub(crate) fn at_once(count: usize) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(count)),
            last: None,
        }
    }

    /// The same, for who asks for one name again and again: the last addresses that were found stand in for a resolver that fails or
    /// is slow.
    pub(super) fn remembering(mut self) -> Self {
        self.last = Some(Arc::default());
        self
    }

    fn known(&self, name: &Name) -> Option<Addresses> {
        let last = self.last.as_ref()?;
        let last = last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref()
            .filter(|(known, _)| known == name)
            .map(|(_, addresses)| addresses.clone())
    }

    async fn look_up(self, name: Name) -> io::Result<Addresses> {
        let known = self.known(&name);
        let looked_up = self.ask(name);
        let Some(known) = known else {
            return looked_up.await;
        };
        match tokio::time::timeout(PATIENCE, looked_up).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(_)) | Err(_) => Ok(known),
        }
    }

    async fn ask(self, name: Name) -> io::Result<Addresses> {
        let turn = self.turns.acquire_owned().await.map_err(io::Error::other)?;
        let asked = tokio::task::spawn_blocking(move || {
            // Held until the thread is free again, be the one who asked gone.
            let _turn = turn;
            let found: Addresses = (name.as_str(), 0).to_socket_addrs()?.collect();
            if let Some(last) = &self.last {
                *last.lock().unwrap_or_else(PoisonError::into_inner) = Some((name, found.clone()));
            }
            Ok(found)
        });
        asked.await.map_err(io::Error::other)?
    }
}

impl Service<Name> for Lookups {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let lookups = self.clone();
        Box::pin(async move { Ok(lookups.look_up(name).await?.into_iter()) })
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use futures_util::FutureExt as _;

    use super::*;

    fn localhost() -> Name {
        Name::from_str("localhost").unwrap()
    }

    #[tokio::test]
    async fn a_lookup_waits_for_its_turn_and_takes_no_thread_meanwhile() {
        let lookups = Lookups::at_once(1);
        let turn = lookups.turns.clone().acquire_owned().await.unwrap();
        let mut looked_up = Box::pin(lookups.clone().look_up(localhost()));
        assert!((&mut looked_up).now_or_never().is_none());
        drop(turn);
        assert!(!looked_up.await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn the_last_addresses_stand_in_for_a_resolver_that_hangs_or_fails() {
        let lookups = Lookups::at_once(1).remembering();
        let found = lookups.clone().look_up(localhost()).await.unwrap();
        // One that hangs keeps its turn.
        let turn = lookups.turns.clone().acquire_owned().await.unwrap();
        assert_eq!(lookups.clone().look_up(localhost()).await.unwrap(), found);
        // They are no other name's.
        let other = Name::from_str("127.0.0.2").unwrap();
        let mut looked_up = Box::pin(lookups.clone().look_up(other));
        assert!((&mut looked_up).now_or_never().is_none());
        drop((turn, looked_up));
        lookups.turns.close();
        assert_eq!(lookups.look_up(localhost()).await.unwrap(), found);
    }
}
