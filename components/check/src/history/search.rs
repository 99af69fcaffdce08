//! The search for an order of one key's operations.
//!
//! It is the search of Wing and Gong (1993) with Lowe's memory of configurations (2017): take any operation that was
//! called before the first reply among those that are left, if the register allows it, and go on; go back where nothing
//! can be taken; never enter the same configuration (operations taken, value) twice. Five rules keep it short; none of
//! them loses an order:
//!
//! 1. A read of the present value is taken at once: it changes nothing, and taking it later is never better.
//! 2. A value that nobody left to be taken looks for is as good as any other such value ([`UNSEEN`]). A write of such a
//!    value is taken at once where the present value is one too.
//! 3. A value that somebody left must still find, and that nobody left can write again, is not overwritten.
//! 4. An undetermined write is taken only where something finds its value before the next write; elsewhere it may as
//!    well not have happened. Of several with the same effect the earliest is taken first.
//! 5. A configuration is not entered if one with the same determined operations and value was, and fewer undetermined
//!    ones taken: whatever can follow here could follow there.
//!
//! Where values are written once, that leaves hardly any choice. Many writes of few values can still take long: deciding
//! is NP-complete (Gibbons and Korach, 1997), so the search has a limit.

use std::collections::{BTreeMap, BTreeSet};

use super::{Operation, Outcome, Record};

/// Steps after which a search is given up: seconds, and far more than a history of values written once takes.
const STEP_COUNT_MAX: u64 = 1_000_000;

/// Configurations remembered that differ in nothing but the undetermined steps taken; more are entered again where the
/// search comes back to them.
const ENTERED_COUNT_MAX: usize = 16;

/// A value, by its place in the register's list of values.
type ValueId = usize;

/// The value of an absent key, and of every key at first.
const ABSENT: ValueId = 0;
/// Any value that nobody left looks for.
const UNSEEN: ValueId = 1;

/// One key's operations, except those that cannot matter.
pub(super) struct Register<'a> {
    steps: Vec<Step<'a>>,
    /// The values; those of `ABSENT` and `UNSEEN` are `None`.
    values: Vec<Option<&'a [u8]>>,
}

/// One operation.
pub(super) struct Step<'a> {
    pub(super) record: &'a Record,
    kind: StepKind,
    is_determined: bool,
    /// The undetermined step with the same effect that was called last before this one.
    twin: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum StepKind {
    /// Finds a value and leaves it.
    Read { seen: ValueId },
    /// Leaves a value, whatever it finds.
    Write { written: ValueId },
    /// Finds one value and leaves another.
    Swap { seen: ValueId, written: ValueId },
    /// Its answer contradicts its question.
    Impossible,
}

/// What a search found.
pub(super) enum Decision {
    /// There is an order.
    Linearizable,
    /// There is none; this is where the longest attempt ended.
    Stuck(Stuck),
    /// It took too long.
    Undecided,
}

/// The longest attempt.
pub(super) struct Stuck {
    /// The steps that it took, in order.
    pub(super) taken: Vec<usize>,
}

