//! Files and directories.

use wit_bindgen::StreamResult;

use crate::bindings::wasi::clocks::system_clock::Instant;
use crate::bindings::wasi::filesystem::preopens::get_directories;
use crate::bindings::wasi::filesystem::types::{
    Advice, Descriptor, DescriptorFlags as F, DescriptorType, ErrorCode, NewTimestamp, OpenFlags as O,
    PathFlags as P,
};
use crate::bindings::wit_stream;
use crate::case::{both, same, say, wrong};

async fn root() -> Descriptor {
    match get_directories().into_iter().next() {
        Some((root, _)) => root,
        None => {
            wrong("no directory was granted").await;
            unreachable!("that ends the kernel")
        }
    }
}

async fn open(dir: &Descriptor, path: &str, open: O, flags: F) -> Result<Descriptor, ErrorCode> {
    dir.open_at(P::empty(), path.to_owned(), open, flags).await
}

async fn must<T>(what: &str, result: Result<T, ErrorCode>) -> T {
    match result {
        Ok(value) => value,
        Err(code) => {
            wrong(&format!("{what}: {code:?}")).await;
            unreachable!("that ends the kernel")
        }
    }
}

async fn whole(file: &Descriptor, offset: u64) -> Result<Vec<u8>, ErrorCode> {
    let (stream, ended) = file.read_via_stream(offset);
    let bytes = stream.collect().await;
    ended.await.map(|()| bytes)
}

/// Writes at `offset`, or at the end.
async fn put(file: &Descriptor, bytes: &[u8], offset: Option<u64>) -> Result<(), ErrorCode> {
    let (mut to, data) = wit_stream::new();
    let done = match offset {
        Some(offset) => file.write_via_stream(data, offset),
        None => file.append_via_stream(data),
    };
    let write = async {
        to.write_all(bytes.to_vec()).await;
        drop(to);
    };
    both(write, done).await.1
}

async fn names(dir: &Descriptor) -> Vec<String> {
    let (stream, ended) = dir.read_directory();
    let entries = stream.collect().await;
    must("the end of a listing", ended.await).await;
    entries.into_iter().map(|entry| entry.name).collect()
}

/// Says what is in the directory, and what its files say.
pub(crate) async fn read() {
    let root = root().await;
    for name in names(&root).await {
        let object = must(&name, open(&root, &name, O::empty(), F::READ).await).await;
        match object.get_type().await {
            Ok(DescriptorType::Directory) => say(&format!("{name}/ {:?}", names(&object).await)).await,
            _ => {
                let bytes = must(&name, whole(&object, 0).await).await;
                say(&format!("{name} {}", String::from_utf8_lossy(&bytes))).await;
            }
        }
    }
}

/// What a grant does not allow is refused, and the guest goes on.
pub(crate) async fn denied() {
    if let Some((root, _)) = get_directories().into_iter().next() {
        let refused = Err(ErrorCode::NotPermitted);
        same("out", open(&root, "../x", O::empty(), F::READ).await.map(drop), refused.clone()).await;
        same("absolute", open(&root, "/etc/passwd", O::empty(), F::READ).await.map(drop), refused.clone())
            .await;
        same("write", open(&root, "a.txt", O::empty(), F::WRITE).await.map(drop), refused.clone()).await;
        same("create", root.create_directory_at("d".to_owned()).await, refused.clone()).await;
        let file = must("open", open(&root, "a.txt", O::empty(), F::READ).await).await;
        same("write through it", put(&file, b"x", Some(0)).await, Err(ErrorCode::BadDescriptor)).await;
        same("times", file.set_times(NewTimestamp::Now, NewTimestamp::Now).await, refused).await;
    }
    say("refused").await;
}

/// Everything, on a directory that holds `a.txt` with `first\n` in it.
pub(crate) async fn all() {
    let root = root().await;
    reads(&root).await;
    writes(&root).await;
    flags(&root).await;
    paths(&root).await;
    times(&root).await;
    links(&root).await;
    say(&format!("{:?}", names(&root).await)).await;
}

async fn reads(root: &Descriptor) {
    let file = must("open", open(root, "a.txt", O::empty(), F::READ).await).await;
    same("whole", whole(&file, 0).await, Ok(b"first\n".to_vec())).await;
    same("from the middle", whole(&file, 3).await, Ok(b"st\n".to_vec())).await;
    same("from the end", whole(&file, 6).await, Ok(Vec::new())).await;
    same("from beyond", whole(&file, 600).await, Ok(Vec::new())).await;
    same("from nowhere", whole(&file, u64::MAX).await, Err(ErrorCode::Invalid)).await;
    let (mut stream, ended) = file.read_via_stream(0);
    let (result, bytes) = stream.read(Vec::with_capacity(2)).await;
    same("two bytes", (result, bytes), (StreamResult::Complete(2), b"fi".to_vec())).await;
    drop(stream);
    same("given up", ended.await, Ok(())).await;
    same("a directory", whole(root, 0).await, Err(ErrorCode::IsDirectory)).await;
    let (stream, ended) = file.read_directory();
    same("no directory", stream.collect().await.len(), 0).await;
    same("no directory", ended.await, Err(ErrorCode::NotDirectory)).await;
    same("advice", file.advise(0, 10, Advice::Sequential).await, Ok(())).await;
    same("advice", root.advise(0, 10, Advice::Normal).await, Err(ErrorCode::BadDescriptor)).await;
    same("sync", (file.sync().await, file.sync_data().await), (Ok(()), Ok(()))).await;
}

