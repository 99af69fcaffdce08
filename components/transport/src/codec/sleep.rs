//! Messages about sleepers and their wire form.

use proto::{
    convert::{Error, Result},
    raft as wire,
};
use store::{Section, SleepDigest, SleepMessage, SleepOffer, Sleeper, SleeperList};
use types::{Incarnation, Index, PeerId, RegionId, Term};
use wire::store_message::Message as Body;

use super::{ITEM_OVERHEAD_BYTES, non_zero};

/// What an offer counts: six numbers of up to ten bytes, each with its tag.
const OFFER_BYTES: usize = 3 * ITEM_OVERHEAD_BYTES;

/// About how many bytes a message takes beside what every message does.
pub(super) fn size_of(message: &SleepMessage) -> usize {
    match message {
        SleepMessage::Offer { offers, .. } | SleepMessage::Agreed { offers, .. } => {
            offers.len() * OFFER_BYTES
        }
        SleepMessage::Wake(sleepers) | SleepMessage::NotLed(sleepers) => sleepers.len() * ITEM_OVERHEAD_BYTES,
        SleepMessage::Sleepers(list) => list.sleepers.len() * ITEM_OVERHEAD_BYTES,
        SleepMessage::Digest(_) | SleepMessage::Compare => 0,
    }
}

pub(super) fn encode(message: SleepMessage) -> Body {
    let of_offers = |offers: Vec<SleepOffer>| offers.into_iter().map(encode_offer).collect();
    let of_sleepers = |sleepers: Vec<Sleeper>| sleepers.into_iter().map(encode_sleeper).collect();
    match message {
        SleepMessage::Offer { incarnation, offers } => {
            Body::SleepOffers(wire::SleepOffers { incarnation: incarnation.0, offers: of_offers(offers) })
        }
        SleepMessage::Agreed { leader_incarnation, follower_incarnation, offers } => {
            Body::SleepAgreed(wire::SleepAgreed {
                leader_incarnation: leader_incarnation.0,
                follower_incarnation: follower_incarnation.0,
                offers: of_offers(offers),
            })
        }
        SleepMessage::Wake(sleepers) => Body::SleepWake(wire::SleepWake { regions: of_sleepers(sleepers) }),
        SleepMessage::NotLed(sleepers) => {
            Body::SleepNotLed(wire::SleepNotLed { regions: of_sleepers(sleepers) })
        }
        SleepMessage::Digest(SleepDigest { count, sum }) => {
            Body::SleepDigest(wire::SleepDigest { count, sum })
        }
        SleepMessage::Compare => Body::SleepCompare(wire::SleepCompare {}),
        SleepMessage::Sleepers(SleeperList { section, sleepers }) => Body::SleeperList(wire::SleeperList {
            first_region_id: section.first.0,
            last_region_id: section.last.0,
            at: section.at,
            count: section.count,
            sleepers: of_sleepers(sleepers),
        }),
    }
}

pub(super) fn decode_offers(offers: wire::SleepOffers) -> Result<SleepMessage> {
    Ok(SleepMessage::Offer {
        incarnation: Incarnation(offers.incarnation),
        offers: offers.offers.into_iter().map(decode_offer).collect::<Result<_>>()?,
    })
}

pub(super) fn decode_agreed(agreed: wire::SleepAgreed) -> Result<SleepMessage> {
    Ok(SleepMessage::Agreed {
        leader_incarnation: Incarnation(agreed.leader_incarnation),
        follower_incarnation: Incarnation(agreed.follower_incarnation),
        offers: agreed.offers.into_iter().map(decode_offer).collect::<Result<_>>()?,
    })
}

pub(super) fn decode_sleepers(sleepers: Vec<wire::Sleeper>) -> Result<Vec<Sleeper>> {
    sleepers.into_iter().map(decode_sleeper).collect()
}

pub(super) fn decode_digest(digest: wire::SleepDigest) -> SleepMessage {
    SleepMessage::Digest(SleepDigest { count: digest.count, sum: digest.sum })
}

