//! When, how often and whether a message arrives.
//!
//! Between two sites each direction and lane is a queue like a TCP stream: it keeps its order unless a draw says
//! otherwise (a new connection overtakes an old one). Loss, repetition and overtaking are drawn for each batch, with
//! rates that are drawn for each run. A cut link loses what is sent while it is cut; what was under way still arrives.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use store::Lane;

use super::{HostId, Moment, Rng};

/// Where messages come from and go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// The machine of a store.
    Host(HostId),
    /// A client, by number.
    Client(usize),
    /// The operator's machine.
    Operator,
}

/// What the network does with a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives, at each of these moments.
    Arrives(Vec<Moment>),
    /// It is lost and nobody is told.
    Lost,
    /// The link is cut.
    Cut,
}

/// Rates of one run.
#[derive(Clone, Debug)]
pub struct Rates {
    /// Batches lost, in a thousand.
    pub loss_permille: u64,
    /// Batches that arrive twice.
    pub repeat_permille: u64,
    /// Batches that leave their place in the order.
    pub overtake_permille: u64,
    /// The shortest delay.
    pub delay_min: Duration,
    /// The longest delay.
    pub delay_max: Duration,
}

/// Every link.
pub struct Network {
    rng: Rng,
    rates: Rates,
    is_calm: bool,
    cuts: BTreeSet<(Site, Site)>,
    last_arrivals: BTreeMap<(Site, Site, Lane), Moment>,
}

impl Rates {
    /// A good network: nothing is lost, nothing comes twice, everything comes soon.
    pub const GOOD: Rates = Rates {
        loss_permille: 0,
        repeat_permille: 0,
        overtake_permille: 0,
        delay_min: Duration::from_micros(50),
        delay_max: Duration::from_millis(2),
    };

    /// Rates for a run: mostly a good network, sometimes a bad one.
    #[must_use]
    pub fn of_run(rng: &mut Rng) -> Rates {
        let mut rate = |max: u64| if rng.happens(500) { 0 } else { rng.below(max + 1) };
        let (loss_permille, repeat_permille, overtake_permille) = (rate(40), rate(50), rate(50));
        let delay_min = rng.duration(Duration::from_micros(30), Duration::from_micros(400));
        let delay_max = rng.skewed(Duration::from_millis(1), Duration::from_millis(40));
        Rates { loss_permille, repeat_permille, overtake_permille, delay_min, delay_max }
    }
}

impl Network {
    /// A whole network with these rates.
    #[must_use]
    pub fn new(rng: Rng, rates: Rates) -> Network {
        Network { rng, rates, is_calm: false, cuts: BTreeSet::new(), last_arrivals: BTreeMap::new() }
    }

    /// From now on.
    pub fn set_rates(&mut self, rates: Rates) {
        self.rates = rates;
    }

    /// No loss, repetition or overtaking from now on, and every link is whole.
    pub fn calm(&mut self) {
        self.is_calm = true;
        self.cuts.clear();
    }

    /// Cuts one direction.
    pub fn cut(&mut self, from: Site, to: Site) {
        self.cuts.insert((from, to));
    }

    /// Makes one direction whole again.
    pub fn mend(&mut self, from: Site, to: Site) {
        self.cuts.remove(&(from, to));
    }

    /// Makes every link whole again.
    pub fn mend_all(&mut self) {
        self.cuts.clear();
    }

    /// Whether nothing gets from one site to another.
    #[must_use]
    pub fn is_cut(&self, from: Site, to: Site) -> bool {
        self.cuts.contains(&(from, to))
    }

    /// What happens to a batch that is sent now.
    pub fn send(&mut self, now: Moment, from: Site, to: Site, lane: Lane) -> Fate {
        if self.is_cut(from, to) {
            return Fate::Cut;
        }
        if !self.is_calm && self.rng.happens(self.rates.loss_permille) {
            return Fate::Lost;
        }
        let mut arrivals = vec![self.arrival(now, from, to, lane)];
        if !self.is_calm && self.rng.happens(self.rates.repeat_permille) {
            arrivals.push(arrivals[0] + self.rng.skewed(self.rates.delay_min, Duration::from_millis(500)));
        }
        Fate::Arrives(arrivals)
    }

    fn arrival(&mut self, now: Moment, from: Site, to: Site, lane: Lane) -> Moment {
        let drawn = now + self.rng.skewed(self.rates.delay_min, self.rates.delay_max);
        if !self.is_calm && self.rng.happens(self.rates.overtake_permille) {
            return drawn;
        }
        let last = self.last_arrivals.entry((from, to, lane)).or_default();
        *last = drawn.max(Moment(last.0 + 1));
        *last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Site = Site::Host(HostId(1));
    const TWO: Site = Site::Host(HostId(2));

    fn network(loss_permille: u64, repeat_permille: u64, overtake_permille: u64) -> Network {
        let (delay_min, delay_max) = (Duration::from_micros(50), Duration::from_millis(5));
        let rates = Rates { loss_permille, repeat_permille, overtake_permille, delay_min, delay_max };
        Network::new(Rng::new(1, "network"), rates)
    }

    fn arrivals(network: &mut Network, count: u64) -> Vec<Fate> {
        (0..count).map(|at| network.send(Moment(at * 1_000), ONE, TWO, Lane::Append)).collect()
    }

    fn first(fate: &Fate) -> Moment {
        match fate {
            Fate::Arrives(moments) => moments[0],
            Fate::Lost | Fate::Cut => panic!("the message was to arrive"),
        }
    }

    #[test]
    fn a_lane_keeps_its_order_unless_overtaking_is_drawn() {
        let kept = arrivals(&mut network(0, 0, 0), 200);
        assert!(kept.windows(2).all(|pair| first(&pair[0]) < first(&pair[1])));
        let overtaken = arrivals(&mut network(0, 0, 500), 200);
        assert!(overtaken.windows(2).any(|pair| first(&pair[0]) > first(&pair[1])));
    }

    #[test]
    fn loss_and_repetition_happen_until_the_network_is_calm() {
        let mut network = network(300, 300, 300);
        let fates = arrivals(&mut network, 200);
        assert!(fates.contains(&Fate::Lost));
        assert!(fates.iter().any(|fate| matches!(fate, Fate::Arrives(moments) if moments.len() == 2)));
        network.calm();
        let fates = arrivals(&mut network, 200);
        assert!(fates.iter().all(|fate| matches!(fate, Fate::Arrives(moments) if moments.len() == 1)));
    }

    #[test]
    fn a_cut_has_a_direction() {
        let mut network = network(0, 0, 0);
        network.cut(ONE, TWO);
        assert_eq!(network.send(Moment::ZERO, ONE, TWO, Lane::Liveness), Fate::Cut);
        assert!(matches!(network.send(Moment::ZERO, TWO, ONE, Lane::Liveness), Fate::Arrives(_)));
        network.mend(ONE, TWO);
        assert!(matches!(network.send(Moment::ZERO, ONE, TWO, Lane::Liveness), Fate::Arrives(_)));
    }
}