impl<'a> Register<'a> {
    /// The register of one key, from its records in the order of their calls.
    pub(super) fn new(records: &[&'a Record]) -> Register<'a> {
        let mut register = Register { steps: Vec::new(), values: vec![None, None] };
        let mut ids = BTreeMap::new();
        for record in records {
            if let Some((kind, is_determined)) = register.step_kind(record, &mut ids) {
                register.steps.push(Step { record, kind, is_determined, twin: None });
            }
        }
        register.drop_unfindable();
        register.pair_twins();
        register
    }

    /// Looks for an order; also says how many steps that took.
    pub(super) fn decide(&self) -> (Decision, u64) {
        let mut search = Search::new(self);
        let decision = search.run();
        (decision, search.step_count)
    }

    pub(super) fn steps(&self) -> &[Step<'a>] {
        &self.steps
    }

    pub(super) fn determined_count(&self) -> usize {
        self.steps.iter().filter(|step| step.is_determined).count()
    }

    pub(super) fn undetermined_count(&self) -> usize {
        self.steps.len() - self.determined_count()
    }

    /// The value that these steps leave.
    pub(super) fn value_after(&self, taken: &[usize]) -> Option<&'a [u8]> {
        let written = taken.iter().rev().find_map(|step| self.steps[*step].kind.written());
        self.values[written.unwrap_or(ABSENT)]
    }

    /// Whether a step finds the value that these steps leave.
    pub(super) fn finds_value_after(&self, step: usize, taken: &[usize]) -> bool {
        let written = taken.iter().rev().find_map(|step| self.steps[*step].kind.written());
        self.steps[step].kind.seen() == Some(written.unwrap_or(ABSENT))
    }

    /// What a record does to the register, and whether it certainly does it; `None` if it cannot matter.
    fn step_kind(
        &mut self,
        record: &'a Record,
        ids: &mut BTreeMap<&'a [u8], ValueId>,
    ) -> Option<(StepKind, bool)> {
        let mut id = |value: &'a Option<Vec<u8>>| self.id_of(value.as_deref(), ids);
        let kind = match (&record.operation, &record.outcome) {
            (_, Outcome::Failed) | (Operation::Get, Outcome::Undetermined) => return None,
            (Operation::Get, Outcome::Value(seen)) => StepKind::Read { seen: id(seen) },
            (Operation::Put { value }, Outcome::Done | Outcome::Undetermined) => {
                StepKind::Write { written: self.id_of(Some(value), ids) }
            }
            (Operation::Delete, Outcome::Done | Outcome::Undetermined) => StepKind::Write { written: ABSENT },
            (
                Operation::CompareAndSwap { expected, replacement },
                Outcome::Swapped { is_swapped: true, previous },
            ) if expected == previous => StepKind::Swap { seen: id(expected), written: id(replacement) },
            (
                Operation::CompareAndSwap { expected, .. },
                Outcome::Swapped { is_swapped: false, previous },
            ) if expected != previous => StepKind::Read { seen: id(previous) },
            (Operation::CompareAndSwap { expected, replacement }, Outcome::Undetermined) => {
                StepKind::Swap { seen: id(expected), written: id(replacement) }
            }
            (Operation::Get, Outcome::Done | Outcome::Swapped { .. })
            | (Operation::Put { .. } | Operation::Delete, Outcome::Value(_) | Outcome::Swapped { .. })
            | (
                Operation::CompareAndSwap { .. },
                Outcome::Done | Outcome::Value(_) | Outcome::Swapped { .. },
            ) => StepKind::Impossible,
        };
        Some((kind, record.outcome != Outcome::Undetermined))
    }

    fn id_of(&mut self, value: Option<&'a [u8]>, ids: &mut BTreeMap<&'a [u8], ValueId>) -> ValueId {
        let Some(value) = value else { return ABSENT };
        *ids.entry(value).or_insert_with(|| {
            self.values.push(Some(value));
            self.values.len() - 1
        })
    }

    /// Drops undetermined writes of values that nothing ever looks for.
    fn drop_unfindable(&mut self) {
        let mut is_sought = vec![false; self.values.len()];
        for step in &self.steps {
            if let Some(seen) = step.kind.seen() {
                is_sought[seen] = true;
            }
        }
        self.steps.retain(|step| {
            step.is_determined || step.kind.written().is_some_and(|written| is_sought[written])
        });
    }

    fn pair_twins(&mut self) {
        let mut last = BTreeMap::new();
        for (place, step) in self.steps.iter_mut().enumerate() {
            if !step.is_determined {
                step.twin = last.insert(step.kind, place);
            }
        }
    }
}

impl StepKind {
    fn seen(self) -> Option<ValueId> {
        match self {
            StepKind::Read { seen } | StepKind::Swap { seen, .. } => Some(seen),
            StepKind::Write { .. } | StepKind::Impossible => None,
        }
    }

