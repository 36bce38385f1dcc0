//! The simulator: the real engine, queue, journal, spool and start over a disk, a clock and clients made of one number.
//!
//! [`run`] makes a world of a seed and lets it live several lives, each ended by a kill, a power cut, a fault or a stop, at
//! any operation of the disk, also while it starts. After each start an [oracle](oracle) says what must be there, and
//! at rest the [directory is held against the queue](settled). [`every_point`] takes one life and ends it at each operation
//! of the disk in turn.
//!
//! `WORKQUEUE_SEED=n cargo test --lib simulation` runs one seed again, with all that happened; `WORKQUEUE_SEEDS=count` and
//! `WORKQUEUE_HOURS=hours` run more (`tests/soak` runs it on all cores). A seed is good for one version of the sources.
//!
//! | file | its subject |
//! |---|---|
//! | `disk`, `nodes` | the disk, and what it says of itself that a real one may do |
//! | `world`, `hands` | the threads of the daemon, one thing at a time |
//! | `clients` | who asks, and who moves files |
//! | `watch` | the watcher, as far as the engine can tell |
//! | `oracle`, `told` | what must be there, and what clients may be told |
//! | `scenes` | what it found once, step by step |
//! | `settled` | what holds at rest |
//! | `temper` | what a seed makes of a world |
//! | `trace` | the last things that happened |
//! | `view` | looking into the engine |

mod chance;
mod clients;
mod disk;
mod hands;
mod nodes;
mod oracle;
mod scenes;
mod settled;
mod temper;
mod tests;
mod told;
mod trace;
mod view;
mod watch;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::{
    trace::{Held, Missed},
    world::{End, World},
};

/// How often a start may fail in a row for what was done to it.
const STARTS: u32 = 12;

/// One seed, from an empty disk to the end of its last life.
fn run(seed: u64, loud: bool) -> Result<(), Missed> {
    watched(seed, loud, |world| {
        for _ in 0..world.temper.lives {
            start(world)?;
            live(world)?;
        }
        world.temper.troubled = 0;
        start(world)?;
        if world.hold_at_rest()? {
            world.work_off()?;
            world.hold_at_rest()?;
        }
        Ok(())
    })
}

/// One life of a seed, ended at each operation of the disk in turn, each followed by a start that is ended, too, and one
/// that is not. Gives how many operations there were.
fn every_point(seed: u64, loud: bool) -> Result<u64, Missed> {
    let life = |world: &mut World, stop: Option<u64>| -> Held<u64> {
        world.temper.troubled = 0;
        world.temper.rots = false;
        world.disk.stop_after(stop);
        let mut up = world.open()?;
        for _ in 0..world.temper.turns.min(60) {
            if !up || world.over() {
                up = false;
                break;
            }
            world.turn()?;
        }
        if up {
            world.settle()?;
        }
        Ok(world.disk.changes())
    };
    let mut count = 0;
    watched(seed, false, |world| {
        count = life(world, None)?;
        Ok(())
    })?;
    for stop in 0..count {
        watched(seed, loud, |world| {
            life(world, Some(stop))?;
            let cut = world.is_synced() && stop % 3 != 0;
            world.end(if cut { End::PowerCut } else { End::Kill });
            world.disk.stop_after(Some(stop * 7 % 23));
            if !world.open()? || world.over() {
                world.end(if cut { End::PowerCut } else { End::Kill });
            }
            world.disk.stop_after(None);
            if world.life.is_none() {
                start(world)?;
            }
            world.hold_at_rest().map(drop)
        })
        .map_err(|missed| Missed {
            what: format!("stopped at operation {stop} of {count}: {}", missed.what),
            ..missed
        })?;
    }
    Ok(count)
}