/// A list whose sleepers are out of order would not be found in, and wake who sleeps rightly.
pub(super) fn decode_list(list: wire::SleeperList) -> Result<SleepMessage> {
    let sleepers = decode_sleepers(list.sleepers)?;
    let section = Section {
        first: RegionId(list.first_region_id),
        last: RegionId(list.last_region_id),
        at: list.at,
        count: non_zero(list.count, "SleeperList", "count")?,
    };
    if !sleepers.is_sorted() {
        return Err(Error::Inconsistent { message: "SleeperList", reason: "the regions are out of order" });
    }
    Ok(SleepMessage::Sleepers(SleeperList { section, sleepers }))
}

fn encode_offer(offer: SleepOffer) -> wire::SleepOffer {
    wire::SleepOffer {
        region_id: offer.region_id.0,
        leader_peer_id: offer.leader.0,
        follower_peer_id: offer.follower.0,
        term: offer.term.0,
        last_index: offer.last_index.0,
        number: offer.number,
    }
}

fn decode_offer(offer: wire::SleepOffer) -> Result<SleepOffer> {
    Ok(SleepOffer {
        region_id: RegionId(non_zero(offer.region_id, "SleepOffer", "region_id")?),
        leader: PeerId(non_zero(offer.leader_peer_id, "SleepOffer", "leader_peer_id")?),
        follower: PeerId(non_zero(offer.follower_peer_id, "SleepOffer", "follower_peer_id")?),
        term: Term(offer.term),
        last_index: Index(offer.last_index),
        number: offer.number,
    })
}

fn encode_sleeper(sleeper: Sleeper) -> wire::Sleeper {
    wire::Sleeper { region_id: sleeper.region_id.0, term: sleeper.term.0 }
}

fn decode_sleeper(sleeper: wire::Sleeper) -> Result<Sleeper> {
    Ok(Sleeper {
        region_id: RegionId(non_zero(sleeper.region_id, "Sleeper", "region_id")?),
        term: Term(sleeper.term),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn every_kind() -> Vec<SleepMessage> {
        let largest = u64::MAX;
        let offer = |id| SleepOffer {
            region_id: RegionId(id),
            leader: PeerId(largest),
            follower: PeerId(largest),
            term: Term(largest),
            last_index: Index(largest),
            number: largest - 1,
        };
        let offers: Vec<_> = [1, largest].map(offer).to_vec();
        let sleepers: Vec<_> =
            [1, 2, largest].map(|id| Sleeper { region_id: RegionId(id), term: Term(largest) }).to_vec();
        let section = Section { first: RegionId(0), last: RegionId(largest), at: 3, count: 4 };
        vec![
            SleepMessage::Offer { incarnation: Incarnation(7), offers: offers.clone() },
            SleepMessage::Agreed {
                leader_incarnation: Incarnation(7),
                follower_incarnation: Incarnation(8),
                offers,
            },
            SleepMessage::Wake(sleepers.clone()),
            SleepMessage::NotLed(sleepers.clone()),
            SleepMessage::Digest(SleepDigest { count: 3, sum: largest }),
            SleepMessage::Compare,
            SleepMessage::Sleepers(SleeperList { section, sleepers }),
        ]
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(decode_offer(wire::SleepOffer::default()).is_err());
        assert!(decode_sleeper(wire::Sleeper::default()).is_err());
        let sleepers = [2, 1].map(|region_id| wire::Sleeper { region_id, term: 1 }).to_vec();
        let list = wire::SleeperList { count: 1, last_region_id: 9, sleepers, ..Default::default() };
        assert!(decode_list(list.clone()).is_err(), "they are out of order");
        let sorted = wire::SleeperList { sleepers: list.sleepers[1..].to_vec(), ..list };
        assert!(decode_list(sorted.clone()).is_ok());
        assert!(decode_list(wire::SleeperList { count: 0, ..sorted }).is_err(), "nothing divides by zero");
    }
}