async fn writes(root: &Descriptor) {
    let new = O::CREATE | O::EXCLUSIVE;
    let file = must("create", open(root, "new", new, F::READ | F::WRITE).await).await;
    same("write", put(&file, b"hello!", Some(0)).await, Ok(())).await;
    same("over it", put(&file, b"J", Some(0)).await, Ok(())).await;
    same("append", put(&file, b" you", None).await, Ok(())).await;
    same("beyond", put(&file, b".", Some(12)).await, Ok(())).await;
    same("to nowhere", put(&file, b".", Some(u64::MAX)).await, Err(ErrorCode::Invalid)).await;
    same("read", whole(&file, 0).await, Ok(b"Jello! you\0\0.".to_vec())).await;
    same("resize", file.set_size(5).await, Ok(())).await;
    same("resize", file.set_size(u64::MAX).await, Err(ErrorCode::Invalid)).await;
    same("size", file.stat().await.map(|s| (s.size, s.link_count)), Ok((5, 1))).await;
    let again = open(root, "new", new, F::WRITE).await.map(drop);
    same("create again", again, Err(ErrorCode::Exist)).await;
    drop(must("truncate", open(root, "new", O::TRUNCATE, F::WRITE).await).await);
    same("truncated", file.stat().await.map(|s| s.size), Ok(0)).await;
    same("to a directory", put(root, b"x", None).await, Err(ErrorCode::IsDirectory)).await;
}

async fn flags(root: &Descriptor) {
    let cases = [
        ("a.txt", O::empty(), F::empty(), F::READ),
        ("a.txt", O::EXCLUSIVE, F::empty(), F::READ),
        ("a.txt", O::empty(), F::WRITE, F::WRITE),
        ("made", O::CREATE, F::empty(), F::READ | F::WRITE),
        ("made", O::CREATE, F::READ, F::READ | F::WRITE),
        ("made", O::CREATE, F::WRITE, F::WRITE),
        (".", O::empty(), F::empty(), F::READ),
        (".", O::DIRECTORY, F::READ | F::MUTATE_DIRECTORY, F::READ | F::MUTATE_DIRECTORY),
    ];
    for (path, how, asked, held) in cases {
        let object = must(path, open(root, path, how, asked).await).await;
        same(path, object.get_flags().await, Ok(held)).await;
    }
    same("the root", root.get_flags().await, Ok(F::READ | F::MUTATE_DIRECTORY)).await;
    let bad = [
        (".", O::empty(), F::WRITE, ErrorCode::IsDirectory),
        ("a.txt", O::DIRECTORY, F::READ, ErrorCode::NotDirectory),
        ("x", O::CREATE | O::DIRECTORY, F::READ, ErrorCode::Invalid),
        ("x", O::empty(), F::READ, ErrorCode::NoEntry),
        ("", O::empty(), F::READ, ErrorCode::NoEntry),
        ("..", O::empty(), F::READ, ErrorCode::NotPermitted),
        ("/", O::empty(), F::READ, ErrorCode::NotPermitted),
    ];
    for (path, how, asked, code) in bad {
        same(path, open(root, path, how, asked).await.map(drop), Err(code)).await;
    }
    same("unlink", root.unlink_file_at("made".to_owned()).await, Ok(())).await;
}

