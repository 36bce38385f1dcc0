//! What an answer says of the completions that its request carried.

use super::flight::Kept;
use crate::{
    api,
    client::{ClientError, same_task},
    task::Payload,
};

/// What an answer says of the completion that was sent `at` that place. Outcomes come in the order of the completions, of which two may
/// be of one task that was claimed twice.
pub(super) fn outcome_of<'a>(
    outcomes: &'a [api::CompletionOutcome],
    at: usize,
    kept: &Kept,
) -> Option<&'a api::CompletionOutcome> {
    let is_its = |outcome: &&api::CompletionOutcome| same_task(&outcome.id, &kept.completion.id);
    let in_its_place = outcomes.get(at).filter(is_its);
    in_its_place.or_else(|| outcomes.iter().find(is_its))
}

/// Leaves out the result that a refusal names (`complete[1].result`); where that is too large, also those that are no smaller. Whether
/// there is such a one.
pub(super) fn leave_out_named(carried: &mut [Kept], error: &ClientError) -> bool {
    let ClientError::Problem(problem) = error else {
        return false;
    };
    let place = problem.field.as_deref().and_then(|field| {
        let place = field.strip_prefix("complete[")?.strip_suffix("].result")?;
        place.parse::<usize>().ok()
    });
    let size = |kept: &Kept| kept.completion.result.as_ref().map(Payload::len);
    let Some((place, named)) = place.and_then(|place| Some((place, size(carried.get(place)?)?)))
    else {
        return false;
    };
    for (at, kept) in carried.iter_mut().enumerate() {
        let is_as_large = is_too_large(error) && size(kept).is_some_and(|size| size >= named);
        if at == place || is_as_large {
            kept.leave_out_result(error);
        }
    }
    true
}

/// Whether a completion that was sent alone may have been refused because of its result. Where the daemon names no field there
/// is nothing else in it that could be wrong: id and token are its own.
pub(super) fn may_mean_result(error: &ClientError) -> bool {
    match error {
        ClientError::Problem(problem) if problem.status == 400 => problem
            .field
            .as_ref()
            .is_none_or(|field| field.ends_with("result")),
        error => is_too_large(error),
    }
}

/// Whether the request was too large, for the daemon or for a proxy before it, whose answer is no problem document.
pub(super) fn is_too_large(error: &ClientError) -> bool {
    error.status() == Some(413)
}

/// Whether the daemon refuses a report for good. Where it is not called what the worker calls it, or nothing is at the path, the
/// refusal says nothing of the task: the address is wrong just now, and a report that is kept may arrive yet.
pub(super) fn is_for_good(error: &ClientError) -> bool {
    let is_of_address = match error {
        ClientError::Problem(problem) => {
            matches!(problem.status, 405 | 421) || problem.kind.ends_with("/not-found")
        }
        _ => false,
    };
    error.is_final() && !is_of_address
}
