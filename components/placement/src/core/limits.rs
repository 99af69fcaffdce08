//! Every bound of this crate, with its unit and its reason.

use std::time::Duration;

/// Timestamps of one call: what fits into the logical part of one millisecond.
pub const TSO_BATCH_MAX: u32 = 1 << 18;

/// How far, in milliseconds, the committed timestamp bound may be ahead of the later of wall clock and last timestamp:
/// what a new leader may have to skip (D8).
pub const TSO_WINDOW_MS: u64 = 3_000;

/// The bound is raised when less than this many milliseconds are left, so that nobody waits for it.
pub const TSO_WINDOW_LOW_MS: u64 = 1_500;

/// Ids below are reserved: group 1, region 2 and what may come.
pub const FIRST_ID: u64 = 1_000;

/// Ids of one call.
pub const IDS_PER_CALL_MAX: u64 = 10_000;

/// Ids that a store or the host leases at a time: a split takes a handful, so this is one round trip in hundreds.
pub const ID_LEASE_COUNT: u64 = 1_000;

/// A new block is leased when fewer ids than this are left.
pub const ID_LEASE_LOW: u64 = 200;

/// Keys of one split: its entry stays below 100 KiB, and the fsync of its record does not hold up the others.
pub const SPLIT_KEYS_MAX: usize = 256;

/// Parts into which a region is divided at the most, where nobody names the keys: what one split can hold.
pub const SPLIT_PARTS_MAX: u32 = 256;

/// Keys are looked for so long: a region of a hundred times the default size is read by then. Whoever waits is told
/// meanwhile that it goes on.
pub const SPLIT_FIND_DEADLINE: Duration = Duration::from_secs(60);

/// The host waits so long to hear of a region that somebody awaits: it may be the child of a split whose report is on its way.
/// Below [`HOST_SILENT_AFTER`]: a host that waits is not silent.
pub const REGION_AWAITED_MAX: Duration = Duration::from_millis(200);

/// Splits that one store carries out at one time.
pub const SPLITS_RUNNING_MAX: usize = 256;

/// Splits that a store remembers after it has carried them out, for those who ask again. The last one of each region is
/// known for good, to its peers.
pub const SPLITS_ENDED_KEPT: usize = 1_024;

/// Regions in the answer to one scan; whoever wants more asks again from the last end key.
pub const SCAN_REGIONS_MAX: usize = 16_384;

/// Regions in one message between stores: about 100 KiB, which does not hold up the liveness lane.
pub const SCAN_PAGE_REGIONS: u32 = 1_024;

/// Ranges of one batch scan.
pub const SCAN_RANGES_MAX: usize = 1_024;

/// Calls that wait on one store for an answer; beyond it they are answered `Busy`.
pub const CALLS_WAITING_MAX: usize = 65_536;

/// Requests that wait at the host while it reads its rows, or for its next transaction.
pub const HOST_WAITING_MAX: usize = 16_384;

/// A call is answered `Unavailable` after this: TiKV's clients wait two to three seconds themselves.
pub const CALL_DEADLINE: Duration = Duration::from_secs(3);

/// An unanswered request is sent again after this.
pub const CALL_RESEND_AFTER: Duration = Duration::from_millis(500);

/// The same while it is not known who leads: whoever is asked answers at once, if only with a hint, or is down.
pub const CALL_ASK_NEXT_AFTER: Duration = Duration::from_millis(100);

/// A request that met no leader is sent again after this: an election takes about as long as a few of these.
pub const CALL_RETRY_AFTER: Duration = Duration::from_millis(50);

/// The host counts as silent when a request has been without an answer for this long; what can be answered from the
/// cache is then (D8).
pub const HOST_SILENT_AFTER: Duration = Duration::from_millis(300);

/// How often a store reports even without a change: itself then, no region.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// How often a store lists its peers that know no leader (D8).
pub const LONELY_INTERVAL: Duration = Duration::from_secs(60);

/// A report without an answer is sent again after this.
pub const REPORT_RESEND_AFTER: Duration = Duration::from_millis(300);

/// Regions in one report, so that it does not hold up the liveness lane.
pub const REPORT_REGIONS_MAX: usize = 512;

/// A store that was not heard for this long is not given peers.
pub const STORE_LIVE_WITHIN: Duration = Duration::from_secs(10);

/// Routes that a store remembers for the time when the host is silent.
pub const CACHE_ROUTES_MAX: usize = 65_536;

/// Descriptors that wait at the host because they do not tile with what it has; the store repeats what is dropped.
pub const PENDING_DESCRIPTORS_MAX: usize = 16_384;

/// Bytes of one transaction, roughly: below what the store joins into one entry.
pub const TXN_BYTES_MAX: usize = 256 << 10;

