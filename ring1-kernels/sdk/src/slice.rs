//! Numbers in memory larger than a kernel's own: a slice whose elements are fetched a page at a time.
//!
//! [`Slice`] keeps a few pages, like the table of a processor that remembers where pages are. What is set goes into
//! such a page, and from there to the memory when the page leaves, at [`Slice::flush`], and when the slice is
//! dropped. Long runs of elements go past the pages.
//!
//! Invariant: nothing outside of the slice's own bytes is read or written.

use std::ops::Range;

/// Memory that is larger than what a kernel can address.
pub trait Far {
    /// Why something could not be done.
    type Error;
    /// `len` bytes from byte `offset`.
    ///
    /// # Errors
    /// Whatever the memory says.
    fn read(&self, offset: u64, len: u32) -> Result<Vec<u8>, Self::Error>;
    /// Writes `bytes` from byte `offset`.
    ///
    /// # Errors
    /// Whatever the memory says.
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// A number with a little-endian form of fixed length.
pub trait Number: Copy {
    /// Bytes of the form: a power of two.
    const BYTES: usize;
    /// Reads the form; `bytes` has its length.
    fn from_le(bytes: &[u8]) -> Self;
    /// Writes the form; `to` has its length.
    fn to_le(self, to: &mut [u8]);
}

macro_rules! numbers {
    ($($ty:ident),*) => {$(
        impl Number for $ty {
            const BYTES: usize = size_of::<$ty>();
            fn from_le(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().unwrap_or_default())
            }
            fn to_le(self, to: &mut [u8]) {
                to.copy_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}
numbers!(u8, u16, u32, u64, i8, i16, i32, i64, f32, f64);

/// Pages that a slice keeps.
const LINES: usize = 8;
/// Bytes that are moved at a time.
const STEP_BYTES: u64 = 256 << 10;

struct Line {
    /// Which page of the slice.
    number: u64,
    bytes: Vec<u8>,
    is_changed: bool,
    /// When it was used last.
    used: u64,
}

/// `len` numbers from byte `start` of a memory.
pub struct Slice<'m, M: Far, T: Number> {
    memory: &'m M,
    start: u64,
    len: u64,
    page_bytes: u64,
    lines: Vec<Line>,
    now: u64,
    /// The line that was used last.
    last: usize,
    of: std::marker::PhantomData<T>,
}

impl<'m, M: Far, T: Number> Slice<'m, M, T> {
    /// A slice of `memory`, in pages of `page_bytes`. `None` if it would end beyond 2^64 or the page is no power of
    /// two that has a whole number in it.
    pub fn new(memory: &'m M, start: u64, len: u64, page_bytes: u32) -> Option<Self> {
        let is_page = page_bytes.is_power_of_two() && page_bytes as usize >= T::BYTES;
        start.checked_add(len.checked_mul(T::BYTES as u64)?).filter(|_| is_page)?;
        let (lines, of) = (Vec::new(), std::marker::PhantomData);
        Some(Self { memory, start, len, page_bytes: page_bytes.into(), lines, now: 0, last: 0, of })
    }

    /// How many numbers it has.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number at `index`; `None` beyond the end.
    ///
    /// # Errors
    /// What the memory says when a page is fetched or given back.
    pub fn get(&mut self, index: u64) -> Result<Option<T>, M::Error> {
        let Some((number, at)) = self.place(index) else { return Ok(None) };
        let line = self.line(number)?;
        Ok(line.bytes.get(at..at + T::BYTES).map(T::from_le))
    }

    /// Sets the number at `index`; `false` beyond the end.
    ///
    /// # Errors
    /// What the memory says when a page is fetched or given back.
    pub fn set(&mut self, index: u64, value: T) -> Result<bool, M::Error> {
        let Some((number, at)) = self.place(index) else { return Ok(false) };
        let line = self.line(number)?;
        let Some(to) = line.bytes.get_mut(at..at + T::BYTES) else { return Ok(false) };
        value.to_le(to);
        line.is_changed = true;
        Ok(true)
    }

    /// Reads the numbers of `range` that are there into `to`, which is emptied first.
    ///
    /// # Errors
    /// What the memory says.
    pub fn read(&mut self, range: Range<u64>, to: &mut Vec<T>) -> Result<(), M::Error> {
        self.flush()?;
        to.clear();
        let (mut at, end) = (range.start.min(self.len), range.end.min(self.len));
        while at < end {
            let step = (STEP_BYTES / T::BYTES as u64).min(end - at);
            let bytes = self.memory.read(self.byte(at), (step as usize * T::BYTES) as u32)?;
            to.extend(bytes.chunks_exact(T::BYTES).map(T::from_le));
            at += step;
        }
        Ok(())
    }

    /// Writes numbers from `index` on; those beyond the end are left out.
    ///
    /// # Errors
    /// What the memory says. A part may have been written.
    pub fn write(&mut self, index: u64, from: &[T]) -> Result<(), M::Error> {
        self.flush()?;
        self.lines.clear();
        let fits = usize::try_from(self.len.saturating_sub(index)).unwrap_or(usize::MAX).min(from.len());
        let mut bytes = Vec::new();
        let mut at = index;
        for part in from[..fits].chunks(STEP_BYTES as usize / T::BYTES) {
            bytes.resize(part.len() * T::BYTES, 0);
            bytes.chunks_exact_mut(T::BYTES).zip(part).for_each(|(to, value)| value.to_le(to));
            self.memory.write(self.byte(at), &bytes)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Calls `each` with all numbers in order.
    ///
    /// # Errors
    /// What the memory says.
    pub fn for_each(&mut self, mut each: impl FnMut(T)) -> Result<(), M::Error> {
        let (mut part, step) = (Vec::new(), STEP_BYTES / T::BYTES as u64);
        let mut at = 0;
        while at < self.len {
            self.read(at..at.saturating_add(step), &mut part)?;
            part.iter().for_each(|value| each(*value));
            at = at.saturating_add(step);
        }
        Ok(())
    }

    /// Gives all that was set to the memory.
    ///
    /// # Errors
    /// What the memory says; what was not given stays here.
    pub fn flush(&mut self) -> Result<(), M::Error> {
        for at in 0..self.lines.len() {
            self.write_back(at)?;
        }
        Ok(())
    }

    /// The page that the number is in, and where in it.
    fn place(&self, index: u64) -> Option<(u64, usize)> {
        let byte = (index < self.len).then(|| index * T::BYTES as u64)?;
        Some((byte / self.page_bytes, (byte % self.page_bytes) as usize))
    }

    fn byte(&self, index: u64) -> u64 {
        self.start + index * T::BYTES as u64
    }

    fn line(&mut self, number: u64) -> Result<&mut Line, M::Error> {
        self.now += 1;
        let is_it = |line: &Line| line.number == number;
        if !self.lines.get(self.last).is_some_and(is_it) {
            self.last = match self.lines.iter().position(is_it) {
                Some(at) => at,
                None => self.fetch(number)?,
            };
        }
        let line = &mut self.lines[self.last];
        line.used = self.now;
        Ok(line)
    }

    /// Brings a page in, in the place of the one that was not used for longest.
    fn fetch(&mut self, number: u64) -> Result<usize, M::Error> {
        let from = number * self.page_bytes;
        let len = self.page_bytes.min(self.len * T::BYTES as u64 - from);
        let oldest = (0..self.lines.len()).min_by_key(|at| self.lines[*at].used);
        let place = oldest.filter(|_| self.lines.len() == LINES);
        if let Some(at) = place {
            self.write_back(at)?;
        }
        let bytes = self.memory.read(self.start + from, len as u32)?;
        let line = Line { number, bytes, is_changed: false, used: self.now };
        match place {
            Some(at) => self.lines[at] = line,
            None => self.lines.push(line),
        }
        Ok(place.unwrap_or(self.lines.len() - 1))
    }

    fn write_back(&mut self, at: usize) -> Result<(), M::Error> {
        let line = &mut self.lines[at];
        if line.is_changed {
            self.memory.write(self.start + line.number * self.page_bytes, &line.bytes)?;
            line.is_changed = false;
        }
        Ok(())
    }
}

impl<M: Far, T: Number> Drop for Slice<'_, M, T> {
    fn drop(&mut self) {
        // Whoever must know whether it went well flushes before.
        let _ = self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    /// A memory of some bytes, which counts what is asked of it.
    #[derive(Default)]
    struct Mock {
        bytes: RefCell<Vec<u8>>,
        reads: Cell<u32>,
        writes: Cell<u32>,
        is_broken: Cell<bool>,
    }

    impl Far for Mock {
        type Error = &'static str;
        fn read(&self, offset: u64, len: u32) -> Result<Vec<u8>, Self::Error> {
            self.reads.set(self.reads.get() + 1);
            let bytes = self.bytes.borrow();
            bytes.get(offset as usize..offset as usize + len as usize).map(<[u8]>::to_vec).ok_or("range")
        }
        fn write(&self, offset: u64, from: &[u8]) -> Result<(), Self::Error> {
            if self.is_broken.get() {
                return Err("broken");
            }
            self.writes.set(self.writes.get() + 1);
            let mut bytes = self.bytes.borrow_mut();
            let to = bytes.get_mut(offset as usize..offset as usize + from.len()).ok_or("range")?;
            to.copy_from_slice(from);
            Ok(())
        }
    }

    fn mock(len: usize) -> Mock {
        Mock { bytes: RefCell::new(vec![0xaa; len]), ..Mock::default() }
    }

    /// Against a plain vector, with steps that a fixed sequence of numbers decides.
    #[test]
    fn it_is_a_vector_of_numbers() {
        let memory = mock(5000);
        // Neither end at the end of a page: what is around must stay.
        let mut slice = Slice::<_, u32>::new(&memory, 100, 1001, 64).unwrap();
        let mut model = vec![0xaaaa_aaaa_u32; 1001];
        let mut state = 1_u64;
        for round in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (index, value) = ((state >> 33) % 1001, (state >> 20) as u32);
            match round % 100 {
                98 => {
                    let part = [value; 40];
                    slice.write(index, &part).unwrap();
                    model.iter_mut().skip(index as usize).take(40).for_each(|to| *to = value);
                }
                99 => {
                    let mut part = Vec::new();
                    slice.read(index..index + 300, &mut part).unwrap();
                    assert!(part.iter().eq(model.iter().skip(index as usize).take(300)));
                }
                n if n % 2 == 0 => {
                    assert_eq!(slice.set(index, value), Ok(true));
                    model[index as usize] = value;
                }
                _ => assert_eq!(slice.get(index), Ok(Some(model[index as usize]))),
            }
        }
        let mut all = Vec::new();
        slice.for_each(|value| all.push(value)).unwrap();
        assert_eq!(all, model);
        drop(slice);
        let bytes = memory.bytes.borrow();
        assert!(bytes[..100].iter().chain(&bytes[100 + 4004..]).all(|byte| *byte == 0xaa));
        assert!(bytes[100..4104].chunks(4).map(<u32 as Number>::from_le).eq(model));
    }

    #[test]
    fn pages_are_kept_and_given_back_once() {
        let memory = mock(64 * 100);
        let mut slice = Slice::<_, u64>::new(&memory, 0, 800, 64).unwrap();
        for _ in 0..100 {
            assert!((0..64).all(|index| slice.set(index, index).unwrap()));
        }
        assert_eq!((memory.reads.get(), memory.writes.get()), (8, 0));
        drop(slice);
        assert_eq!(memory.writes.get(), 8);
    }

    #[test]
    fn its_ends_hold_and_errors_are_told() {
        let memory = mock(64);
        let mut slice = Slice::<_, u16>::new(&memory, 0, 10, 64).unwrap();
        assert_eq!((slice.get(10), slice.set(10, 1), slice.get(u64::MAX)), (Ok(None), Ok(false), Ok(None)));
        assert_eq!((slice.write(9, &[1, 2, 3]), slice.get(9)), (Ok(()), Ok(Some(1))));
        assert_eq!(slice.write(u64::MAX, &[1]), Ok(()));
        slice.set(0, 7).unwrap();
        memory.is_broken.set(true);
        assert_eq!(slice.flush(), Err("broken"));
        memory.is_broken.set(false);
        assert_eq!((slice.flush(), memory.bytes.borrow()[0]), (Ok(()), 7));
        let new = |start, len, page| Slice::<_, u64>::new(&memory, start, len, page).is_some();
        assert!(new(u64::MAX - 8, 1, 64) && new(0, 0, 8));
        assert!(!new(u64::MAX - 8, 2, 64) && !new(0, 1 << 61, 64) && !new(0, 1, 63) && !new(0, 1, 4));
        let mut outside = Slice::<_, u64>::new(&memory, 1 << 40, 8, 64).unwrap();
        assert_eq!(outside.get(0), Err("range"));
    }
}