    fn written(self) -> Option<ValueId> {
        match self {
            StepKind::Write { written } | StepKind::Swap { written, .. } => Some(written),
            StepKind::Read { .. } | StepKind::Impossible => None,
        }
    }
}

/// One search.
struct Search<'a, 'b> {
    register: &'b Register<'a>,
    events: Events,
    /// The present value.
    value: ValueId,
    /// For each value, how many determined steps are left that find it.
    must_find: Vec<usize>,
    /// For each value, how many undetermined steps are left that find it.
    may_find: Vec<usize>,
    /// For each value, how many steps are left that write it.
    can_write: Vec<usize>,
    /// Determined steps that are left.
    left_count: usize,
    /// The steps taken, in order.
    taken: Vec<usize>,
    /// Names the set of determined steps taken: the XOR of 128 random-looking bits for each. That two sets share a name
    /// is less likely than a fault of the machine.
    determined_name: u128,
    undetermined_taken: BTreeSet<usize>,
    is_taken: Vec<bool>,
    frames: Vec<Frame>,
    /// What was entered with which name and value.
    entered: BTreeMap<(u128, ValueId), Vec<Entered>>,
    longest: Vec<usize>,
    step_count: u64,
}

/// A configuration that was entered.
struct Entered {
    /// The undetermined steps taken, ascending.
    undetermined_taken: Box<[usize]>,
    /// Whether rule 4 restricted what may follow.
    is_restricted: bool,
}

/// A choice of the next write.
struct Frame {
    /// How many steps had been taken before the write that led here.
    taken_before: usize,
    /// The value before that write.
    value_before: ValueId,
    /// Writes not tried yet, the best one last.
    untried: Vec<usize>,
}

impl<'a, 'b> Search<'a, 'b> {
    fn new(register: &'b Register<'a>) -> Search<'a, 'b> {
        let value_count = register.values.len();
        let mut search = Search {
            register,
            events: Events::new(&register.steps),
            value: ABSENT,
            must_find: vec![0; value_count],
            may_find: vec![0; value_count],
            can_write: vec![0; value_count],
            left_count: 0,
            taken: Vec::new(),
            determined_name: 0,
            undetermined_taken: BTreeSet::new(),
            is_taken: vec![false; register.steps.len()],
            frames: Vec::new(),
            entered: BTreeMap::new(),
            longest: Vec::new(),
            step_count: 0,
        };
        for step in 0..register.steps.len() {
            search.count_as_left(step);
        }
        search
    }

    fn run(&mut self) -> Decision {
        self.enter(0, ABSENT, false);
        while self.left_count > 0 {
            let Some(frame) = self.frames.last_mut() else {
                return Decision::Stuck(Stuck { taken: std::mem::take(&mut self.longest) });
            };
            let Some(step) = frame.untried.pop() else {
                self.leave();
                continue;
            };
            self.step_count += 1;
            if self.step_count > STEP_COUNT_MAX {
                return Decision::Undecided;
            }
            self.try_write(step);
        }
        Decision::Linearizable
    }

    /// Takes a write and enters what it leads to, unless that is known to lead nowhere.
    fn try_write(&mut self, step: usize) {
        let (taken_before, value_before) = (self.taken.len(), self.value);
        let Step { kind, is_determined, .. } = self.register.steps[step];
        self.take(step);
        self.value = kind.written().expect("only writes are tried");
        self.forget_unsought_value();
        if self.is_new(!is_determined) {
            self.enter(taken_before, value_before, !is_determined);
        } else {
            self.go_back_to(taken_before, value_before);
        }
    }

    /// Rule 5. Whether the present configuration may lead where no earlier one did; it is remembered if so.
    fn is_new(&mut self, is_restricted: bool) -> bool {
        let entered = self.entered.entry((self.determined_name, self.value)).or_default();
        let taken = &self.undetermined_taken;
        let covers = |earlier: &Entered| {
            (is_restricted || !earlier.is_restricted)
                && earlier.undetermined_taken.iter().all(|step| taken.contains(step))
        };
        let is_new = !entered.iter().any(covers);
        if is_new && entered.len() < ENTERED_COUNT_MAX {
            entered.push(Entered { undetermined_taken: taken.iter().copied().collect(), is_restricted });
        }
        is_new
    }

