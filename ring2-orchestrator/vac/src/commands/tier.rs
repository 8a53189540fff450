//! `vac tier`: what stands below the store of a home.

use serde_json::{Value, json};
use vac_core::cid::Cid;
use vac_core::fault::{Result, Usage, quote};
use vac_engine::Home;
use vac_engine::tiers::{self, Checked, Existing, Named, Open, Place, Pushed, Spec};

use crate::cli::{Global, Tier, TierAt};
use crate::tiers::Opener;
use crate::ui::{self, Progress};
use crate::{exit, host};

pub(crate) fn tier(global: &Global, command: Tier) -> Result<u8> {
    match command {
        Tier::Add(at) => add(global, at),
        Tier::Ls => ls(global),
        Tier::Rm { name } => rm(global, &name),
        Tier::Check { name, memories, read } => check(global, &name, &memories, existing(read)),
        Tier::Push { name, memories, read } => push(global, name.as_deref(), &memories, existing(read)),
    }
}

fn existing(read: bool) -> Existing {
    if read { Existing::Read } else { Existing::Believe }
}

fn add(global: &Global, at: TierAt) -> Result<u8> {
    let TierAt { name, url, endpoint, region, key_id, secret, token, attempts, timeout } = at;
    let [key_id, secret, token] = [key_id, secret, token].map(|source| source.map(whole).transpose());
    let spec = Spec {
        name,
        url,
        endpoint,
        region,
        key_id: key_id?,
        secret: secret?,
        token: token?,
        attempts,
        timeout,
    };
    if let Place::Folder(path) = spec.check()?.place
        && !path.is_dir()
    {
        let message = format!("there is no folder `{}`", quote(&path.display().to_string()));
        return Err(Usage::new(message).hint("a tier in a folder needs one that is there").into());
    }
    let named = tiers::add(&super::home(global)?, &spec)?;
    match global.json {
        true => ui::print_json(&as_json(&named)),
        false => ui::print(format_args!("{}\n", ui::quote_lines(&named.shown()))),
    }
    Ok(exit::OK)
}

/// A file of a key is found again wherever the next command is typed.
fn whole(source: String) -> Result<String> {
    match source.strip_prefix("file:").filter(|path| !path.starts_with('/')) {
        Some(path) => Ok(format!("file:{}", host::working_folder()?.join(path).display())),
        None => Ok(source),
    }
}

fn as_json(named: &Named) -> Value {
    let Spec { name, url, endpoint, region, key_id, secret, token, attempts, timeout } = &named.spec;
    json!({
        "name": name, "url": url, "endpoint": endpoint, "region": region, "key_id": key_id, "secret": secret,
        "token": token, "attempts": attempts, "timeout": timeout,
    })
}

fn ls(global: &Global) -> Result<u8> {
    let all = tiers::list(&super::home_to_read(global)?)?;
    if global.json {
        ui::print_json(&json!({ "tiers": all.iter().map(as_json).collect::<Vec<_>>() }));
        return Ok(exit::OK);
    }
    let rows = all.iter().map(|named| vec![named.name.clone(), ui::quote_lines(&named.shown())]);
    ui::print_table(&["NAME", "WHERE"], rows.collect(), "no tiers; `vac tier add NAME URL` names one");
    Ok(exit::OK)
}

fn rm(global: &Global, name: &str) -> Result<u8> {
    tiers::remove(&super::home(global)?, name)?;
    if global.json {
        ui::print_json(&json!({ "name": name, "kept": false }));
    }
    Ok(exit::OK)
}

fn names(cids: &[Cid]) -> Vec<String> {
    cids.iter().map(ToString::to_string).collect()
}

fn list_cids(word: &str, cids: &[Cid]) {
    cids.iter().for_each(|cid| ui::print(format_args!("  {word} {cid}\n")));
}

