//! Every bound of this crate, with its unit and its reason.

use std::time::Duration;

/// Bytes of one joined entry. Requests are joined up to here; a single larger one goes alone, up to
/// [`kv::command::SIZE_BYTES_MAX`]. Large enough that encoding and fsync amortise, small enough that a follower's
/// acknowledgement is never far away.
pub(crate) const ENTRY_JOINED_BYTES_MAX: usize = 512 << 10;

/// Bytes of proposals of one region that wait for the entry before them; beyond it they are answered `Busy`.
pub(crate) const WAITING_BYTES_MAX: usize = 32 << 20;

/// How often a leader that is awake looks whether placement should hear of a peer that is down or behind, or of its size.
pub(crate) const REPORT_LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Children of one split: its rows are one transaction of placement, and its births one batch on each store.
pub(crate) const SPLIT_CHILDREN_MAX: usize = 2_048;

/// Bytes of the keys of one split: each is in the rows of two regions, and with those of the splits before and after it,
/// which may have to be told together, they fit into one entry of the placement group.
pub(crate) const SPLIT_KEYS_BYTES_MAX: usize = 512 << 10;

/// A region's row remembers where it ended before so many of its last splits, for clients that know it as it was then ...
pub(crate) const PAST_ENDS_MAX: usize = 64;

/// ... if these keys have no more bytes than this together.
pub(crate) const PAST_ENDS_BYTES_MAX: usize = 16 << 10;

/// What a proposal counts beside its keys and values: what is kept to answer it, and what its entry adds.
pub(crate) const PROPOSAL_OVERHEAD_BYTES: usize = 192;

/// How long a client that was told "busy" waits: about as long as a store at its limits takes to apply what it has.
pub(crate) const BUSY_RETRY_AFTER: Duration = Duration::from_millis(50);

/// Bytes of entries that are read back from the disk in one piece.
pub(crate) const REREAD_BYTES_MAX: usize = 4 << 20;

/// A joined entry, an append, a page of entries takes no more than this part of the ledger's limit, so that a small
/// ledger is not filled by one of them.
pub(crate) const LEDGER_PART: u64 = 16;

/// A peer that a leader has not heard for this long is reported as down.
pub(crate) const PEER_DOWN_AFTER: Duration = Duration::from_secs(10);

/// How long a write that was under way when its leader lost the leadership waits for its fate: by then another has been
/// elected and has committed or replaced it, and clients wait two seconds for an answer at least.
pub(crate) const SETTLE_TIMEOUT: Duration = Duration::from_secs(1);

/// A read index that is not confirmed for this long is answered `ReadIndexNotReady`.
pub(crate) const READ_INDEX_TIMEOUT: Duration = Duration::from_secs(2);

/// How much the wall clock may gain on the monotonic one before a lease is refused (D2).
pub(crate) const LEASE_WALL_GAIN_MAX_MS: u64 = 50;

/// Bytes of one snapshot chunk: large enough to amortise a frame, small enough not to delay others in its lane.
pub(crate) const SNAPSHOT_CHUNK_BYTES: usize = 512 << 10;

/// A chunk takes no more than this part of the ledger's limit.
pub(crate) const SNAPSHOT_LEDGER_PART: u64 = 64;

/// Chunks of one transfer that may be under way.
pub(crate) const SNAPSHOT_WINDOW_CHUNKS: usize = 8;

/// A chunk, or an offer, that is not answered for this long is sent once more.
pub(crate) const SNAPSHOT_RESEND_AFTER: Duration = Duration::from_secs(1);

/// Bytes of snapshots that a store sends in a second: a fast disk's or network's share, not all of it.
pub(crate) const SNAPSHOT_BYTES_PER_SECOND: u64 = 256 << 20;

/// A transfer that makes no progress for this long is given up.
pub(crate) const SNAPSHOT_STALL_MAX: Duration = Duration::from_secs(10);