    /// Takes what follows without a choice, and lists the choices.
    fn enter(&mut self, taken_before: usize, value_before: ValueId, is_undetermined: bool) {
        let is_found = self.take_forced();
        let untried = self.choices(is_undetermined && !is_found);
        self.frames.push(Frame { taken_before, value_before, untried });
    }

    fn leave(&mut self) {
        let frame = self.frames.pop().expect("a frame was just looked at");
        if self.taken.len() > self.longest.len() || self.longest.is_empty() {
            self.longest.clone_from(&self.taken);
        }
        self.go_back_to(frame.taken_before, frame.value_before);
    }

    /// Rules 1 and 2. Whether a read was among what was taken.
    fn take_forced(&mut self) -> bool {
        let mut is_found = false;
        loop {
            let value = self.value;
            let mut cursor = self.events.first_open();
            while let Some(step) = cursor {
                cursor = match self.register.steps[step].kind {
                    StepKind::Read { seen } if seen == self.value => {
                        is_found = true;
                        self.take_and_move_on(step)
                    }
                    StepKind::Write { written }
                        if self.value == UNSEEN && self.is_determined_unsought(step, written) =>
                    {
                        self.take_and_move_on(step)
                    }
                    StepKind::Read { .. }
                    | StepKind::Write { .. }
                    | StepKind::Swap { .. }
                    | StepKind::Impossible => self.events.next_open(step),
                };
            }
            self.forget_unsought_value();
            if self.value == value {
                return is_found;
            }
        }
    }

    fn take_and_move_on(&mut self, step: usize) -> Option<usize> {
        let next = self.events.behind_removed(step);
        self.take(step);
        self.events.open_at(next)
    }

    /// The writes that may be taken next, the best one last: determined ones first, in the order of their replies.
    fn choices(&self, must_be_found: bool) -> Vec<usize> {
        let mut choices = Vec::new();
        let mut cursor = self.events.first_open();
        while let Some(step) = cursor {
            if self.may_take(step, must_be_found) {
                choices.push(step);
            }
            cursor = self.events.next_open(step);
        }
        choices.sort_by_key(|step| {
            let record = self.register.steps[*step].record;
            std::cmp::Reverse((
                !self.register.steps[*step].is_determined,
                record.return_place,
                record.call_place,
            ))
        });
        choices
    }

    fn may_take(&self, step: usize, must_be_found: bool) -> bool {
        let Step { kind, is_determined, twin, .. } = self.register.steps[step];
        let is_fit = match kind {
            StepKind::Read { .. } | StepKind::Impossible => false,
            StepKind::Write { .. } => !must_be_found && self.may_overwrite(0),
            StepKind::Swap { seen, .. } => {
                seen == self.value && self.may_overwrite(usize::from(is_determined))
            }
        };
        let is_sensible = is_determined
            || (kind.written().is_some_and(|written| self.is_sought(written))
                && twin.is_none_or(|twin| self.is_taken[twin]));
        is_fit && is_sensible
    }

    /// Rule 3, for a step that is itself `own_count` of those that must find the present value.
    fn may_overwrite(&self, own_count: usize) -> bool {
        self.must_find[self.value] == own_count || self.can_write[self.value] > 0
    }

    fn is_sought(&self, value: ValueId) -> bool {
        self.must_find[value] > 0 || self.may_find[value] > 0
    }

    fn is_determined_unsought(&self, step: usize, written: ValueId) -> bool {
        self.register.steps[step].is_determined && !self.is_sought(written)
    }

    fn forget_unsought_value(&mut self) {
        if !self.is_sought(self.value) {
            self.value = UNSEEN;
        }
    }

