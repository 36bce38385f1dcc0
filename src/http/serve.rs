//! A router on listening sockets: accept, carry, stop.
//!
//! Knows connections, not requests. A connection costs one tokio task; the [`Gate`] says how many there may be, and a
//! silent one is closed (`patience`).
//!
//! # How it stops
//!
//! A client that keeps its connection may be writing a request at the very moment at which it is closed, and then does not
//! know what became of it. So a stop accepts nothing new (where a service manager owns the socket, those who connect
//! wait for the next daemon), and from then on each answer carries `Connection: close`: who is busy is gone after one more
//! request. Connections that have brought none within `LAST_REQUESTS` are closed then.

use std::{io, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener, unix::UCred},
    sync::{Semaphore, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    audit,
    caller::{self, NoStanding, Peer, Standing, User},
    connection::{self, Link},
    gate::{Gate, Origin, Over, Pass, Tally},
    problem::{self, Problem},
    tls::Tls,
};

/// How long accepting rests after an error that the next call would meet again (no descriptors left), unless a connection
/// ends before: its descriptor is free then. Descriptors of other kinds give no sign, hence a time.
const REST: Duration = Duration::from_secs(1);
/// The least time between two lines of the log about the same trouble with accepting.
const SAID: Duration = Duration::from_secs(10);
/// How many of those who are turned away are told so at a time; further ones are just closed.
const TOLD_AT_ONCE: usize = 64;

/// The router of the moment: a reload of the settings sends another, which takes the next request of each connection.
pub type Routed = watch::Receiver<Router>;

/// What is served, until when, and to how many.
#[derive(Debug, Clone)]
pub struct Serving {
    /// The router of the moment.
    pub router: Routed,
    /// Cancelled when nothing new is to be accepted.
    pub stop: CancellationToken,
    /// Who may come in.
    pub gate: Arc<Gate>,
}

/// Serves on a TCP socket until the stop, then until all connections have ended: requests in flight are answered, idle
/// connections closed after `LAST_REQUESTS`. The caller bounds that time. With `tls` the listener speaks TLS only.
pub async fn serve_tcp(listener: TcpListener, serving: Serving, tls: Option<Arc<Tls>>) {
    let accept = async move || {
        let (stream, peer) = listener.accept().await?;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, %peer, "TCP_NODELAY could not be set");
        }
        let peer = Peer {
            address: Some(peer.ip()),
            ..Peer::default()
        };
        Ok(Coming::Guest(stream, peer))
    };
    serve(accept, serving, tls).await;
}

/// Serves on a Unix socket like [`serve_tcp`], to those peers to whom `admit` gives a standing by their credentials; the others
/// are told why it gives them none. It may take its time: others are accepted meanwhile, and who waits for it is counted among the
/// connections.
pub async fn serve_unix<F>(listener: UnixListener, serving: Serving, admit: impl Fn(UCred) -> F)
where
    F: Future<Output = Result<Arc<dyn Standing>, NoStanding>> + Send + 'static,
{
    let accept = async move || {
        let (stream, _) = listener.accept().await?;
        match stream.peer_cred() {
            Ok(credentials) => {
                let peer = known(credentials, admit(credentials));
                Ok(Coming::User(stream, credentials.uid(), peer.boxed()))
            }
            Err(error) => {
                tracing::warn!(%error, "a peer without credentials was turned away");
                let problem =
                    problem::FORBIDDEN.problem("the system does not say whose process this is");
                Ok(Coming::Stranger(stream, problem))
            }
        }
    };
    serve(accept, serving, None).await;
}

/// The user with these credentials, who has the standing that comes of `admitted`.
async fn known(
    credentials: UCred,
    admitted: impl Future<Output = Result<Arc<dyn Standing>, NoStanding>>,
) -> Result<Peer, Problem> {
    let (uid, gid) = (credentials.uid(), credentials.gid());
    match admitted.await {
        Ok(standing) => Ok(Peer {
            user: Some(User { uid, standing }),
            ..Peer::default()
        }),
        Err(NoStanding::MayNothing) => {
            audit::peer_refused(uid, gid);
            Err(caller::no_admin(uid))
        }
        Err(NoStanding::NotAsked(cause)) => {
            audit::peer_not_asked(uid, gid, &cause);
            Err(caller::not_asked(uid))
        }
    }
}

