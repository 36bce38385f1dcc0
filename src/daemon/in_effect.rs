//! [`InEffect`]: the limits that hold where the machine, or `max_memory`, leaves less than the settings would allow.

use rustix::process::{Resource, getrlimit};

use super::memory::{self, Shares};
use crate::{
    api,
    config::{Settings, limits, shown_size},
};

/// See the [module](self). All but the first are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InEffect {
    pub(super) max_connections: u64,
    pub(super) max_in_flight: u64,
    /// `None`: nothing limits memory.
    pub(super) max_memory: Option<u64>,
    pub(super) max_submitting: u64,
    pub(super) payload_cache: u64,
    /// What all waiting claims may take, for which there is no setting of its own.
    pub(super) waiting: u64,
}

impl InEffect {
    /// By what the process may take now: its control group's memory, and its descriptors.
    pub(super) fn of(settings: &Settings) -> Self {
        // The journal, task files and those who are turned away need descriptors too: connections may not take them all.
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self::with(
            settings,
            memory::limit(settings.bounds.max_memory),
            descriptors / 4 * 3,
        )
    }

    fn with(settings: &Settings, max_memory: Option<u64>, descriptors: u64) -> Self {
        let (bounds, connections) = (&settings.bounds, &settings.connections);
        let shares = Shares::of(max_memory);
        Self {
            max_connections: shares
                .connections(connections.most, connections.max_head)
                .min(descriptors),
            max_in_flight: shares.in_flight(bounds.max_in_flight),
            max_memory,
            max_submitting: shares
                .submitting(bounds.max_submitting)
                .max(settings.max_body),
            payload_cache: settings
                .payload_cache
                .unwrap_or_else(|| shares.payload_cache(limits::PAYLOAD_CACHE)),
            waiting: shares.waiting(),
        }
    }

    /// Says beside each setting what holds, where that is something else.
    pub(super) fn tell(&self, shown: &mut [api::Setting]) {
        for setting in shown {
            let holds = match setting.key.as_str() {
                "max_connections" => Some(self.max_connections.to_string()),
                "max_in_flight" => Some(shown_size(self.max_in_flight)),
                "max_memory" => self.max_memory.map(shown_size),
                "max_submitting" => Some(shown_size(self.max_submitting)),
                "payload_cache" => Some(shown_size(self.payload_cache)),
                _ => None,
            };
            setting.in_effect = holds.filter(|holds| *holds != setting.value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flags, Surroundings};

    #[test]
    fn what_holds_is_told_beside_each_setting_for_which_there_is_less() {
        // One body is always taken, whatever the share.
        let vars = [("HOME", "/home/ada"), ("WORKQUEUE_MAX_IN_FLIGHT", "3MiB")];
        let surroundings = Surroundings::of_test(1000, &vars);
        let settings = Settings::load(&Flags::default(), &surroundings).unwrap();
        let told = |in_effect: InEffect| -> Vec<(String, String)> {
            let mut shown = settings.settings();
            in_effect.tell(&mut shown);
            let held = |one: api::Setting| Some((one.key, one.in_effect?));
            shown.into_iter().filter_map(held).collect()
        };
        let plenty = InEffect::with(&settings, None, u64::MAX);
        assert_eq!(told(plenty), []);
        let of_a_group = InEffect::with(&settings, Some(96 << 20), 300);
        let pairs = [
            ("max_connections", "236"),
            ("max_memory", "96MiB"),
            ("max_submitting", "16MiB"),
            ("payload_cache", "6MiB"),
        ];
        let pairs = pairs.map(|(key, holds)| (key.to_owned(), holds.to_owned()));
        assert_eq!(told(of_a_group), pairs);
        let few = InEffect::with(&settings, None, 300);
        assert_eq!(told(few), [("max_connections".into(), "300".into())]);
    }
}
