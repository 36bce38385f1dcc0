//! What clients are told, held against the frames that are durable.

use super::{
    oracle::{Facts, Oracle, Stage},
    trace::Held,
};
use crate::{
    backend::Error,
    engine::{Request, Response},
    task::{Millis, Now, Refusal, TaskId, TaskView, Token},
};

/// An answer that a client has heard.
pub(super) struct Told<'a> {
    pub(super) request: &'a Request,
    /// The last frame that was handed out when it asked.
    pub(super) floor: u64,
    pub(super) result: &'a Result<Response, Error>,
}

impl Oracle {
    /// Holds an answer against what is durable.
    pub(super) fn heard(&self, told: &Told<'_>, now: Now) -> Held {
        let answer = match told.result {
            Ok(response) => self.heard_yes(told, response),
            Err(Error::Refused(refusal)) => self.heard_no(told.request, refusal, now),
            // Whether it was done is not known.
            Err(Error::Fault(_)) => Ok(()),
        };
        answer.map_err(|what| format!("{what}\nasked {:?}\ntold {:?}", told.request, told.result))
    }

    fn heard_yes(&self, told: &Told<'_>, response: &Response) -> Held {
        match (told.request, response) {
            (Request::Submit(asked), Response::Submitted(outcomes)) => {
                if asked.len() != outcomes.len() {
                    return Err("not each task has its outcome".to_owned());
                }
                for (asked, outcome) in asked.iter().zip(outcomes) {
                    let view = &outcome.task;
                    if outcome.created && view.payload != asked.payload {
                        return Err(format!("{} has another payload", view.id));
                    }
                    let floor = outcome.created.then_some(told.floor);
                    self.rests(view.id, floor, |facts| shows(facts, view))?;
                }
                Ok(())
            }
            (Request::Claim(asked), Response::Claimed(answer)) => {
                for (view, token) in &answer.tasks {
                    let leased = |facts: Option<&Facts>| {
                        let lease = facts.and_then(|facts| facts.lease.as_ref());
                        shows(facts, view) && lease.is_some_and(|lease| lease.token == *token)
                    };
                    self.rests(view.id, Some(told.floor), leased)?;
                }
                for (one, outcome) in asked.complete.iter().zip(&answer.completed) {
                    if outcome.1.is_ok() {
                        self.rests(one.id, Some(told.floor), |facts| facts.is_none())?;
                    }
                }
                Ok(())
            }
            (Request::Complete(id, ..) | Request::Cancel(id), Response::Done) => {
                self.rests(*id, Some(told.floor), |facts| facts.is_none())
            }
            (Request::Release(id, _), Response::Done) => {
                let waits = |facts: Option<&Facts>| {
                    facts.is_some_and(|facts| facts.stage == Stage::Waiting)
                };
                self.rests(*id, Some(told.floor), waits)
            }
            (Request::Extend(id, token, length), Response::Expires(_)) => {
                let extended = |facts: Option<&Facts>| extends(facts, *token, *length);
                self.rests(*id, Some(told.floor), extended)
            }
            (
                Request::Fail(id, ..) | Request::Reschedule(id, _) | Request::Retry(id),
                Response::Task(view),
            ) => self.rests(*id, Some(told.floor), |facts| shows(facts, view)),
            (Request::Task(id), Response::Task(view)) => {
                self.rests(*id, None, |facts| shows(facts, view))
            }
            (Request::Tasks(_), Response::Page(page)) => page
                .tasks
                .iter()
                .try_for_each(|view| self.rests(view.id, None, |facts| shows(facts, view))),
            _ => Ok(()),
        }
    }

    fn heard_no(&self, request: &Request, refusal: &Refusal, now: Now) -> Held {
        match refusal {
            Refusal::NoRoom if ends(request) && self.has_segment => {
                Err("the end of a task was refused for want of room".to_owned())
            }
            Refusal::StaleToken(id) => {
                let lease = self.latest().get(id).and_then(|facts| facts.lease.as_ref());
                let holds = lease.is_some_and(|lease| {
                    Some(lease.token) == token_of(request) && lease.expires > now.tick
                });
                if holds {
                    Err(format!("the lease of {id} did not hold"))
                } else {
                    Ok(())
                }
            }
            Refusal::NoSuchTask(id) => self.rests(*id, None, |facts| facts.is_none()),
            _ => Ok(()),
        }
    }

    /// That a durable frame, behind `floor` if there is one, made the task what `fits` says.
    fn rests(&self, id: TaskId, floor: Option<u64>, fits: impl Fn(Option<&Facts>) -> bool) -> Held {
        if floor.is_none() && fits(self.at_start(id)) {
            return Ok(());
        }
        let changes = self.history.get(&id).into_iter().flatten();
        let mut durable = changes.filter(|(seq, _)| *seq <= self.synced);
        if durable
            .any(|(seq, facts)| floor.is_none_or(|floor| *seq > floor) && fits(facts.as_ref()))
        {
            return Ok(());
        }
        Err(format!(
            "the answer about {id} rests on no durable frame (the last is {}, of {})",
            self.synced, self.handed
        ))
    }
}

/// Whether a task that stood so would be shown so.
pub(super) fn shows(facts: Option<&Facts>, view: &TaskView) -> bool {
    facts.is_some_and(|facts| {
        facts.queue == view.queue
            && facts.priority == view.priority
            && facts.exectime == view.exectime
            && facts.options == view.options
            && facts.attempts == view.attempts
            && facts.stage == Stage::of(view.state)
            && facts.error == view.last_error
            && facts
                .payload
                .as_ref()
                .is_none_or(|there| there.same_value(&view.payload))
            && facts.lease.is_some() == view.lease.is_some()
    })
}

fn extends(facts: Option<&Facts>, token: Token, length: Option<Millis>) -> bool {
    let lease = facts.and_then(|facts| facts.lease.as_ref());
    lease.is_some_and(|lease| {
        lease.token == token && length.is_none_or(|length| length == lease.length)
    })
}

/// Whether a request ends a task, or an attempt: for that there is always room.
const fn ends(request: &Request) -> bool {
    matches!(
        request,
        Request::Complete(..) | Request::Fail(..) | Request::Release(..) | Request::Cancel(_)
    )
}

const fn token_of(request: &Request) -> Option<Token> {
    match request {
        Request::Complete(_, token, _) => *token,
        Request::Fail(_, token, _) | Request::Release(_, token) | Request::Extend(_, token, _) => {
            Some(*token)
        }
        _ => None,
    }
}