/// The host begins anew (reads its rows again) after a transaction whose fate it does not know, after this pause.
pub const HOST_RELOAD_AFTER: Duration = Duration::from_millis(50);

/// How often goals of running operations are told again to the leaders of their regions.
pub const GOAL_REPEAT_INTERVAL: Duration = Duration::from_secs(1);

/// How often the scheduler looks at the cluster without being told that something changed.
pub const SCHEDULE_INTERVAL: Duration = Duration::from_millis(500);

/// The scheduler pauses so long, for each region that it looked at, before it looks again because of an event: a look at a
/// region takes about a tenth of this.
pub const SCHEDULE_PAUSE_PER_REGION: Duration = Duration::from_micros(20);

/// So many regions are looked at without a pause: in a small cluster every step follows at once from the one before.
pub const SCHEDULE_FREE_REGIONS: usize = 64;

/// Without an event it pauses so many times as long, or [`SCHEDULE_INTERVAL`] if that is more.
pub const SCHEDULE_PAUSES_IDLE: u32 = 25;

/// A new host schedules nothing before every store has reported, or this long: a store that is alive needs a round trip
/// or two, and one that is not shall not hold up the others' repair.
pub const SOFT_STATE_WAIT: Duration = Duration::from_secs(2);

/// Operations that run at one time: what the cluster can copy without clients noticing is far less, but most of them
/// wait for one another's snapshots, which the stores limit themselves.
pub const OPERATIONS_RUNNING_MAX: usize = 64;

/// Operations that add a peer on one store at one time.
pub const OPERATIONS_PER_TARGET_MAX: usize = 8;

/// Operations that take a peer from one store at one time only to level the stores: each is a copy to be sent.
pub const OPERATIONS_PER_SOURCE_MAX: usize = 8;

/// Stores whose bytes differ by less than this, in per cent of what they have on average, are level.
pub const LEVEL_TOLERANCE_PERCENT: u64 = 10;

/// So are those that differ by less than this, in bytes: a disk does not feel it, and reports may leave as much open.
pub const LEVEL_TOLERANCE_BYTES_MIN: u64 = 16 << 20;

/// Sizes of regions are told in steps of this many bytes at the least: differences below it mean nothing.
pub const SIZE_STEP_BYTES: u64 = 1 << 20;

/// Two regions change places to level bytes only if they differ by at least this part, in per cent, of what is copied. Half
/// of the tolerance: stores all of whose regions differ by less are level.
pub const EXCHANGE_WORTH_PERCENT: u64 = LEVEL_TOLERANCE_PERCENT / 2;

/// Bytes are not levelled while more regions than this, in per cent, are of unknown size.
pub const SIZES_UNKNOWN_PERCENT: usize = 5;

/// Leaders that are handed over at one time only to level them: each costs its region an election's pause.
pub const TRANSFERS_RUNNING_MAX: usize = 8;

/// Regions of one call that are to be scattered: more could not begin to move soon anyway.
pub const SCATTER_REGIONS_MAX: usize = 1_024;

/// Groups of regions whose scattering the host remembers ...
pub const SCATTER_GROUPS_MAX: usize = 64;

/// ... each with so many regions at the most: 128 KiB ...
pub const SCATTER_GROUP_REGIONS_MAX: usize = 16_384;

/// ... for so long after it was named last: who scatters a table region by region is done by then.
pub const SCATTER_GROUP_KEPT: Duration = Duration::from_secs(600);

/// Bytes of a group's name.
pub const SCATTER_GROUP_BYTES_MAX: usize = 256;

/// An operation is given up after this, unless whoever wanted it said otherwise: hundreds of regions of the default size
/// wait for one another less than that.
pub const OPERATION_DEADLINE: Duration = Duration::from_secs(600);

/// The same for a leader that is handed over: whatever has not happened by then will not happen.
pub const TRANSFER_DEADLINE: Duration = Duration::from_secs(10);

/// An operation that has not come any further for this long is given up.
pub const OPERATION_STALLED_AFTER: Duration = Duration::from_secs(180);

/// The leader of a region whose operation was given up is told so, with each of its reports, for this long.
pub const STOP_REPEAT: Duration = Duration::from_secs(30);

/// A store with less of its device free, in per cent, is full: it gets no peers.
pub const STORE_FULL_BELOW_PERCENT: u64 = 5;

/// Ended operations that the host remembers for those who ask how it went.
pub const OPERATIONS_ENDED_KEPT: usize = 256;

/// The other regions wait so long for the placement group's own change to be done.
pub const GROUP_ONE_HEAD_START: Duration = Duration::from_secs(3);

/// Bytes of a store's address, version, and of each label.
pub const RECORD_TEXT_BYTES_MAX: usize = 256;

/// Labels of a store.
pub const RECORD_LABELS_MAX: usize = 32;
