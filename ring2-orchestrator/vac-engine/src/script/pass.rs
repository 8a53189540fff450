//! What a script passes on to the kernels that it calls: never more than it was granted itself, and of
//! that what the kernel's manifest asks for.
//!
//! Invariant: nothing here is decided again in a replay. What was given is an event, and so is what was
//! refused.

use vac_core::canon::encode;
use vac_core::caps::Rights;
use vac_core::fault::{AbortKind, Error, HostAbort, Result, Usage, quote};
use vac_core::ledger::Class;
use vac_host::{Bucket, Preopen, inspect};

use super::files::{failed_io, outside_folder, parent_of, read_below};
use super::{Context, Held, Kernel, OWN_GRANTS};
use crate::grants::{Grant, Part, clean, open_below};
use crate::journal::MANIFEST_EVENT;
use crate::manifest::{self, Ask, Manifest};
use crate::session::With;
use crate::target::Target;

/// A handle in `grants = [...]`, by its number among those of its kind.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pass {
    Dir(usize),
    Grant(usize),
    Secret(usize),
}

/// Something that is passed, with the number of the operator's grant behind it.
struct Passed<'c> {
    number: u32,
    grant: Grant,
    held: Option<&'c Held>,
}

impl Context<'_> {
    /// `grant(text)`: what the operator granted, or less.
    pub(super) fn grant(&mut self, text: &str) -> Result<usize> {
        let asked = Ask::parse(text, "", false)?;
        if !matches!(asked.wants, Grant::Net(_) | Grant::Kv { .. } | Grant::Mem(_) | Grant::Stdin) {
            let message =
                format!("`{}` is nothing of the network, no namespace, memory or input", quote(text));
            let hint = "directories and trees are handles of `dir(name)`, variables a kernel's arguments";
            return Err(Usage::new(message).hint(hint).into());
        }
        let found = self.operators().find_map(|(number, grant)| {
            grant.meet(&asked).filter(|got| got.text() == asked.text()).map(|got| (number, got))
        });
        self.event("vac:script/grant", Class::Read, &encode(text), || match &found {
            Some((number, _)) => Ok((Vec::new(), Some(*number))),
            None => {
                let message = format!("`{}` is not granted to this script", quote(text));
                let hint = format!("grant it: `--grant {}`", quote(text));
                Err(HostAbort::new(AbortKind::Denied, message).hint(hint).into())
            }
        })?;
        self.passable.push(found.unwrap_or((0, asked.wants)));
        Ok(self.passable.len() - 1)
    }

    /// `secret(name)`: what the operator gave as `--secret`.
    pub(super) fn secret(&mut self, name: &str) -> Result<usize> {
        let found = self.secrets.iter().position(|given| given.name == name);
        self.event("vac:script/secret", Class::Read, &encode(name), || match found {
            Some(_) => Ok((Vec::new(), None)),
            None => {
                let message = format!("this script was given no secret `{}`", quote(name));
                let hint = format!("give it: `--secret {}=env:VARIABLE`", quote(name));
                Err(HostAbort::new(AbortKind::Denied, message).hint(hint).into())
            }
        })?;
        Ok(found.unwrap_or_default())
    }

    /// The operator's grants with their numbers: all but the script's own.
    pub(super) fn operators(&self) -> impl Iterator<Item = (u32, &Grant)> {
        (0..).zip(self.grants.iter().take(self.grants.len().saturating_sub(OWN_GRANTS)))
    }

    /// What the kernel `target` asks for, if it says so. The bytes become part of the record.
    pub(super) fn manifest(&mut self, text: &str, target: &Target) -> Result<Option<Manifest>> {
        let found = match self.session.is_live() && !self.ignores_manifests {
            true => self.find_manifest(text, target),
            false => Ok(None),
        };
        if matches!(found, Ok(None)) && !self.session.journal().is_next(MANIFEST_EVENT) {
            return Ok(None);
        }
        let mut place = text.to_owned();
        let bytes = self.event(MANIFEST_EVENT, Class::Read, &encode(text), || {
            let (bytes, found_at) = found?.unwrap_or_default();
            Manifest::parse(&bytes, &found_at)?;
            place = found_at;
            Ok((bytes, None))
        })?;
        Manifest::parse(&bytes, &place).map(Some)
    }

    /// The bytes of a kernel's manifest, beside it or in it, and where that is.
    fn find_manifest(&self, text: &str, target: &Target) -> Result<Option<(Vec<u8>, String)>> {
        let is_file = !text.starts_with("builtin:") && text.parse::<vac_core::cid::Cid>().is_err();
        if is_file {
            let path = std::path::Path::new(text).with_extension(manifest::SUFFIX).display().to_string();
            let around = self.around(&path)?;
            match around.dir.metadata(&around.rest) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(outside_folder(&path, &parent_of(&path), &e)),
                Ok(_) => return Ok(Some((read_below(&around.dir, &around.rest, &path)?, path))),
            }
        }
        let place = format!("section `{}` of {}", manifest::SECTION, target.place);
        let section = vac_host::sections::custom(&target.bytes, manifest::SECTION, &target.place)?;
        Ok(section.map(|bytes| (bytes.to_vec(), place)))
    }

    /// What `kernel` is started with to call `export`; a replay starts it with nothing.
    pub(super) fn with(&self, kernel: usize, export: &inspect::Export, passes: &[Pass]) -> Result<With> {
        let is_refused = !self.session.is_live() && self.session.journal().is_next(REFUSED_EVENT);
        let with = match self.session.is_live() {
            true => self.with_live(kernel, passes),
            false => Ok(With::default()),
        };
        let with = match with {
            Ok(with) if !is_refused => return Ok(with),
            Ok(_) => None,
            Err(why) => Some(why),
        };
        let Kernel { name, .. } = self.kernel_of(kernel)?;
        let request = encode(&(name, &export.name));
        self.event(REFUSED_EVENT, Class::Read, &request, || match with {
            Some(why) => Err(why),
            None => Ok((Vec::new(), None)),
        })?;
        Ok(With::default())
    }

    fn with_live(&self, kernel: usize, passes: &[Pass]) -> Result<With> {
        let passed = self.passed(passes)?;
        let granted: Vec<Grant> = passed.iter().map(|passed| passed.grant.clone()).collect();
        let Kernel { name, manifest, .. } = self.kernel_of(kernel)?;
        let grants = match manifest {
            None => granted,
            Some(manifest) => agreed(manifest, name, &granted, &|grant| is_missing(&passed, grant))?,
        };
        let mut with = With::default();
        for grant in &grants {
            let from = origin(&passed, grant).ok_or_else(nothing_of)?;
            match (grant, from.held) {
                (Grant::Net(net), _) => with.net.push(net.numbered(from.number)),
                (Grant::Stdin, _) => with.stdin = Some(from.number),
                (Grant::Kv { name, guest, rights }, _) => with.buckets.push(Bucket {
                    guest: guest.clone(),
                    rights: *rights,
                    grant: from.number,
                    data: self.namespaces.borrow_mut().open(self.session.home, name)?,
                }),
                (Grant::Mem(mem), _) => with.memories.push(self.memories.borrow_mut().open(
                    self.session.home,
                    mem,
                    from.number,
                )?),
                (grant, Some(held)) => show(&mut with.preopens, held, grant)?,
                (_, None) => return Err(nothing_of()),
            }
        }
        for given in passes.iter().filter_map(|pass| self.given(*pass)) {
            with.config.push(given.variable());
            with.secrets.push(given.secret.clone());
        }
        // A server may tell this kernel what it heard from another one.
        with.hidden = self.secrets.iter().map(|given| given.secret.clone()).collect();
        with.config.sort();
        with.config.dedup();
        Ok(with)
    }

    fn given(&self, pass: Pass) -> Option<&crate::secrets::Given> {
        if let Pass::Secret(number) = pass { self.secrets.get(number) } else { None }
    }

    fn passed(&self, passes: &[Pass]) -> Result<Vec<Passed<'_>>> {
        let mut all: Vec<Passed<'_>> = Vec::new();
        for pass in passes {
            match pass {
                Pass::Dir(number) => {
                    let held = self.held(*number)?;
                    let grant = Grant::Dir {
                        host: Default::default(),
                        guest: held.guest.clone(),
                        rights: held.rights,
                    };
                    all.push(Passed { number: held.grant, grant, held: Some(held) });
                }
                Pass::Grant(number) => {
                    let (number, grant) = self.passable.get(*number).cloned().ok_or_else(nothing_of)?;
                    all.push(Passed { number, grant, held: None });
                }
                Pass::Secret(_) => {}
            }
        }
        Ok(all)
    }
}

