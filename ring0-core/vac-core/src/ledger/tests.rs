//! Reading back, cuts, flips, and a disk that fails, for ledgers.
