//! The series of a store by their numbers, each name taken apart once: a filter compares numbers, not texts.

use std::{collections::HashMap, sync::Arc};

use super::window::SeriesId;

/// What stands between site and device in the token of a device of several sites: an encoded `/`.
const SITE_END: &str = "%2F";

/// A part of names: equal ones have the same number.
pub(super) type TokenId = u32;

/// The parts of a series' name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    /// Of a device that was filed under `<site>/<device>`.
    pub(super) site: Option<TokenId>,
    pub(super) device: TokenId,
    pub(super) channel: TokenId,
}

/// All names, in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Names {
    texts: Vec<Arc<str>>,
    parts: Vec<Parts>,
    tokens: HashMap<String, TokenId>,
}

impl Names {
    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    pub(super) fn text(&self, series: SeriesId) -> Option<&str> {
        self.texts.get(series as usize).map(|text| &**text)
    }

    /// A text that its holder keeps; an unknown series' is empty.
    pub(super) fn shared(&self, series: SeriesId) -> Arc<str> {
        self.texts.get(series as usize).cloned().unwrap_or_default()
    }

    pub(super) fn parts(&self, series: SeriesId) -> Option<Parts> {
        self.parts.get(series as usize).copied()
    }

    /// The number of a token; `None`: no name has it.
    pub(super) fn token(&self, token: &str) -> Option<TokenId> {
        self.tokens.get(token).copied()
    }

    /// The next series.
    pub(super) fn push(&mut self, text: &str) {
        let (device, channel) = text.split_once('/').unwrap_or((text, ""));
        let site = device.split_once(SITE_END).map(|(site, _)| self.numbered(site));
        let parts = Parts { site, device: self.numbered(device), channel: self.numbered(channel) };
        self.texts.push(text.into());
        self.parts.push(parts);
    }

    fn numbered(&mut self, token: &str) -> TokenId {
        if let Some(known) = self.tokens.get(token) {
            return *known;
        }
        // Three for each series at most, whose numbers are u32s; a store never comes near a billion of them.
        let number = self.tokens.len() as TokenId;
        self.tokens.insert(token.to_owned(), number);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_told_apart_once() {
        let mut names = Names::default();
        for text in ["plant%201%2Fpump%2F7/t", "pump/t", "pump/v", "alone", "plant%201%2Ffan/v"] {
            names.push(text);
        }
        let of = |series| names.parts(series).unwrap();
        let site = names.token("plant%201");
        assert_eq!((of(0).site, of(4).site, of(1).site, of(3).site), (site, site, None, None));
        assert_eq!((of(1).device, of(1).channel), (of(2).device, of(0).channel));
        assert_eq!((Some(of(0).device), Some(of(3).channel)), (names.token("plant%201%2Fpump%2F7"), names.token("")));
        assert_eq!((names.token("fan"), names.parts(5), names.text(3)), (None, None, Some("alone")));
    }
}
