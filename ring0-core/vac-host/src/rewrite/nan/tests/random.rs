//! Random numbers of a seed, and floats that are worth a try.

use wasmtime::{Val, ValType};

/// A counter and a mixing function (SplitMix64).
pub(super) struct Random(pub(super) u64);

pub(super) const F32: [u32; 14] = [
    0,
    1 << 31,
    0x3f80_0000,
    0xbfc0_0000,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0000,
    0xffc0_0000,
    0x7fa0_0001,
    0xffa0_0100,
    0x7fc0_1234,
    0xffd0_0001,
    0x7f7f_ffff,
    1,
];

pub(super) const F64: [u64; 14] = [
    0,
    1 << 63,
    0x3ff0_0000_0000_0000,
    0xbff8_0000_0000_0000,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    0x7ff8_0000_0000_0000,
    0xfff8_0000_0000_0000,
    0x7ff4_0000_0000_0001,
    0xfff4_0000_7fc0_0000,
    0x7ff8_dead_beef_0010,
    0xfffc_0000_7fa0_0001,
    0x7fef_ffff_ffff_ffff,
    1,
];

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub(super) fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    pub(super) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub(super) fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    pub(super) fn f32(&mut self) -> u32 {
        *self.of(&F32)
    }

    pub(super) fn f64(&mut self) -> u64 {
        *self.of(&F64)
    }

    pub(super) fn v128(&mut self) -> u128 {
        match self.below(2) {
            0 => (0..4).fold(0, |all, _| all << 32 | u128::from(self.f32())),
            _ => (0..2).fold(0, |all, _| all << 64 | u128::from(self.f64())),
        }
    }

    pub(super) fn value(&mut self, ty: &ValType) -> Val {
        match ty {
            ValType::I32 => Val::I32(self.below(64) as i32),
            ValType::I64 => Val::I64(self.next() as i64),
            ValType::F32 => Val::F32(self.f32()),
            ValType::F64 => Val::F64(self.f64()),
            ValType::V128 => Val::V128(self.v128().into()),
            ValType::Ref(ty) => Val::null_ref(ty.heap_type()),
        }
    }
}

/// `count` lists of arguments for each type, the same each time.
pub(super) fn args(seed: u64, count: usize) -> impl Fn(&[ValType]) -> Vec<Vec<Val>> {
    move |types| {
        let mut random = Random(seed);
        (0..count).map(|_| types.iter().map(|ty| random.value(ty)).collect()).collect()
    }
}
