//! The limits that a sandbox has run into: each is told in its log, when it is new.

use atoll_runtime::Usage;

/// What has been told.
#[derive(Debug)]
pub(crate) struct Hits {
    oom_kills: u64,
    pids_refused: u64,
    disk_full: bool,
}

impl Hits {
    /// From now on: what happened until now is not news.
    pub(crate) fn since(usage: Usage) -> Self {
        Self { oom_kills: usage.oom_kills, pids_refused: usage.pids_refused, disk_full: false }
    }

    /// What is to be told of this usage, and of a disk of which so many of so many bytes are used.
    pub(crate) fn news(&mut self, usage: Usage, disk: Option<(u64, u64)>) -> Vec<String> {
        let mut news = Vec::new();
        let oom_kills = usage.oom_kills.saturating_sub(std::mem::replace(&mut self.oom_kills, usage.oom_kills));
        if oom_kills > 0 {
            news.push(format!("the kernel ended {oom_kills} processes for want of memory"));
        }
        let refused = usage.pids_refused.saturating_sub(std::mem::replace(&mut self.pids_refused, usage.pids_refused));
        if refused > 0 {
            news.push(format!("the kernel refused {refused} new processes: there were as many as allowed"));
        }
        if let Some((used, total)) = disk {
            let full = total > 0 && total.saturating_sub(used) < total / 100;
            if full && !self.disk_full {
                news.push("the disk is full".to_owned());
            }
            self.disk_full = full;
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hit_is_told_once() {
        let usage = |oom_kills, pids_refused| Usage { oom_kills, pids_refused, ..Usage::default() };
        let mut hits = Hits::since(usage(2, 0));
        assert!(hits.news(usage(2, 0), None).is_empty());
        assert_eq!(hits.news(usage(5, 0), None), ["the kernel ended 3 processes for want of memory"]);
        assert_eq!(hits.news(usage(5, 7), None), ["the kernel refused 7 new processes: there were as many as allowed"]);
        assert_eq!(hits.news(usage(5, 7), Some((995, 1000))), ["the disk is full"]);
        assert!(hits.news(usage(5, 7), Some((1000, 1000))).is_empty());
        assert!(hits.news(usage(5, 7), Some((900, 1000))).is_empty());
        assert_eq!(hits.news(usage(5, 7), Some((1000, 1000))).len(), 1);
        assert!(hits.news(usage(5, 7), Some((0, 0))).is_empty());
        // Counters that go back are not believed.
        assert!(hits.news(usage(0, 0), None).is_empty());
    }
}