/// Name of the event in which a kernel is not called, because it lacks what it asks for or what it is given
/// cannot be opened.
const REFUSED_EVENT: &str = "vac:script/refused";

/// What of `granted` the manifest asks for.
fn agreed(
    manifest: &Manifest,
    name: &str,
    granted: &[Grant],
    is_missing: &dyn Fn(&Grant) -> bool,
) -> Result<Vec<Grant>> {
    let met = manifest::agree(&manifest.asks, granted);
    match manifest::lacks(manifest, &met, name) {
        None => Ok(manifest::effective_where(&met, is_missing)),
        Some(lacks) => {
            let hint = format!("pass it in `grants = [...]`; {}", lacks.why);
            Err(HostAbort::new(AbortKind::Denied, lacks.message).hint(hint).into())
        }
    }
}

/// What was passed that `grant` is all or a part of.
fn origin<'p, 'c>(passed: &'p [Passed<'c>], grant: &Grant) -> Option<&'p Passed<'c>> {
    let is_of = |held: &Held, guest: &str, rights: Rights| {
        clean(&held.guest) == clean(guest) && held.rights.has(rights)
    };
    passed.iter().find(|passed| match (grant, passed.held) {
        (Grant::Dir { guest, rights, .. }, Some(held)) => is_of(held, guest, *rights),
        (Grant::Part(Part { of, rights, .. }), Some(held)) => is_of(held, of, *rights),
        (_, Some(_)) => false,
        (_, None) => {
            let asked = Ask { wants: grant.clone(), why: String::new(), optional: false };
            passed.grant.meet(&asked).is_some_and(|got| got.text() == grant.text())
        }
    })
}

