//! Blocks of ids that nothing else has or will have.

/// Ids that were leased and are given out one after the other. What is left when the holder stops is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdBlock {
    next_id: u64,
    end_id: u64,
}

impl IdBlock {
    /// The ids `[first_id, first_id + count)`.
    #[must_use]
    pub fn new(first_id: u64, count: u64) -> IdBlock {
        IdBlock { next_id: first_id, end_id: first_id + count }
    }

    /// Ids that are left.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.end_id - self.next_id
    }

    /// The id that would be taken next, if there is one.
    #[must_use]
    pub fn peek(&self) -> Option<u64> {
        (self.remaining() > 0).then_some(self.next_id)
    }

    /// Takes `count` consecutive ids and returns the first; `None` if fewer are left.
    pub fn take(&mut self, count: u64) -> Option<u64> {
        if count > self.remaining() {
            return None;
        }
        let first_id = self.next_id;
        self.next_id += count;
        Some(first_id)
    }

    /// Adds a newly leased block. One that does not follow on replaces what is left, if it holds more.
    pub fn refill(&mut self, block: IdBlock) {
        if block.next_id == self.end_id {
            self.end_id = block.end_id;
        } else if block.remaining() > self.remaining() {
            *self = block;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_given_once() {
        let mut block = IdBlock::new(1_000, 3);
        assert_eq!(block.take(2), Some(1_000));
        assert_eq!(block.take(2), None);
        assert_eq!(block.take(1), Some(1_002));
        assert_eq!(block.take(1), None);
    }

    #[test]
    fn a_block_that_follows_extends_and_another_replaces() {
        let mut block = IdBlock::new(1_000, 3);
        block.refill(IdBlock::new(1_003, 2));
        assert_eq!(block.take(5), Some(1_000));
        block.refill(IdBlock::new(2_000, 4));
        assert_eq!(block.take(1), Some(2_000));
        block.refill(IdBlock::new(3_000, 2));
        assert_eq!(block.remaining(), 3, "the smaller block is the one to be lost");
        assert_eq!(block.take(1), Some(2_001));
    }
}
