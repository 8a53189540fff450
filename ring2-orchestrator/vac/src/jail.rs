//! What a process that compiles may still ask of the system: memory, threads, and the pipes that it has.
//!
//! Who takes over the compiler from inside can open no file, reach no network and start no process: the
//! system refuses every call that is not listed here. It is a list of what is needed, so that what a later
//! system offers is refused too. Where the system has no such filter the process is limited as before, and
//! nothing else changes.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

/// What compiling takes, in the words of the system.
const NEEDED: &[libc::c_long] = &[
    // memory
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // the pipes that it was started with
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    // threads
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_get_robust_list,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    // signals: how a fall ends
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // time, and what it may use
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_sysinfo,
    libc::SYS_uname,
];

/// What `fcntl` may do: look, and copy a descriptor. Nothing that lets the system send signals for it.
const FCNTL: [libc::c_int; 3] = [libc::F_GETFD, libc::F_GETFL, libc::F_DUPFD_CLOEXEC];
/// `prctl` with this first argument names a thread.
const NAME_A_THREAD: u64 = libc::PR_SET_NAME as u64;

/// Takes away what is not needed, for good; whether the system could.
pub(crate) fn lock() -> bool {
    close_all_but_the_first_three();
    filters().is_ok_and(|filters| filters.iter().all(|filter| apply_filter(filter).is_ok()))
}

/// Closes what the caller of `vac` left open: an older system has no call for it, and keeps them.
fn close_all_but_the_first_three() {
    // SAFETY: nothing in this process owns a descriptor from 3 on: it was just started, and has opened nothing.
    let _ = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
}

/// The filters in the order in which they are set: each is asked, and the strictest answer counts.
fn filters() -> Result<[BpfProgram; 2], seccompiler::BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let refused = |errno: i32| SeccompAction::Errno(errno.unsigned_abs());
    // What it asks for is in memory, where no filter sees it. Who hears that there is no such call makes
    // threads by the older one.
    let newer = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let newer = SeccompFilter::new(newer, SeccompAction::Allow, refused(libc::ENOSYS), arch)?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = NEEDED.iter().map(|call| (*call, Vec::new())).collect();
    let threads = u64::from(libc::CLONE_THREAD.unsigned_abs());
    let is_thread = argument(0, SeccompCmpOp::MaskedEq(threads), threads)?;
    rules.insert(libc::SYS_clone, vec![is_thread]);
    let looks = FCNTL.map(|how| argument(1, SeccompCmpOp::Eq, u64::from(how.unsigned_abs())));
    rules.insert(libc::SYS_fcntl, looks.into_iter().collect::<Result<_, _>>()?);
    // A signal to itself is how it falls; to others it would be a weapon.
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![argument(0, SeccompCmpOp::Eq, own)?]);
    rules.insert(libc::SYS_prctl, vec![argument(0, SeccompCmpOp::Eq, NAME_A_THREAD)?]);
    // The second filter is set by a call that the first must let through; after that there is none.
    let needed = SeccompFilter::new(rules, refused(libc::EPERM), SeccompAction::Allow, arch)?;
    Ok([newer.try_into()?, needed.try_into()?])
}

fn argument(number: u8, is: SeccompCmpOp, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(number, SeccompCmpArgLen::Qword, is, value)?])
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::lock;

    const FILE: &str = "/tmp/vac-jail-test";

    /// What is tried inside, each with whether it must work.
    fn tries() -> Vec<(&'static str, bool, bool)> {
        let thread = std::thread::Builder::new().spawn(|| vec![1_u8; 1 << 20].len());
        vec![
            ("read a file", false, std::fs::read("/etc/hostname").is_ok()),
            ("make a file", false, std::fs::write(FILE, "x").is_ok()),
            ("list a folder", false, std::fs::read_dir("/").is_ok()),
            ("connect", false, std::net::TcpStream::connect("127.0.0.1:9").is_err_and(refused_by_a_peer)),
            ("listen", false, std::net::TcpListener::bind("127.0.0.1:0").is_ok()),
            ("send", false, std::net::UdpSocket::bind("127.0.0.1:0").is_ok()),
            ("start a program", false, Command::new("/bin/true").status().is_ok()),
            ("make a pipe", false, std::io::pipe().is_ok()),
            ("start a thread", true, thread.is_ok_and(|t| t.join().is_ok())),
            ("take memory", true, vec![1_u8; 64 << 20].iter().all(|b| *b == 1)),
        ]
    }

    /// That there was nobody to connect to says that it could have.
    fn refused_by_a_peer(error: std::io::Error) -> bool {
        error.kind() == std::io::ErrorKind::ConnectionRefused
    }

    /// Run by the test below in a process of its own.
    #[test]
    #[ignore = "locks its process up"]
    fn inside() {
        assert!(
            tries().iter().all(|(_, _, works)| *works || cfg!(not(target_os = "linux"))),
            "outside all works"
        );
        std::fs::remove_file(FILE).unwrap();
        let is_locked = lock();
        let wrong: Vec<_> = tries().into_iter().filter(|(_, may, works)| may != works).collect();
        // Printed and not asserted: a panic wants files.
        eprintln!("locked {is_locked}, wrong {wrong:?}");
        std::process::exit(0);
    }

    #[test]
    fn a_process_that_compiles_can_open_reach_and_start_nothing() {
        let mut again = Command::new(std::env::current_exe().unwrap());
        let args = ["--ignored", "--exact", "jail::tests::inside", "--nocapture", "--test-threads", "1"];
        let ran = again.args(args).output().unwrap();
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(said.contains("locked true, wrong []"), "{said}{}", String::from_utf8_lossy(&ran.stdout));
    }
}
