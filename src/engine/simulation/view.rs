//! Looking into the engine, in one place: how its state is shown to the oracle.

use std::collections::BTreeMap;

use super::{
    oracle::{Facts, Lease, Stage, Switches},
    trace::Held,
};
use crate::{
    backend::Answer,
    engine::{Engine, Response},
    task::{EventKind, Happening, Now, PageQuery, State, TaskId},
};

/// All tasks in hand-out order, as the queue has them.
pub(super) fn in_order(engine: &Engine) -> Vec<TaskId> {
    let query = PageQuery {
        queue: None,
        state: None,
        id_prefix: None,
        limit: 1 << 30,
        after: None,
    };
    let page = engine.queue.page(&query);
    page.map_or_else(|_| Vec::new(), |page| page.0)
}

/// Whether payloads are held for a request that waits for others.
pub(super) fn holds_some(engine: &Engine) -> bool {
    !engine.bodies.holds_none()
}

/// All tasks, as the queue has them; their payloads are not looked at.
pub(super) fn facts(engine: &Engine, boot: u8) -> BTreeMap<TaskId, Facts> {
    let ids = in_order(engine);
    let one = |id: TaskId| {
        let entry = engine.queue.get(id)?;
        let lease = entry.lease().map(|lease| Lease {
            token: lease.token,
            worker: lease.worker.clone(),
            length: lease.length,
            expires: lease.expires,
            boot,
        });
        let facts = Facts {
            queue: engine.queue.queue_of(entry).clone(),
            priority: entry.priority,
            exectime: entry.exectime,
            options: entry.options().cloned().unwrap_or_default(),
            attempts: entry.attempts,
            stage: Stage::of(entry.state),
            lease,
            error: entry.last_error().cloned(),
            payload: None,
        };
        Some((id, facts))
    };
    past_agrees(engine);
    assert!(engine.each_has_its_size(), "sizes are of other tasks");
    ids.into_iter().filter_map(one).collect()
}

/// That what is kept of the past is of tasks that are there, and ends as their present says.
fn past_agrees(engine: &Engine) {
    for id in engine.past.ids() {
        let entry = engine.queue.get(id).expect("a task that is there");
        let history = engine.history_of(id).expect("its history");
        let error = |happening: &Happening| happening.error.clone();
        let last = history.happenings.iter().rev().find_map(error);
        assert!(last.is_none() || last.as_ref() == entry.last_error());
        let present = history.happenings.last().map(|last| last.kind);
        let claimed = present == Some(EventKind::Claimed);
        assert_eq!(claimed, entry.state == State::Leased, "{id}");
    }
}

/// How many task files are not as they should be.
pub(super) fn unsettled(engine: &Engine) -> usize {
    engine.files.len()
}

/// A check of the switches.
pub(super) fn switches(engine: &Engine, now: Now) -> impl Fn(&Switches) -> Held {
    let all = engine.queue.switches();
    let views = engine.queue.queue_views(now);
    move |expected| {
        let wanted = (
            expected.paused.contains(&None),
            expected.draining.contains(&None),
        );
        if all != wanted {
            return Err(format!("the switches are {all:?}, they were {wanted:?}"));
        }
        for view in &views {
            let is = (view.paused, view.draining);
            let was = (
                Switches::holds(&expected.paused, &view.name),
                Switches::holds(&expected.draining, &view.name),
            );
            if is != was {
                return Err(format!(
                    "queue {}: switches {is:?}, they were {was:?}",
                    view.name
                ));
            }
        }
        for queue in expected.paused.iter().chain(&expected.draining).flatten() {
            if !views.iter().any(|view| view.name == *queue) {
                return Err(format!("queue {queue} was switched, and is gone"));
            }
        }
        Ok(())
    }
}

/// An answer in a line.
pub(super) fn short(result: &Answer<Response>) -> String {
    match result {
        Ok(Response::Submitted(outcomes)) => {
            let all = outcomes
                .iter()
                .map(|one| format!("{}{}", if one.created { "+" } else { "=" }, one.task.id));
            all.collect::<Vec<_>>().join(" ")
        }
        Ok(Response::Claimed(answer)) => {
            let got: Vec<String> = answer
                .tasks
                .iter()
                .map(|(task, token)| format!("{} by {:.6}", task.id, token.to_string()))
                .collect();
            format!("got [{}] completed {:?}", got.join(" "), answer.completed)
        }
        Ok(Response::Page(page)) => format!("{} tasks", page.tasks.len()),
        Ok(Response::Task(task)) => format!("{} {}", task.id, task.state),
        other => format!("{other:?}"),
    }
}
