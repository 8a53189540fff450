//! Queues of frames, linked through one table, so that any frame can be taken out at once.

/// No frame.
const NONE: u32 = u32::MAX;

/// Links of all frames. A frame is in at most one queue.
pub(super) struct Links {
    links: Vec<Link>,
}

#[derive(Clone, Copy)]
struct Link {
    newer: u32,
    older: u32,
}

/// A queue: its newest and its oldest frame.
#[derive(Debug)]
pub(super) struct Queue {
    newest: u32,
    oldest: u32,
    len: usize,
}

impl Default for Queue {
    fn default() -> Self {
        Self { newest: NONE, oldest: NONE, len: 0 }
    }
}

impl Links {
    pub(super) fn new(capacity: usize) -> Self {
        Self { links: vec![Link { newer: NONE, older: NONE }; capacity] }
    }

    fn link(&self, frame: u32) -> Link {
        self.links.get(frame as usize).copied().unwrap_or(Link { newer: NONE, older: NONE })
    }

    fn set_newer(&mut self, frame: u32, newer: u32) {
        if let Some(link) = self.links.get_mut(frame as usize) {
            link.newer = newer;
        }
    }

    fn set_older(&mut self, frame: u32, older: u32) {
        if let Some(link) = self.links.get_mut(frame as usize) {
            link.older = older;
        }
    }
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The frame that came first.
    pub(super) fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// The frame that came after `frame`.
    pub(super) fn newer(&self, links: &Links, frame: u32) -> Option<u32> {
        let newer = links.link(frame).newer;
        (newer != NONE).then_some(newer)
    }

    pub(super) fn push(&mut self, links: &mut Links, frame: u32) {
        links.set_older(frame, self.newest);
        links.set_newer(frame, NONE);
        if self.newest == NONE {
            self.oldest = frame;
        } else {
            links.set_newer(self.newest, frame);
        }
        self.newest = frame;
        self.len += 1;
    }

    pub(super) fn take(&mut self, links: &mut Links, frame: u32) {
        let Link { newer, older } = links.link(frame);
        if newer == NONE {
            self.newest = older;
        } else {
            links.set_older(newer, older);
        }
        if older == NONE {
            self.oldest = newer;
        } else {
            links.set_newer(older, newer);
        }
        self.len -= 1;
    }

    pub(super) fn pop(&mut self, links: &mut Links) -> Option<u32> {
        let oldest = self.oldest()?;
        self.take(links, oldest);
        Some(oldest)
    }
}