/// Runs a world; what it missed, or what panicked in it, comes with its trace.
fn watched(seed: u64, loud: bool, go: impl FnOnce(&mut World) -> Held) -> Result<(), Missed> {
    let mut world = World::new(seed);
    world.trace.loud = loud;
    let went = catch_unwind(AssertUnwindSafe(|| go(&mut world)));
    let what = match went {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(what)) => what,
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            format!("panicked: {}", text.unwrap_or("without a word"))
        }
    };
    Err(Missed {
        what,
        trace: world.trace.text(),
    })
}

/// Starts until it is up: the disk may stop or fail while it starts, also twice in a row.
fn start(world: &mut World) -> Held {
    for tries in 0..STARTS {
        rot(world)?;
        let calm = tries + 3 > STARTS;
        if world.chance.one_in(3) && !calm {
            world.disk.stop_after(Some(world.chance.below(12)));
        }
        if world.chance.percent(world.temper.troubled) && world.chance.one_in(2) && !calm {
            trouble(world, 40);
        }
        let up = world.open()?;
        if up && !world.over() {
            world.disk.stop_after(None);
            world.disk.end_trouble();
            return Ok(());
        }
        let end = ending(world);
        world.end(end);
    }
    Err("it never comes up".to_owned())
}

/// One of the next `within` operations will fail.
fn trouble(world: &mut World, within: u64) {
    let chance = &mut world.chance;
    let (full, in_a_sync) = (chance.one_in(2), chance.one_in(3));
    let more = chance.below(within);
    world.disk.trouble_after(more, full, in_a_sync);
}

fn ending(world: &mut World) -> End {
    if world.chance.percent(world.temper.power_cuts) {
        End::PowerCut
    } else if world.is_synced() && world.chance.one_in(6) {
        End::Reboot
    } else {
        End::Kill
    }
}

/// One life: clients and everybody else, until it ends.
fn live(world: &mut World) -> Held {
    let turns = world.chance.below(world.temper.turns) + 5;
    let kind = world.chance.below(10);
    if kind < 6 {
        world.disk.stop_after(Some(world.chance.below(turns * 2)));
    }
    if world.chance.percent(world.temper.troubled) {
        trouble(world, turns * 2);
    }
    for _ in 0..turns {
        if world.over() {
            break;
        }
        world.turn()?;
    }
    if kind >= 8 && !world.over() {
        world.disk.end_trouble();
        world.hold_at_rest()?;
        world.disk.set_capacity(world.temper.capacity);
    }
    if kind == 9 && !world.over() {
        world.give(crate::engine::Input::Stop);
        world.give(crate::engine::Input::Close);
        world.settle()?;
    }
    let end = ending(world);
    world.end(end);
    Ok(())
}

/// A byte of a frame that a later one shows to be durable goes bad: a start must refuse, say so, and change nothing.
fn rot(world: &mut World) -> Held {
    if !world.temper.rots || !world.chance.one_in(3) {
        return Ok(());
    }
    let oracle = &world.oracle;
    let proven = oracle
        .frames
        .iter()
        .filter(|(seq, _)| **seq <= oracle.synced)
        .map(|(_, frame)| frame.durable)
        .max()
        .unwrap_or(0);
    let able: Vec<_> = oracle
        .frames
        .range(oracle.cut + 1..=proven.max(oracle.cut + 1))
        .filter(|(seq, _)| **seq <= proven)
        .map(|(seq, frame)| (*seq, *frame))
        .collect();
    if able.is_empty() {
        return Ok(());
    }
    let (seq, frame) = world.chance.pick(&able);
    let path = std::path::PathBuf::from(format!("journal/{:020}.wal", frame.segment));
    let at = (frame.offset + world.chance.below(frame.len)) as usize;
    if !world.disk.rot(&path, at) {
        return Ok(());
    }
    world
        .trace
        .note(|| format!("byte {at} of {} rots, in frame {seq}", path.display()));
    let opened = world.open();
    world.disk.rot(&path, at);
    match opened {
        Err(what) if what.contains("is damaged at byte") => Ok(()),
        Err(what) => Err(what),
        Ok(up) => Err(format!(
            "a start took a rotten journal for a good one ({up})"
        )),
    }
}