/// Snapshots sent, and snapshots received, at one time.
pub(crate) const SNAPSHOTS_MAX: usize = 2;

/// Received transfers that are remembered, so that a header that arrives twice does not begin one twice: far more than
/// are under way at one time.
pub(crate) const SNAPSHOTS_REMEMBERED_MAX: usize = 64;

/// Silence after which a store is suspected.
pub(crate) const SUSPECT_AFTER: Duration = Duration::from_millis(600);

/// The longest time between two beats of a store: three fit into [`SUSPECT_AFTER`]. This is how often a store beats whose
/// regions all sleep and that suspects nobody: beats are nearly all that it costs.
pub(crate) const BEAT_INTERVAL_MAX: Duration = Duration::from_millis(200);

/// Beats in a row after which a suspected store counts as live again. They double each time that it is suspected anew …
pub(crate) const BEATS_TO_TRUST_MIN: u32 = 2;

/// … up to these, so that a flapping link costs one wake every few seconds, not one with every beat …
pub(crate) const BEATS_TO_TRUST_MAX: u32 = 32;

/// … and begin anew when it was live for this long.
pub(crate) const TRUSTED_AFTER: Duration = Duration::from_secs(60);

/// A raft worker is asked so often whether it is at work. More often would be most of what a store without work does.
pub(crate) const PULSE_INTERVAL: Duration = Duration::from_millis(500);

/// A store beats no more when one of its raft workers has not answered for this long: whoever sleeps under its beat would
/// rely on somebody who does nothing. Longer than any healthy round.
pub(crate) const WEDGED_AFTER: Duration = Duration::from_secs(1);

/// How often stores compare what sleeps. A difference is a defect, or was lost in a crash: it may take a while.
pub(crate) const DIGEST_INTERVAL: Duration = Duration::from_secs(10);

/// Regions in one message about sleepers.
pub(crate) const SLEEP_ITEMS_MAX: usize = 4_096;

/// How long a region that has just woken, or has a new leader, stays awake at least: whatever woke it may not be over.
pub(crate) const AWAKE_MIN: Duration = Duration::from_millis(500);

/// Peers of one raft worker that may be awake without a request for the whole time that is configured; where more are
/// awake, they fall asleep sooner: these beat for a hundredth of a core.
pub(crate) const AWAKE_PEERS_AMPLE: u32 = 512;

/// An offer of sleep that not everyone has agreed to after so many election timeouts is void: a message was lost. Far
/// longer than a round takes where thousands are awake, for who gives up too soon there never falls asleep.
pub(crate) const OFFER_TIMEOUTS: u32 = 5;

/// After an offer of sleep that came to nothing, the next waits this long, and twice as long each time, …
pub(crate) const OFFER_RETRY_MIN: Duration = Duration::from_millis(500);

/// … up to this: a peer that cannot agree for long costs its region a message every few seconds.
pub(crate) const OFFER_RETRY_MAX: Duration = Duration::from_secs(8);

/// How often free space is looked at while there is plenty …
pub(crate) const DISK_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// … and while it gets scarce: fast devices write tens of megabytes in between, which the reserve has room for.
pub(crate) const DISK_CHECK_INTERVAL_LOW: Duration = Duration::from_millis(20);

/// Free bytes above what is needed that count as plenty: more than a fast device writes between two looks.
pub(crate) const SPACE_AMPLE_BYTES: u64 = 2 << 30;

/// The KV engine is flushed at the latest when this has passed since the last flush and something was written (D4).
pub(crate) const FLUSH_INTERVAL: Duration = Duration::from_secs(60);

/// What every peer keeps of its flushed log for those that are briefly behind is at most this large …
pub(crate) const LOG_KEPT_BYTES_MAX: u64 = 4 << 20;

/// … and this old: longer than a store takes to start again.
pub(crate) const LOG_KEPT_AGE: Duration = Duration::from_secs(60);

/// What a leader keeps for a peer that is further behind is at most this large: beyond it a snapshot moves less …
pub(crate) const LOG_LAG_BYTES_MAX: u64 = 64 << 20;

