//! [`Doors`]: what the daemon's listeners hold connections to, and what a reload changes of that.

use std::sync::Arc;

use axum::Router;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Failure, in_effect::InEffect};
use crate::{
    config::{Settings, exit},
    http::{Bounds, Flight, Gate, NewTls, Serving, Tally, Tls, TlsFiles},
};

/// The gates of TCP and of the admin socket, and the certificate. A flood on TCP leaves the admin socket open.
#[derive(Debug)]
pub(super) struct Doors {
    pages: Arc<Gate>,
    admin: Arc<Gate>,
    tally: Arc<Tally>,
    pages_flight: Arc<Flight>,
    admin_flight: Arc<Flight>,
    tls: Option<Arc<Tls>>,
}

impl Doors {
    /// Reads the certificate, if there is one.
    pub(super) fn open(settings: &Settings) -> Result<Self, Failure> {
        let tls = tls_files(settings)
            .map(|files| Tls::read(&files).map(Arc::new))
            .transpose()
            .map_err(|error| Failure::new(exit::CONFIG, error.to_string()))?;
        let tally = Arc::default();
        let (pages_flight, admin_flight) = (Arc::default(), Arc::default());
        let in_effect = InEffect::of(settings);
        let bounds = bounds(settings, &in_effect);
        let gate = |flight| Gate::with_flight(bounds, Arc::clone(&tally), Arc::clone(flight));
        let doors = Self {
            pages: gate(&pages_flight),
            admin: gate(&admin_flight),
            tally,
            pages_flight,
            admin_flight,
            tls,
        };
        doors.set_flights(&in_effect);
        Ok(doors)
    }

    pub(super) fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.tally)
    }

    /// What is held of requests and answers, on TCP and on the admin socket.
    pub(super) fn flights(&self) -> (Arc<Flight>, Arc<Flight>) {
        (
            Arc::clone(&self.pages_flight),
            Arc::clone(&self.admin_flight),
        )
    }

    pub(super) fn pages(
        &self,
        router: watch::Receiver<Router>,
        stop: &CancellationToken,
    ) -> Serving {
        serving(&self.pages, router, stop)
    }

    pub(super) fn admin(
        &self,
        router: watch::Receiver<Router>,
        stop: &CancellationToken,
    ) -> Serving {
        serving(&self.admin, router, stop)
    }

    /// What a listener shows that speaks TLS; none for one that does not.
    pub(super) fn tls_for(&self, speaks: bool) -> Option<Arc<Tls>> {
        self.tls.clone().filter(|_| speaks)
    }

    /// Reads certificate, key and authorities again, and changes nothing. Where no listener speaks TLS before the next start, an error
    /// tells that it could not.
    pub(super) fn read_certificate(settings: &Settings) -> Result<Option<NewTls>, String> {
        let read = tls_files(settings).map(|files| NewTls::read(&files));
        read.transpose().map_err(|error| error.to_string())
    }

    /// Uses what was read. Gives whether the authorities are others.
    pub(super) fn renew_certificate(&self, read: Option<NewTls>) -> bool {
        let (Some(new), Some(tls)) = (read, &self.tls) else {
            return false;
        };
        let are_others = tls.renew(new);
        tracing::info!("the certificate was read again");
        are_others
    }

    pub(super) fn set_bounds(&self, settings: &Settings) {
        let in_effect = InEffect::of(settings);
        let bounds = bounds(settings, &in_effect);
        self.pages.set(bounds);
        self.admin.set(bounds);
        self.set_flights(&in_effect);
    }

    fn set_flights(&self, in_effect: &InEffect) {
        for flight in [&self.pages_flight, &self.admin_flight] {
            flight.set_limit(in_effect.max_in_flight);
        }
    }
}

fn serving(gate: &Arc<Gate>, router: watch::Receiver<Router>, stop: &CancellationToken) -> Serving {
    Serving {
        router,
        stop: stop.clone(),
        gate: Arc::clone(gate),
    }
}

pub(super) fn tls_files(settings: &Settings) -> Option<TlsFiles> {
    settings.tls.as_ref().map(|tls| TlsFiles {
        certificate: tls.certificate.clone(),
        key: tls.key.clone(),
        client_ca: tls.client_ca.clone(),
    })
}

fn bounds(settings: &Settings, in_effect: &InEffect) -> Bounds {
    let of = &settings.connections;
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    Bounds {
        max_connections: in_effect.max_connections,
        max_connections_per_address: of.most_per_address,
        header_timeout: of.header_timeout,
        reader_timeout: of.reader_timeout,
        idle_timeout: of.idle_timeout,
        handshake_timeout: of.handshake_timeout,
        max_head: size(of.max_head),
        max_headers: size(of.max_headers),
        max_url: size(of.max_url),
        request_rate: of.request_rate,
        request_burst: of.request_burst,
    }
}
