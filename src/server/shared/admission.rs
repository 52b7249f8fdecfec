//! Who has a place at the server: strangers, who have not shown that they hold a key, and those who have.
//!
//! Strangers have places of their own, so that they take none from others: when there are no more, the oldest of them
//! makes room for the next. Nobody is looked for at that moment: connections are numbered in the order in which they came, and
//! every worker closes those of its strangers that are not newer than [`makes_room`](Admission::makes_room) says.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use parking_lot::Mutex;

/// How many connections may be open.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) struct AdmissionLimits {
    pub(in crate::server) unestablished: usize,
    pub(in crate::server) established: usize,
    /// Established ones of one IP address.
    pub(in crate::server) of_peer: Option<usize>,
}

impl Default for AdmissionLimits {
    fn default() -> Self {
        Self { unestablished: 1024, established: 65_536, of_peer: None }
    }
}

#[derive(Debug)]
pub(in crate::server) struct Admission {
    limits: AdmissionLimits,
    /// The number of the newest connection that makes room, and every older stranger with it.
    makes_room: AtomicU64,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    /// Those that have not been told to make room.
    strangers: BTreeSet<u64>,
    established: usize,
    /// Whose connection each established one is, and how many each peer has; only if that is limited.
    owners: HashMap<u64, IpAddr>,
    peers: HashMap<IpAddr, usize>,
}

/// Why a peer that holds a key has no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Full {
    Server,
    Peer,
}

impl Admission {
    pub(in crate::server) fn new(limits: AdmissionLimits) -> Self {
        Self { limits, makes_room: AtomicU64::new(0), places: Mutex::default() }
    }

    /// The number of the newest connection that makes room.
    pub(in crate::server) fn makes_room(&self) -> u64 {
        self.makes_room.load(SeqCst)
    }

    /// Gives a place to the stranger with this number, the next higher one, and says whether another one is to make room for
    /// it: the workers are to be woken then.
    pub(super) fn enter(&self, id: u64) -> bool {
        let mut places = self.places.lock();
        let is_full = places.strangers.len() >= self.limits.unestablished;
        let makes_room = is_full && self.tell_oldest(&mut places);
        places.strangers.insert(id);
        makes_room
    }

    /// Whether there is a place for `peer` among the established ones.
    pub(super) fn look_for(&self, peer: IpAddr) -> Result<(), Full> {
        self.look(&self.places.lock(), peer)
    }

    /// Gives a place among them to the stranger with this number, since `peer` has shown that it holds a key.
    pub(super) fn establish(&self, id: u64, peer: IpAddr) -> Result<(), Full> {
        let mut places = self.places.lock();
        self.look(&places, peer)?;
        places.strangers.remove(&id);
        places.established += 1;
        if self.limits.of_peer.is_some() {
            places.owners.insert(id, peer);
            *places.peers.entry(peer).or_default() += 1;
        }
        Ok(())
    }

    /// Takes back the place of a connection that is over.
    pub(super) fn leave(&self, id: u64, is_stranger: bool) {
        let mut places = self.places.lock();
        if is_stranger {
            places.strangers.remove(&id);
            return;
        }
        places.established -= 1;
        if let Some(peer) = places.owners.remove(&id)
            && let Entry::Occupied(mut count) = places.peers.entry(peer)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// Tells the oldest strangers to make room; whether there were any. The workers are to be woken afterwards.
    ///
    /// Each time a sixteenth of them, as one at a time would be slower than a flood of them comes.
    pub(in crate::server) fn make_room(&self) -> bool {
        let mut places = self.places.lock();
        let share = places.strangers.len().div_ceil(16);
        for _ in 0..share {
            self.tell_oldest(&mut places);
        }
        share > 0
    }

    /// Connections that are not established, without those that make room.
    pub(in crate::server) fn unestablished(&self) -> usize {
        self.places.lock().strangers.len()
    }

    fn tell_oldest(&self, places: &mut Places) -> bool {
        let oldest = places.strangers.pop_first();
        if let Some(id) = oldest {
            self.makes_room.fetch_max(id, SeqCst);
        }
        oldest.is_some()
    }

    fn look(&self, places: &Places, peer: IpAddr) -> Result<(), Full> {
        let of_peer = || places.peers.get(&peer).copied().unwrap_or(0);
        if places.established >= self.limits.established {
            Err(Full::Server)
        } else if self.limits.of_peer.is_some_and(|limit| of_peer() >= limit) {
            Err(Full::Peer)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(unestablished: usize, established: usize, of_peer: Option<usize>) -> Admission {
        Admission::new(AdmissionLimits { unestablished, established, of_peer })
    }

    fn peer(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn the_oldest_stranger_makes_room_for_the_next() {
        let admission = admission(2, 1, None);
        assert!(!admission.enter(1) && !admission.enter(2));
        admission.establish(1, peer(1)).unwrap();
        assert!(!admission.enter(3), "the first is no stranger any more");
        assert_eq!((admission.unestablished(), admission.makes_room()), (2, 0));
        assert!(admission.enter(4));
        assert_eq!((admission.unestablished(), admission.makes_room()), (2, 2));
        admission.leave(2, true);
        assert_eq!(admission.unestablished(), 2, "it was counted no more");
    }

    #[test]
    fn for_want_of_descriptors_the_oldest_sixteenth_of_the_strangers_makes_room() {
        let admission = admission(100, 1, None);
        assert!(!admission.make_room(), "there is none");
        assert!((1..=33).all(|id| !admission.enter(id)));
        assert!(admission.make_room());
        assert_eq!((admission.unestablished(), admission.makes_room()), (30, 3));
        assert!((1..=22).all(|_| admission.make_room()));
        assert_eq!((admission.unestablished(), admission.makes_room()), (1, 32));
        assert!(admission.make_room() && !admission.make_room());
    }

    #[test]
    fn strangers_take_no_place_of_others() {
        let admission = admission(100, 2, None);
        assert!((1..=50).all(|id| !admission.enter(id)));
        for id in [1, 2] {
            admission.look_for(peer(1)).unwrap();
            admission.establish(id, peer(1)).unwrap();
        }
        assert_eq!(admission.look_for(peer(1)), Err(Full::Server));
        assert_eq!(admission.establish(3, peer(1)), Err(Full::Server));
        admission.leave(3, true);
        admission.leave(1, false);
        admission.establish(4, peer(1)).unwrap();
        assert_eq!(admission.unestablished(), 46);
    }

    #[test]
    fn a_peer_has_so_many_places_and_gets_them_back() {
        let admission = admission(100, 100, Some(1));
        assert!((1..=3).all(|id| !admission.enter(id)));
        admission.establish(1, peer(1)).unwrap();
        assert_eq!(admission.establish(2, peer(1)), Err(Full::Peer));
        admission.establish(3, peer(2)).unwrap();
        admission.leave(1, false);
        admission.establish(2, peer(1)).unwrap();
        admission.leave(2, false);
        admission.leave(3, false);
        let places = admission.places.lock();
        assert!(places.peers.is_empty() && places.owners.is_empty());
    }
}