    fn take(&mut self, step: usize) {
        let Step { kind, is_determined, .. } = self.register.steps[step];
        self.events.remove(step);
        self.is_taken[step] = true;
        self.taken.push(step);
        if is_determined {
            self.determined_name ^= name_of(step);
            self.left_count -= 1;
        } else {
            self.undetermined_taken.insert(step);
        }
        if let Some(seen) = kind.seen() {
            self.finders(is_determined)[seen] -= 1;
        }
        if let Some(written) = kind.written() {
            self.can_write[written] -= 1;
        }
    }

    fn go_back_to(&mut self, taken_count: usize, value: ValueId) {
        while self.taken.len() > taken_count {
            let step = self.taken.pop().expect("the loop ends at a length that is not negative");
            self.events.restore(step);
            self.is_taken[step] = false;
            if self.register.steps[step].is_determined {
                self.determined_name ^= name_of(step);
            } else {
                self.undetermined_taken.remove(&step);
            }
            self.count_as_left(step);
        }
        self.value = value;
    }

    fn count_as_left(&mut self, step: usize) {
        let Step { kind, is_determined, .. } = self.register.steps[step];
        self.left_count += usize::from(is_determined);
        if let Some(seen) = kind.seen() {
            self.finders(is_determined)[seen] += 1;
        }
        if let Some(written) = kind.written() {
            self.can_write[written] += 1;
        }
    }

    fn finders(&mut self, is_determined: bool) -> &mut Vec<usize> {
        if is_determined { &mut self.must_find } else { &mut self.may_find }
    }
}

/// Calls and replies of the steps that are left, in order: a list from which steps are removed and put back, last
/// removed first, in constant time (Knuth's dancing links).
struct Events {
    /// Before and behind each event; the call of step `n` is event `2n`, its reply `2n + 1`, and the last event is the
    /// list's head.
    links: Vec<(usize, usize)>,
}

impl Events {
    fn new(steps: &[Step<'_>]) -> Events {
        let mut order: Vec<(u64, usize)> = Vec::new();
        for (step, Step { record, is_determined, .. }) in steps.iter().enumerate() {
            order.push((record.call_place, 2 * step));
            // An undetermined write may happen after its client was told so: it has no reply.
            if let (true, Some(place)) = (*is_determined, record.return_place) {
                order.push((place, 2 * step + 1));
            }
        }
        order.sort_unstable();
        let head = 2 * steps.len();
        let mut links: Vec<_> = (0..=head).map(|event| (event, event)).collect();
        let mut last = head;
        for (_, event) in order {
            links[last].1 = event;
            links[event].0 = last;
            last = event;
        }
        links[last].1 = head;
        links[head].0 = last;
        Events { links }
    }

    /// The first step that was called before any reply.
    fn first_open(&self) -> Option<usize> {
        self.open_at(self.links[self.head()].1)
    }

    /// The next step that was called before any reply, behind one that was.
    fn next_open(&self, step: usize) -> Option<usize> {
        self.open_at(self.links[2 * step].1)
    }

    /// The event that will follow where a step is removed now.
    fn behind_removed(&self, step: usize) -> usize {
        let behind = self.links[2 * step].1;
        if behind == 2 * step + 1 { self.links[behind].1 } else { behind }
    }

    /// The step whose call this event is, if every event before it is a call.
    fn open_at(&self, event: usize) -> Option<usize> {
        let is_call = event != self.head() && event.is_multiple_of(2);
        is_call.then_some(event / 2)
    }

    fn head(&self) -> usize {
        self.links.len() - 1
    }

    fn remove(&mut self, step: usize) {
        for event in [2 * step, 2 * step + 1] {
            let (before, behind) = self.links[event];
            self.links[before].1 = behind;
            self.links[behind].0 = before;
        }
    }

    fn restore(&mut self, step: usize) {
        for event in [2 * step + 1, 2 * step] {
            let (before, behind) = self.links[event];
            self.links[before].1 = event;
            self.links[behind].0 = event;
        }
    }
}

/// 128 bits that look random.
fn name_of(step: usize) -> u128 {
    let half = |seed: u64| {
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u128::from(mixed ^ (mixed >> 31))
    };
    let seed = (step as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    half(seed) << 64 | half(!seed)
}
