//! [`Flight`]: a request of the loop that is under way, and the completions in it.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
};

use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::attempt::Shared;
use crate::{api, client::ClientError};

/// A completion that the daemon has not taken yet.
pub(super) struct Kept {
    pub(super) completion: api::Completion,
    /// It may have arrived before, without an answer that came back: the daemon may have it.
    pub(super) is_in_doubt: bool,
    /// It was in a request that was refused as a whole, perhaps because of it: it goes alone.
    pub(super) is_alone: bool,
    /// How many requests with it had no answer for as long as they may take.
    pub(super) silences: u32,
    /// When its lease was extended last by who did its task.
    extended: Instant,
    /// Extends its lease from then on.
    holder: Option<AbortOnDropHandle<()>>,
}

impl Kept {
    pub(super) fn new(completion: api::Completion, extended: Instant) -> Self {
        Self {
            completion,
            is_in_doubt: false,
            is_alone: false,
            silences: 0,
            extended,
            holder: None,
        }
    }

    /// The work is done: without its completion it would be done again until it is dead, and end the same way each time.
    pub(super) fn leave_out_result(&mut self, error: &ClientError) {
        let id = &self.completion.id;
        tracing::warn!(task_id = %id, %error, "the daemon refuses the result; the task is completed without it");
        self.completion.result = None;
    }

    /// Its lease is extended until it is dropped. Most need that never: they are taken when they are sent first.
    pub(super) fn hold(&mut self, shared: &Arc<Shared>) {
        if self.holder.is_some() {
            return;
        }
        let shared = Arc::clone(shared);
        let api::Completion { id, token, .. } = &self.completion;
        let (id, token) = (id.clone(), token.clone());
        let extended = Mutex::new(self.extended);
        // That it is lost, or was completed before, the completion's answer says.
        let holding = async move { shared.hold(&id, &token, &extended).await };
        self.holder = Some(AbortOnDropHandle::new(tokio::spawn(holding)));
    }
}

pub(super) type Answer = Result<api::ClaimAnswer, ClientError>;

/// A request under way and the completions in it.
pub(super) struct Flight {
    answer: Pin<Box<dyn Future<Output = Answer> + Send>>,
    pub(super) carried: Vec<Kept>,
    /// How many tasks were asked for.
    pub(super) asked: usize,
    pub(super) since: Instant,
    withdrawal: CancellationToken,
}

impl Flight {
    fn new(
        carried: Vec<Kept>,
        asked: u32,
        withdrawal: CancellationToken,
        answer: impl Future<Output = Answer> + Send + 'static,
    ) -> Self {
        Self {
            answer: Box::pin(answer),
            carried,
            asked: asked as usize,
            since: Instant::now(),
            withdrawal,
        }
    }

    /// A claim. One that carries completions is not waited for much longer than their leases allow.
    pub(super) fn of_claim(shared: Arc<Shared>, claim: api::Claim, carried: Vec<Kept>) -> Self {
        let withdrawal = CancellationToken::new();
        let patience = (!carried.is_empty()).then(|| shared.patience(silences(&carried)));
        let withdrawn = withdrawal.clone();
        Self::new(carried, claim.max, withdrawal, async move {
            let answer = shared
                .client
                .claim_until(withdrawn.cancelled_owned(), &claim);
            match patience {
                Some(patience) => {
                    let given_up = tokio::time::sleep(patience);
                    shared.client.until(given_up, answer).await
                }
                None => answer.await,
            }
        })
    }

    /// Completions alone, beside a claim or after a stop.
    pub(super) fn of_report(shared: Arc<Shared>, claim: api::Claim, carried: Vec<Kept>) -> Self {
        let silences = silences(&carried);
        let withdrawal = CancellationToken::new();
        Self::new(carried, claim.max, withdrawal, async move {
            shared.tell(silences, shared.client.claim(&claim)).await
        })
    }

    /// One completion by its own request, whose refusal can only mean this one.
    pub(super) fn of_one(shared: Arc<Shared>, carried: Vec<Kept>) -> Self {
        let completion = carried.first().map(|kept| kept.completion.clone());
        let silences = silences(&carried);
        let withdrawal = CancellationToken::new();
        Self::new(carried, 0, withdrawal, async move {
            let mut completed = Vec::new();
            if let Some(api::Completion { id, token, result }) = completion {
                let request = shared.client.complete(&id, &token, result);
                shared.tell(silences, request).await?;
                completed.push(api::CompletionOutcome { id, problem: None });
            }
            Ok(api::ClaimAnswer {
                tasks: Vec::new(),
                completed,
            })
        })
    }

    /// A claim that waits has its answer soon: what it was given until now, or an error.
    pub(super) fn withdraw(&self) {
        self.withdrawal.cancel();
    }

    pub(super) fn is_withdrawn(&self) -> bool {
        self.withdrawal.is_cancelled()
    }
}

fn silences(carried: &[Kept]) -> u32 {
    let each = carried.iter().map(|kept| kept.silences);
    each.max().unwrap_or_default()
}

/// The flight's answer, when there is a flight. Cancel-safe: the flight stays until it has arrived.
pub(super) async fn arrival(flight: &mut Option<Flight>) -> (Flight, Answer) {
    let answer = match flight {
        Some(flight) => flight.answer.as_mut().await,
        None => std::future::pending().await,
    };
    match flight.take() {
        Some(flight) => (flight, answer),
        None => std::future::pending().await,
    }
}