/// … and this old: longer than a machine takes to start again.
pub(crate) const LOG_LAG_AGE: Duration = Duration::from_secs(600);

/// Bytes of the logs of one raft worker's regions beyond which none is kept for peers that are further behind, so that
/// a store that is down does not fill the disks of the others.
pub(crate) const LOG_STORE_BYTES_MAX: u64 = 4 << 30;

/// Size and age of a log are known to parts of this size …
pub(crate) const LOG_MARK_BYTES: u64 = 256 << 10;

/// … or this age.
pub(crate) const LOG_MARK_AGE: Duration = Duration::from_secs(10);

/// So many bytes of a log are worth a write to be rid of, however few entries they are.
pub(crate) const LOG_TRUNCATE_BYTES_MIN: u64 = 1 << 20;

/// Bytes that one apply round gathers before it writes them: bounds the memory of a round that catches up.
pub(crate) const APPLY_BATCH_BYTES_MAX: usize = 16 << 20;

/// Readies taken from one region in one round; what is left waits for the next, so that one region that catches up does
/// not hold up the others.
pub(crate) const READIES_PER_ROUND_MAX: usize = 4;

/// How often a draining store tries to hand over what it still leads.
pub(crate) const DRAIN_INTERVAL: Duration = Duration::from_millis(100);

/// How often a change of peers that waits for a learner to catch up is looked at.
pub(crate) const CHANGE_INTERVAL: Duration = Duration::from_millis(50);

/// Entries that a learner may be behind when it is made a voter.
pub(crate) const CAUGHT_UP_ENTRIES: u64 = 64;

/// A learner that has not been heard for this long is not made a voter: several heartbeats, less than it takes a leader to
/// give up for lack of a quorum.
pub(crate) const SILENT_AFTER: Duration = Duration::from_millis(300);

/// A peer that has heard no leader for this long asks the region's other stores whether it still belongs to it, and asks
/// again as often: far longer than any election takes, so that a healthy cluster never asks.
pub(crate) const MEMBERSHIP_ASK_INTERVAL: Duration = Duration::from_secs(5);

/// Reads of one region that may wait for a read index; beyond it they are answered `ReadIndexNotReady`.
pub(crate) const WAITING_READS_MAX: usize = 65_536;

/// Keys that are remembered while a region is counted: parts differ from equal ones by a thousandth of the region, and
/// keys of the greatest length take 16 MiB.
pub(crate) const CUTS_MAX: usize = 2_048;

/// Parts into which somebody may want a region to be divided: a quarter of the keys that are remembered at least, so that
/// the parts are about equal.
pub(crate) const COUNT_PARTS_MAX: u64 = 256;

/// Parts into which a region is divided at once because it is too large: its keys fit into one entry whatever their
/// length, and what is left is divided again.
pub(crate) const SPLIT_PARTS_MAX: u64 = 32;

/// Bytes, and pairs, that are counted in one go: a few milliseconds.
pub(crate) const COUNT_SLICE_BYTES: usize = 1 << 20;
pub(crate) const COUNT_SLICE_PAIRS: usize = 4_096;

/// Regions that wait to be counted for somebody; beyond it the answer is `Busy`.
pub(crate) const COUNTS_ASKED_MAX: usize = 1_024;

/// When to ask again if too many regions wait to be counted.
pub(crate) const COUNT_RETRY_AFTER: Duration = Duration::from_millis(100);

/// A region is counted only to know its size better as often as this at the most.
pub(crate) const RECOUNT_INTERVAL: Duration = Duration::from_secs(60);

/// Placement is told again after this that a region should be split, and after twice as long each time ...
pub(crate) const SPLIT_WISH_INTERVAL: Duration = Duration::from_secs(1);

/// ... so often at the most; after that, when the region has been counted again.
pub(crate) const SPLIT_WISH_COUNT_MAX: u32 = 6;