fn check(global: &Global, name: &str, memories: &[String], existing: Existing) -> Result<u8> {
    let home = super::home_of_memories(global)?;
    let named = tiers::find(&home, name)?;
    let progress = Progress::start("looking", global.quiet || global.json);
    let checked = opener(global).open(&named).and_then(|at| tiers::check(&home, &at, memories, existing));
    progress.stop();
    let checked = checked?;
    if global.json {
        ui::print_json(&json!({
            "tier": name,
            "ok": checked.missing.is_empty() && checked.bad.is_empty(),
            "objects": checked.objects,
            "there": checked.there,
            "missing": names(&checked.missing),
            "bad": checked.bad.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }));
    } else {
        show_checked(name, &checked);
    }
    Ok(match (checked.bad.is_empty(), checked.missing.is_empty()) {
        (false, _) => exit::INTEGRITY,
        (true, false) => exit::FAILURE,
        (true, true) => exit::OK,
    })
}

fn show_checked(name: &str, checked: &Checked) {
    let word = match (checked.bad.is_empty(), checked.missing.is_empty()) {
        (false, _) => ui::red("damaged"),
        (true, false) => ui::bold("incomplete"),
        (true, true) => ui::bold("ok"),
    };
    let (there, objects) = (ui::count(checked.there), ui::count(checked.objects));
    ui::print(format_args!("{word}: tier {name} has {there} of {objects} objects\n"));
    checked.bad.iter().for_each(|bad| ui::print(format_args!("  {}\n", ui::quote_lines(&bad.to_string()))));
    list_cids("missing", &checked.missing);
}

fn push(global: &Global, name: Option<&str>, memories: &[String], existing: Existing) -> Result<u8> {
    let home = super::home(global)?;
    let to = match name {
        Some(name) => vec![tiers::find(&home, name)?],
        None => tiers::list(&home)?,
    };
    if to.is_empty() {
        let hint = "`vac tier add NAME URL` names one";
        return Err(Usage::new("this home has no tier").hint(hint).into());
    }
    let progress = Progress::start("copying", global.quiet || global.json);
    let pushed: Result<Vec<_>> =
        to.iter().map(|named| push_to(global, &home, named, memories, existing)).collect();
    progress.stop();
    let pushed = pushed?;
    if global.json {
        let all = to.iter().zip(&pushed).map(|(named, pushed)| pushed_json(named, pushed));
        ui::print_json(&json!({ "tiers": all.collect::<Vec<_>>() }));
    } else {
        to.iter().zip(&pushed).for_each(|(named, pushed)| show_pushed(&named.name, pushed));
    }
    let is_lost = pushed.iter().any(|pushed| !pushed.lost.is_empty());
    let is_left = pushed.iter().any(|pushed| !pushed.too_long.is_empty());
    Ok(if is_lost {
        exit::INTEGRITY
    } else if is_left {
        exit::FAILURE
    } else {
        exit::OK
    })
}

fn push_to(
    global: &Global,
    home: &Home,
    named: &Named,
    memories: &[String],
    existing: Existing,
) -> Result<Pushed> {
    tiers::push(home, &opener(global).open(named)?, memories, existing)
}

fn opener(global: &Global) -> Opener {
    Opener { is_quiet: global.quiet }
}

fn pushed_json(named: &Named, pushed: &Pushed) -> Value {
    json!({
        "tier": named.name,
        "objects": pushed.objects,
        "there": pushed.there,
        "sent": pushed.sent,
        "sent_bytes": pushed.sent_bytes,
        "replaced": names(&pushed.replaced),
        "lost": names(&pushed.lost),
        "too_long": names(&pushed.too_long),
    })
}

fn show_pushed(name: &str, pushed: &Pushed) {
    let [objects, there, sent, bytes] =
        [pushed.objects, pushed.there, pushed.sent, pushed.sent_bytes].map(ui::count);
    ui::print(format_args!(
        "tier {name}: sent {sent} of {objects} objects, {bytes} bytes; {there} were there\n"
    ));
    list_cids("replaced", &pushed.replaced);
    list_cids("lost", &pushed.lost);
    list_cids("too long for a tier", &pushed.too_long);
}