/// Whether a part that is a directory is not there.
fn is_missing(passed: &[Passed<'_>], grant: &Grant) -> bool {
    let Grant::Part(part) = grant else { return false };
    let dir = origin(passed, grant).and_then(|passed| passed.held?.dir.as_ref());
    !part.is_file
        && dir.is_some_and(|dir| {
            dir.metadata(&part.below).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
        })
}

/// Shows a kernel a directory that the script holds, or a part of it.
fn show(preopens: &mut Vec<Preopen>, held: &Held, grant: &Grant) -> Result<()> {
    let Some(dir) = &held.dir else { return Ok(()) };
    let again = || dir.try_clone().map_err(|e| Error::from(failed_io("open again", &held.guest, &e)));
    let whole =
        |guest: String, dir, rights| Preopen { guest, dir, only: Vec::new(), rights, grant: held.grant };
    match grant {
        Grant::Dir { rights, .. } => preopens.push(whole(held.guest.clone(), again()?, *rights)),
        Grant::Part(part) if !part.is_file => {
            preopens.push(whole(part.guest(), open_below(dir, part)?, part.rights));
        }
        Grant::Part(part) => {
            let only = (part.below.clone(), part.rights, held.grant);
            let is_same = |p: &&mut Preopen| clean(&p.guest) == clean(&part.of) && !p.only.is_empty();
            match preopens.iter_mut().find(is_same) {
                Some(preopen) => {
                    preopen.rights = preopen.rights.or(part.rights);
                    preopen.only.push(only);
                }
                None => {
                    let mut preopen = whole(part.of.clone(), again()?, part.rights);
                    preopen.only.push(only);
                    preopens.push(preopen);
                }
            }
        }
        _ => return Err(nothing_of()),
    }
    Ok(())
}

fn nothing_of() -> Error {
    Usage::new("this handle is of another script").into()
}
