//! Passes from module to module, before a program is compiled. Each is pure: equal bytes give equal bytes,
//! on every machine, and what it gives is a valid module if what it got is one.

pub mod nan;