async fn paths(root: &Descriptor) {
    let mkdir = |path: &str| root.create_directory_at(path.to_owned());
    let rmdir = |path: &str| root.remove_directory_at(path.to_owned());
    let rm = |path: &str| root.unlink_file_at(path.to_owned());
    let mv = |from: &str, to: &str| root.rename_at(from.to_owned(), root, to.to_owned());
    same("mkdir", mkdir("d").await, Ok(())).await;
    same("mkdir again", mkdir("d").await, Err(ErrorCode::Exist)).await;
    same("mkdir nothing", mkdir("").await, Err(ErrorCode::NoEntry)).await;
    same("mkdir outside", mkdir("../d").await, Err(ErrorCode::NotPermitted)).await;
    let d = must("open d", open(root, "d", O::DIRECTORY, F::MUTATE_DIRECTORY).await).await;
    same("move", root.rename_at("new".to_owned(), &d, "moved".to_owned()).await, Ok(())).await;
    same("no such file", mv("new", "x").await, Err(ErrorCode::NoEntry)).await;
    same("list", names(&d).await, vec!["moved".to_owned()]).await;
    same("not empty", rmdir("d").await, Err(ErrorCode::NotEmpty)).await;
    same("no directory", rmdir("a.txt").await, Err(ErrorCode::NotDirectory)).await;
    same("a directory", rm("d").await, Err(ErrorCode::IsDirectory)).await;
    same("rm nothing", rm("").await, Err(ErrorCode::NoEntry)).await;
    same("rm outside", rm("/etc/passwd").await, Err(ErrorCode::NotPermitted)).await;
    same("under itself", d.unlink_file_at("../a.txt".to_owned()).await, Err(ErrorCode::NotPermitted)).await;
    same("move back", d.rename_at("moved".to_owned(), root, "kept".to_owned()).await, Ok(())).await;
    drop(d);
    same("rmdir", rmdir("d").await, Ok(())).await;
}

async fn times(root: &Descriptor) {
    let at = |seconds: i64| NewTimestamp::Timestamp(Instant { seconds, nanoseconds: 7 });
    let seen = |seconds: i64| Some(Instant { seconds, nanoseconds: 7 });
    let file = must("open", open(root, "a.txt", O::empty(), F::READ).await).await;
    let set = |path: &str| root.set_times_at(P::SYMLINK_FOLLOW, path.to_owned(), at(42), at(-69));
    same("set", set("a.txt").await, Ok(())).await;
    same("set", set("none").await, Err(ErrorCode::NoEntry)).await;
    same("set", set("..").await, Err(ErrorCode::NotPermitted)).await;
    let both = |s: crate::bindings::wasi::filesystem::types::DescriptorStat| {
        (s.data_access_timestamp, s.data_modification_timestamp)
    };
    same("times", file.stat().await.map(both), Ok((seen(42), seen(-69)))).await;
    same("set one", file.set_times(NewTimestamp::NoChange, at(1)).await, Ok(())).await;
    let stat = root.stat_at(P::empty(), "a.txt".to_owned()).await;
    same("times", stat.map(both), Ok((seen(42), seen(1)))).await;
    let there = root.stat_at(P::empty(), ".".to_owned()).await;
    same("the root", there, root.stat().await).await;
    same(
        "a file is no directory",
        file.stat_at(P::empty(), ".".to_owned()).await.map(drop),
        Err(ErrorCode::NotDirectory),
    )
    .await;
}

async fn links(root: &Descriptor) {
    let symlink = |to: &str, path: &str| root.symlink_at(to.to_owned(), path.to_owned());
    same("symlink", symlink("a.txt", "sym").await, Ok(())).await;
    same("out of it", symlink("..", "out").await, Ok(())).await;
    same("absolute", symlink("/etc", "abs").await, Err(ErrorCode::NotPermitted)).await;
    same("readlink", root.readlink_at("sym".to_owned()).await, Ok("a.txt".to_owned())).await;
    same("no link", root.readlink_at("a.txt".to_owned()).await, Err(ErrorCode::Invalid)).await;
    same("not followed", open(root, "sym", O::empty(), F::READ).await.map(drop), Err(ErrorCode::Loop)).await;
    let follow = |path: &str| root.open_at(P::SYMLINK_FOLLOW, path.to_owned(), O::empty(), F::READ);
    same("followed", whole(&must("sym", follow("sym").await).await, 0).await, Ok(b"first\n".to_vec())).await;
    same("followed out", follow("out").await.map(drop), Err(ErrorCode::NotPermitted)).await;
    same("beneath", follow("out/x").await.map(drop), Err(ErrorCode::NotPermitted)).await;
    let set = root.set_times_at(P::SYMLINK_FOLLOW, "out".to_owned(), NewTimestamp::Now, NewTimestamp::Now);
    same("times followed out", set.await, Err(ErrorCode::NotPermitted)).await;
    let link = |to: &str, path: &str| root.link_at(P::empty(), to.to_owned(), root, path.to_owned());
    same("link", link("a.txt", "hard").await, Ok(())).await;
    same("link again", link("a.txt", "hard").await, Err(ErrorCode::Exist)).await;
    same("link outside", link("a.txt", "../hard").await, Err(ErrorCode::NotPermitted)).await;
    let (a, hard) = (follow("a.txt").await, follow("hard").await);
    let (a, hard) = (must("a.txt", a).await, must("hard", hard).await);
    same("one object", a.is_same_object(&hard).await, true).await;
    same("another object", a.is_same_object(root).await, false).await;
    let hash = root.metadata_hash_at(P::empty(), "a.txt".to_owned()).await;
    same("hash", a.metadata_hash().await, hash).await;
    for path in ["sym", "out", "hard"] {
        same(path, root.unlink_file_at(path.to_owned()).await, Ok(())).await;
    }
}
