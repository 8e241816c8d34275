//! Random walks, for bounds within which there are too many states to see all.

use std::thread;
use std::time::{Duration, Instant};

use stateright::{Expectation, Model, Property};

use super::report::{Finding, Report, Step, describe};
use super::state::State;
use super::steps::{Action, Partition};

/// Where a walk ends, if nothing ends it before.
const MAX_STEPS: usize = 150;

/// Walks at random until the time is over, or a rule is broken. The same seed takes the same walks.
pub fn walk(model: &Partition, seed: u64, threads: usize, limit: Duration) -> Report {
    let began = Instant::now();
    let walks = |thread: u64| walk_alone(model, Random::new(seed, thread), began + limit);
    let all: Vec<Walks> = thread::scope(|scope| {
        let started: Vec<_> = (0..threads as u64)
            .map(|thread| scope.spawn(move || walks(thread)))
            .collect();
        let ended = started.into_iter().filter_map(|it| it.join().ok());
        ended.collect()
    });
    let findings = model.properties().into_iter().enumerate();
    Report {
        generated: all.iter().map(|it| it.states).sum(),
        unique: None,
        depth: all.iter().map(|it| it.depth).max().unwrap_or(0),
        took: began.elapsed(),
        exhaustive: false,
        findings: findings
            .map(|(index, property)| Finding {
                name: property.name,
                is_rule: property.expectation == Expectation::Always,
                steps: all.iter().find_map(|it| it.found[index].clone()),
            })
            .collect(),
    }
}

/// What the walks of one thread have come to.
struct Walks {
    states: usize,
    depth: usize,
    /// Of every property, the steps to where it was found first.
    found: Vec<Option<Vec<String>>>,
}

fn walk_alone(model: &Partition, mut random: Random, end: Instant) -> Walks {
    let properties = model.properties();
    let mut walks = Walks {
        states: 0,
        depth: 0,
        found: vec![None; properties.len()],
    };
    while Instant::now() < end {
        let Some(mut state) = model.init_states().into_iter().next() else {
            break;
        };
        let mut path: Vec<Step> = Vec::new();
        while path.len() < MAX_STEPS {
            let Some((action, next)) = random.step(model, &state) else {
                break;
            };
            path.push((state, Some(action)));
            state = next;
            walks.states += 1;
            walks.depth = walks.depth.max(path.len());
            if walks.note(model, &properties, &path, &state) {
                return walks;
            }
        }
    }
    walks
}

impl Walks {
    /// Notes what is found in a state; whether that is a broken rule.
    fn note(
        &mut self,
        model: &Partition,
        properties: &[Property<Partition>],
        path: &[Step],
        state: &State,
    ) -> bool {
        let mut is_broken = false;
        for (property, found) in properties.iter().zip(&mut self.found) {
            let is_rule = property.expectation == Expectation::Always;
            if found.is_none() && (property.condition)(model, state) != is_rule {
                let mut path = path.to_vec();
                path.push((state.clone(), None));
                *found = Some(describe(&path));
                is_broken |= is_rule;
            }
        }
        is_broken
    }
}

/// A random order (xorshift64*, Vigna, 2016).
struct Random(u64);

impl Random {
    fn new(seed: u64, stream: u64) -> Self {
        Self((seed << 8 | stream | 1 << 63).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        drawn as usize % limit.max(1)
    }

    /// A step that changes something. What befalls the system is rarer than what it does, so that
    /// it gets somewhere in between.
    fn step(&mut self, model: &Partition, state: &State) -> Option<(Action, State)> {
        let mut actions = Vec::new();
        model.actions(state, &mut actions);
        while !actions.is_empty() {
            let place = self.below(actions.len());
            if actions[place].is_fate() && self.below(4) > 0 && self.below(actions.len()) > 0 {
                continue;
            }
            let action = actions.swap_remove(place);
            if let Some(next) = model.next_state(state, action.clone()) {
                return Some((action, next));
            }
        }
        None
    }
}