/// A connection that has come.
enum Coming<S> {
    /// It may be let in.
    Guest(S, Peer),
    /// It is of the user with this number, who is being looked up.
    User(S, u32, BoxFuture<'static, Result<Peer, Problem>>),
    /// It may not, and is told why.
    Stranger(S, Problem),
}

/// `accept` owns the listener: when it is dropped, nobody is accepted any more.
async fn serve<S>(
    accept: impl AsyncFn() -> io::Result<Coming<S>>,
    serving: Serving,
    tls: Option<Arc<Tls>>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connections = TaskTracker::new();
    let telling = Arc::new(Semaphore::new(TOLD_AT_ONCE));
    let turn_away = |stream: S, problem: Problem| {
        connections.spawn(turn_away(stream, problem, Arc::clone(&telling)));
    };
    let own = rustix::process::geteuid().as_raw();
    let mut trouble = Trouble::default();
    let mut stopped = pin!(serving.stop.cancelled());
    loop {
        let accepted = tokio::select! {
            accepted = accept() => accepted,
            () = &mut stopped => break,
        };
        match accepted {
            Ok(Coming::Guest(stream, peer)) => match serving.gate.enter(Origin::of(&peer, own)) {
                Ok(pass) => {
                    let link = Link {
                        serving: serving.clone(),
                        peer,
                        pass,
                    };
                    connections.spawn(connection::carry(stream, link, tls.clone()));
                }
                // Before a handshake there is no way to say anything.
                Err(_) if tls.is_some() => drop(stream),
                Err(over) => turn_away(stream, why(over)),
            },
            Ok(Coming::User(stream, uid, peer)) => {
                match serving.gate.enter(Origin::of_user(uid, own)) {
                    Ok(pass) => {
                        let (serving, telling) = (serving.clone(), Arc::clone(&telling));
                        connections.spawn(look_up(stream, peer, pass, serving, telling));
                    }
                    Err(over) => turn_away(stream, why(over)),
                }
            }
            Ok(Coming::Stranger(stream, problem)) => turn_away(stream, problem),
            Err(error) if is_of_one_connection(&error) => {
                tracing::debug!(%error, "a connection ended before it was accepted");
            }
            Err(error) => {
                Tally::count(&serving.gate.tally().accept_errors);
                trouble.say(&error);
                tokio::select! {
                    () = serving.gate.someone_left() => {}
                    () = tokio::time::sleep(REST) => {}
                    () = &mut stopped => break,
                }
            }
        }
    }
    drop(accept);
    connections.close();
    connections.wait().await;
}

/// Carries a connection when it is known whose it is, and what that user may do.
async fn look_up<S>(
    stream: S,
    peer: BoxFuture<'static, Result<Peer, Problem>>,
    pass: Pass,
    serving: Serving,
    telling: Arc<Semaphore>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let known = tokio::select! {
        // One who is known at once has last requests after a stop, too.
        biased;
        known = peer => known,
        () = serving.stop.cancelled() => return,
    };
    match known {
        Ok(peer) => {
            let link = Link {
                serving,
                peer,
                pass,
            };
            connection::carry(stream, link, None).await;
        }
        Err(problem) => {
            drop(pass);
            turn_away(stream, problem, telling).await;
        }
    }
}

/// Tells one who is turned away why, unless many are being told.
async fn turn_away<S>(stream: S, problem: Problem, telling: Arc<Semaphore>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if let Ok(_permit) = telling.try_acquire() {
        connection::tell(stream, &problem).await;
    }
}

/// What one who is turned away is told.
fn why(over: Over) -> Problem {
    let kind = match over {
        Over::All => &problem::TOO_MANY_CONNECTIONS,
        Over::Address => &problem::TOO_MANY_FROM_ADDRESS,
        Over::User(uid) => {
            return problem::TOO_MANY_CONNECTIONS.problem(format!(
                "the user with the number {uid}, or all users together, have as many connections to the admin socket as users \
                 besides root and the daemon's own may: one half of the setting `max_connections`, all three quarters"
            ));
        }
    };
    kind.problem(kind.about)
}

/// Says that nobody can be accepted, not more often than is of use.
#[derive(Default)]
struct Trouble {
    said: Option<Instant>,
    unsaid: u64,
}

impl Trouble {
    fn say(&mut self, error: &io::Error) {
        if self.said.is_some_and(|said| said.elapsed() < SAID) {
            self.unsaid += 1;
            return;
        }
        tracing::warn!(%error, times_before = self.unsaid, "no connection can be accepted; trying again");
        self.said = Some(Instant::now());
        self.unsaid = 0;
    }
}

/// Whether an error of accepting is only about the connection that would have come (accept(2), "Error handling").
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
