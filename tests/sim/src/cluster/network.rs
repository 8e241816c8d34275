//! The network: it loses, delays, reorders and repeats, and links are cut in one direction or both.

use std::collections::{BTreeMap, BTreeSet};

use super::dice::Dice;
use super::packet::{Node, Packet};
use super::queue::{Event, Queue};

/// What happens to packets, in microseconds and per thousand.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    pub(crate) delay_us: (u64, u64),
    pub(crate) loss: u64,
    pub(crate) repeat: u64,
    /// A packet that is late is so by up to this.
    pub(crate) late: u64,
    pub(crate) late_us: u64,
    /// Whether packets of a link stay in order, but for those that are repeated.
    pub(crate) ordered: bool,
}

impl Weather {
    /// As a network within one building is.
    pub(crate) fn calm() -> Self {
        Self {
            delay_us: (50, 300),
            loss: 0,
            repeat: 0,
            late: 0,
            late_us: 0,
            ordered: true,
        }
    }

    pub(crate) fn any(dice: &mut Dice) -> Self {
        Self {
            delay_us: (50, dice.within(100, 4_000)),
            loss: dice.pick(&[0, 0, 5, 20, 80]).unwrap_or(0),
            repeat: dice.pick(&[0, 5, 50]).unwrap_or(0),
            late: dice.pick(&[0, 10, 50]).unwrap_or(0),
            late_us: dice.within(5_000, 300_000),
            ordered: dice.happens(500),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Network {
    dice: Dice,
    pub(crate) weather: Weather,
    /// Directions in which nothing gets through.
    pub(crate) cut: BTreeSet<(Node, Node)>,
    /// When the last packet of each link arrives.
    arrives_us: BTreeMap<(Node, Node), u64>,
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
}

impl Network {
    pub(crate) fn new(dice: Dice, weather: Weather) -> Self {
        Self {
            dice,
            weather,
            cut: BTreeSet::new(),
            arrives_us: BTreeMap::new(),
            sent: 0,
            lost: 0,
            repeated: 0,
        }
    }

    pub(crate) fn send(&mut self, queue: &mut Queue, from: Node, to: Node, packet: Packet) {
        self.sent += 1;
        if self.cut.contains(&(from, to)) || self.dice.happens(self.weather.loss) {
            self.lost += 1;
            return;
        }
        if self.dice.happens(self.weather.repeat) {
            self.repeated += 1;
            let delay_us = self.delay_us();
            let packet = Box::new(packet.clone());
            queue.push(delay_us, Event::Arrives { from, to, packet });
        }
        let mut delay_us = self.delay_us();
        if self.weather.ordered {
            let last_us = self.arrives_us.entry((from, to)).or_insert(0);
            *last_us = (*last_us).max(queue.now_us + delay_us);
            delay_us = *last_us - queue.now_us;
        }
        let packet = Box::new(packet);
        queue.push(delay_us, Event::Arrives { from, to, packet });
    }

    fn delay_us(&mut self) -> u64 {
        let (low, high) = self.weather.delay_us;
        let mut delay_us = self.dice.within(low, high);
        if self.dice.happens(self.weather.late) {
            delay_us += self.dice.below(self.weather.late_us);
        }
        delay_us
    }

    /// Whether a packet under way still gets there.
    pub(crate) fn delivers(&self, from: Node, to: Node) -> bool {
        !self.cut.contains(&(from, to))
    }
}
