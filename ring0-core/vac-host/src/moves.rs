//! Which handles a kernel got and gave up: whether its table of them is what it was.
//!
//! A component's table is a list of places; the one that became free last is taken next. So handles that are given up in
//! the reverse order of getting them leave it as it was, the places that come next with it.

use crate::load::Shape;
use crate::wire::Wire;

/// Since it was asked last.
#[derive(Default)]
pub(crate) struct Moves {
    /// What it got and has, the newest last.
    got: Vec<u32>,
    /// Whether it gave up another than the newest of these.
    is_mixed: bool,
    /// Whether it ever got one or gave one up.
    has_ever_moved: bool,
}

impl Moves {
    /// It passes a handle to the host: only an owned one leaves its table.
    pub(crate) fn gave(&mut self, handle: u32, is_owned: bool) {
        if is_owned {
            self.has_ever_moved = true;
            self.is_mixed |= self.got.pop() != Some(handle);
        }
    }

    /// It gets what is in `result`. Whether there was a handle.
    pub(crate) fn got_all(&mut self, result: &impl Wire) -> bool {
        let before = self.got.len();
        let (got, mut has_handle) = (&mut self.got, false);
        result.handles(&mut |handle, _| {
            has_handle = true;
            got.push(handle);
        });
        if has_handle {
            self.has_ever_moved = true;
            // The newest of several is the one that is lowered last, which is not looked at here.
            self.is_mixed |= self.got.len() > before + 1;
        }
        has_handle
    }

    /// Whether the table is known to be as it was. Handles that components of a program pass to each other are not seen here.
    pub(crate) fn settle(&mut self, shape: Shape) -> bool {
        let is_as_it_was = match shape {
            Shape::Plain => self.got.is_empty() && !self.is_mixed,
            Shape::Composed | Shape::Concurrent => self.is_bare(),
        };
        *self = Self { has_ever_moved: self.has_ever_moved, ..Self::default() };
        is_as_it_was
    }

    /// Whether it never had a handle.
    pub(crate) fn is_bare(&self) -> bool {
        !self.has_ever_moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime::component::Resource;

    fn got(moves: &mut Moves, handles: &[u32]) {
        let all: Vec<Resource<()>> = handles.iter().map(|handle| Resource::new_own(*handle)).collect();
        assert_eq!(moves.got_all(&all), !handles.is_empty());
    }

    #[test]
    fn what_is_given_up_in_reverse_leaves_the_table_as_it_was() {
        let mut moves = Moves::default();
        assert!(moves.settle(Shape::Plain) && moves.is_bare());
        got(&mut moves, &[]);
        moves.gave(3, false);
        assert!(moves.settle(Shape::Composed) && moves.is_bare(), "what is borrowed stays");
        for handle in [3, 4] {
            got(&mut moves, &[handle]);
        }
        moves.gave(4, true);
        moves.gave(3, true);
        assert!(moves.settle(Shape::Plain) && !moves.is_bare());
        for given in [&[3, 4][..], &[4], &[4, 3, 2], &[9]] {
            for handle in [3, 4] {
                got(&mut moves, &[handle]);
            }
            given.iter().for_each(|handle| moves.gave(*handle, true));
            assert!(!moves.settle(Shape::Plain), "{given:?}");
        }
        got(&mut moves, &[5, 6]);
        moves.gave(6, true);
        moves.gave(5, true);
        assert!(!moves.settle(Shape::Plain), "two at once");
        assert!(
            moves.settle(Shape::Plain) && !moves.settle(Shape::Composed),
            "another component may have it"
        );
    }
}
