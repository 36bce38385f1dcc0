//! The three phases that all peers go through, each in its own protocol: submit, drain (claim + complete), cycle (submit,
//! claim, complete).

use anyhow::bail;

use crate::{account::Account, wire::Talk};

/// One connection's protocol. Requests are written to `out`; a reply is `None` while it is not whole, else its length.
pub trait Codec {
    /// Submits the payload with this number.
    fn submit(&mut self, number: u64, out: &mut Vec<u8>);
    /// The reply to a submit.
    fn submitted(&mut self, input: &[u8]) -> anyhow::Result<Option<usize>>;
    /// Claims one task.
    fn claim(&mut self, out: &mut Vec<u8>);
    /// The reply to a claim: its length, and the number of the payload that came, if one did.
    fn claimed(&mut self, input: &[u8]) -> anyhow::Result<Option<(usize, Option<u128>)>>;
    /// Completes the task of the last claim.
    fn complete(&mut self, out: &mut Vec<u8>);
    /// The reply to a completion.
    fn completed(&mut self, input: &[u8]) -> anyhow::Result<Option<usize>>;
}

/// Which phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As many submits as the account allows.
    Submit,
    /// Claims and completions until nothing is there.
    Drain,
    /// Submit, claim, complete, in turn.
    Cycle,
}

impl Kind {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::Submit, Self::Drain, Self::Cycle];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Drain => "drain",
            Self::Cycle => "cycle",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Start,
    Submit(u64),
    Claim,
    Complete,
    Empty,
}

/// A connection in a phase.
pub struct Phase<C> {
    codec: C,
    account: Account,
    kind: Kind,
    step: Step,
    /// Claims in a row that found nothing.
    empty: u32,
}

/// In a cycle a claim may find all that it sees taken by others, where a peer works on snapshots; not forever.
const MOST_EMPTY: u32 = 10_000;

impl<C: Codec> Phase<C> {
    /// For this phase.
    pub const fn new(codec: C, account: Account, kind: Kind) -> Self {
        Self {
            codec,
            account,
            kind,
            step: Step::Start,
            empty: 0,
        }
    }

    fn submit(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(number) = self.account.take() else {
            return false;
        };
        self.step = Step::Submit(number);
        self.codec.submit(number, out);
        true
    }

    fn claim(&mut self, out: &mut Vec<u8>) -> bool {
        self.step = Step::Claim;
        self.codec.claim(out);
        true
    }
}

impl<C: Codec> Talk for Phase<C> {
    fn ask(&mut self, closing: bool, out: &mut Vec<u8>) -> bool {
        match (self.step, self.kind) {
            (Step::Claim, _) => {
                self.step = Step::Complete;
                self.codec.complete(out);
                true
            }
            (_, _) if closing => false,
            (Step::Submit(_) | Step::Empty, Kind::Cycle) => self.claim(out),
            (_, Kind::Submit | Kind::Cycle) => self.submit(out),
            (Step::Empty, Kind::Drain) => false,
            (_, Kind::Drain) => self.claim(out),
        }
    }

    fn hear(&mut self, input: &[u8]) -> anyhow::Result<Option<usize>> {
        match self.step {
            Step::Submit(number) => {
                let length = self.codec.submitted(input)?;
                if length.is_some() {
                    self.account.submitted(number.into());
                }
                Ok(length)
            }
            Step::Claim => {
                let Some((length, got)) = self.codec.claimed(input)? else {
                    return Ok(None);
                };
                if let Some(number) = got {
                    self.empty = 0;
                    self.account.claimed(number);
                } else {
                    self.empty += 1;
                    self.step = Step::Empty;
                }
                if self.empty > MOST_EMPTY {
                    bail!("claims find nothing, though each connection submits before it claims");
                }
                Ok(Some(length))
            }
            Step::Complete => {
                let length = self.codec.completed(input)?;
                if length.is_some() {
                    self.account.completed(1);
                }
                Ok(length)
            }
            Step::Start | Step::Empty => bail!("a reply that nobody asked for"),
        }
    }

    /// A phase counts tasks that are through with it.
    fn weight(&self) -> u64 {
        match self.step {
            Step::Submit(_) => u64::from(self.kind == Kind::Submit),
            Step::Complete => 1,
            Step::Start | Step::Claim | Step::Empty => 0,
        }
    }
}
