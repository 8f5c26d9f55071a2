//! The miner: message in, template out.

use std::cmp::Reverse;

use crate::config::{Config, ConfigError};
use crate::evidence::{Finding, parameters_found};
use crate::pattern::Pattern;
use crate::patterns::Patterns;
use crate::sentence::Reader;
use crate::template::{Parameters, Template, TemplateId};
use crate::templates::Templates;

/// How many merged ids are remembered for each pattern that can be kept.
const REDIRECTS_PER_PATTERN: usize = 4;

/// Finds the templates of messages as they come.
///
/// Deterministic: the same messages in the same order give the same templates
/// with the same ids, on any machine.
pub struct Miner {
    pub(crate) config: Config,
    pub(crate) patterns: Patterns,
    pub(crate) templates: Templates,
    /// How many messages were observed.
    pub(crate) lines: u64,
    /// How many patterns were made.
    pub(crate) births: u64,
    /// How many templates were forgotten.
    pub(crate) forgotten: u64,
    reader: Reader,
}

/// What became of a message. See [`Miner::observe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Observation {
    /// The template that it belongs to now.
    pub template: TemplateId,
    /// Whether there was no such template before.
    pub is_new: bool,
    /// Whether the message showed that templates were one: some ids now
    /// [resolve](Miner::resolve) to others.
    pub merged: bool,
}

impl Miner {
    /// A miner that has seen nothing.
    ///
    /// # Errors
    /// When a limit is out of its range.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            patterns: Patterns::new(),
            templates: Templates::new(config.max_patterns * REDIRECTS_PER_PATTERN),
            lines: 0,
            births: 0,
            forgotten: 0,
            reader: Reader::default(),
            config,
        })
    }

    /// Learns from a message and says which template it belongs to.
    ///
    /// Takes time linear in the bytes of the message, without allocating, when
    /// the template is known for messages of so many words. Else it is
    /// compared with at most 768 patterns, and with all of them if some turn
    /// out to be one, after which there are fewer.
    pub fn observe(&mut self, message: &str) -> Observation {
        let (text, is_cut) = head(message, self.config.line_limit_bytes);
        self.lines += 1;
        let elements = self.reader.read(text, is_cut);
        if let Some(at) = self.patterns.matching(elements) {
            let pattern = self.patterns.get_mut(at);
            pattern.count += 1;
            pattern.last_line = self.lines;
            let entry = self.templates.get_mut(pattern.template);
            entry.count += 1;
            return Observation { template: TemplateId(entry.id), is_new: false, merged: false };
        }
        if self.patterns.len() >= self.config.max_patterns {
            self.forget();
        }
        self.learn(text, is_cut)
    }

    /// The template that a message belongs to, if it is known; changes nothing.
    ///
    /// Allocates two buffers.
    #[must_use]
    pub fn find(&self, message: &str) -> Option<TemplateId> {
        let (text, is_cut) = head(message, self.config.line_limit_bytes);
        let mut reader = Reader::default();
        let at = self.patterns.matching(reader.read(text, is_cut))?;
        Some(TemplateId(self.templates.get(self.patterns.get(at).template).id))
    }

    /// The template of an id that [resolves](Self::resolve) to one that is there.
    #[must_use]
    pub fn template(&self, id: TemplateId) -> Option<Template<'_>> {
        let at = self.templates.with_id(self.templates.resolve(id.0))?;
        self.shown(self.templates.get(at))
    }

    /// All templates, in no particular order.
    pub fn templates(&self) -> impl Iterator<Item = Template<'_>> {
        self.templates.iter().filter_map(|entry| self.shown(entry))
    }

    /// What a message has in place of each `<*>` of a template; none if it does not belong to it.
    ///
    /// A message with other brackets or a list of another length than the
    /// template is shown with may have more or fewer of them.
    #[must_use]
    pub fn parameters<'m>(&self, id: TemplateId, message: &'m str) -> Option<Parameters<'m>> {
        let (text, is_cut) = head(message, self.config.line_limit_bytes);
        let mut reader = Reader::default();
        let elements = reader.read(text, is_cut);
        let pattern = self.patterns.get(self.patterns.matching(elements)?);
        if self.templates.get(pattern.template).id != self.templates.resolve(id.0) {
            return None;
        }
        let mut spans = Vec::new();
        for (position, element) in elements.iter().enumerate() {
            if pattern.is_parameter(position) {
                spans.push(element.span());
            } else if element.is_value() || element.has_value() {
                spans.push(element.value_span());
            }
        }
        // The last value of a message that was cut goes on.
        if reader.is_cut()
            && let Some(last) = spans.last_mut()
        {
            last.end = message.len();
        }
        Some(Parameters::new(message, spans))
    }

    /// The id of the template that an id's messages belong to now: itself,
    /// or what its template was merged into, over however many merges.
    ///
    /// The last 4 × [`max_patterns`](Config::max_patterns) merges are remembered.
    #[must_use]
    pub fn resolve(&self, id: TemplateId) -> TemplateId {
        TemplateId(self.templates.resolve(id.0))
    }

    /// Every id that was merged, and what it [resolves](Self::resolve) to; the oldest merge first.
    ///
    /// Who has seen [`merge_count`](Self::merge_count) grow takes as many from the end.
    pub fn merged(&self) -> impl DoubleEndedIterator<Item = (TemplateId, TemplateId)> {
        self.templates.redirects().map(|(id, _)| (TemplateId(id), self.resolve(TemplateId(id))))
    }

    /// How many ids were merged into others, those no longer remembered included.
    #[must_use]
    pub fn merge_count(&self) -> u64 {
        self.templates.merges
    }

    /// How many templates there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.templates.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many patterns there are; at most [`Config::max_patterns`].
    #[must_use]
    pub fn pattern_count(&self) -> usize {
        self.patterns.len()
    }

    /// How many messages were observed.
    #[must_use]
    pub fn line_count(&self) -> u64 {
        self.lines
    }

    /// How many templates were forgotten for others to have room.
    #[must_use]
    pub fn forgotten_count(&self) -> u64 {
        self.forgotten
    }

    /// Its limits.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Shows a template by the pattern seen most.
    fn shown(&self, entry: &crate::templates::Entry) -> Option<Template<'_>> {
        let patterns = entry.patterns.iter().map(|&at| self.patterns.get(at));
        let pattern = patterns.max_by_key(|pattern| (pattern.count, u64::MAX - pattern.born))?;
        Some(Template { id: TemplateId(entry.id), count: entry.count, pattern })
    }

    /// Takes in the message just read, which matches no pattern.
    fn learn(&mut self, text: &str, is_cut: bool) -> Observation {
        let born = self.next_birth();
        let mut pattern = Pattern {
            text: text.into(),
            is_cut,
            elements: self.reader.elements().into(),
            parameters: 0,
            template: 0,
            count: 1,
            last_line: self.lines,
            born,
        };
        let canonical = pattern.canonical();
        let resolved = self.templates.resolve(canonical);
        let home = self.templates.home(canonical).or_else(|| self.templates.with_id(resolved));
        // Nobody has heard of this id yet.
        let unheard = home.is_none().then_some(canonical);
        pattern.template = home.unwrap_or_else(|| self.templates.insert(canonical, born));
        self.templates.get_mut(pattern.template).count += 1;
        let merges = self.templates.merges;
        let mut at = self.settle(pattern);
        while let Some(finding) = parameters_found(&self.patterns, at) {
            at = self.merge(&finding, unheard);
        }
        let id = self.templates.get(self.patterns.get(at).template).id;
        Observation {
            template: TemplateId(id),
            is_new: unheard == Some(id),
            merged: self.templates.merges > merges,
        }
    }

    fn next_birth(&mut self) -> u64 {
        self.births += 1;
        self.births
    }

    /// Adds a pattern to those of its template.
    pub(crate) fn settle(&mut self, pattern: Pattern) -> u32 {
        let (template, canonical) = (pattern.template, pattern.canonical());
        let at = self.patterns.insert(pattern);
        self.templates.settle(template, at, canonical);
        at
    }

    /// Takes a pattern away from its template.
    fn unsettle(&mut self, at: u32) -> Pattern {
        let pattern = self.patterns.remove(at);
        self.templates.unsettle(pattern.template, at, pattern.canonical());
        pattern
    }

    /// Makes one pattern of several, and one template of theirs.
    fn merge(&mut self, finding: &Finding, unheard: Option<u64>) -> u32 {
        // Evidence looks at the latest patterns; there may be older ones.
        let mut members = self.patterns.covered(finding.pattern, finding.parameters);
        members.sort_unstable_by_key(|&at| self.patterns.get(at).born);
        let mut template = self.patterns.get(members[0]).template;
        for &at in &members[1..] {
            template = self.unite(template, self.patterns.get(at).template, unheard);
        }
        let mut merged: Option<Pattern> = None;
        for at in members {
            let member = self.unsettle(at);
            match &mut merged {
                None => merged = Some(member),
                Some(merged) => {
                    merged.count += member.count;
                    merged.last_line = merged.last_line.max(member.last_line);
                }
            }
        }
        let mut merged = merged.expect("a finding has patterns");
        merged.parameters = finding.parameters;
        merged.template = template;
        merged.born = self.next_birth();
        if let Some(same) = self.patterns.with_key(merged.key()) {
            let template = self.unite(template, self.patterns.get(same).template, unheard);
            let pattern = self.patterns.get_mut(same);
            pattern.count += merged.count;
            pattern.last_line = pattern.last_line.max(merged.last_line);
            debug_assert_eq!(pattern.template, template);
            return same;
        }
        if let Some(home) = self.templates.home(merged.canonical()) {
            merged.template = self.unite(template, home, unheard);
        }
        self.settle(merged)
    }

    /// Makes one template of two and says which stayed: the one of more
    /// messages, since fewer rows then hold an id that went; of equals the older.
    fn unite(&mut self, one: u32, other: u32, unheard: Option<u64>) -> u32 {
        if one == other {
            return one;
        }
        let rank = |at: u32| {
            let entry = self.templates.get(at);
            (entry.count, Reverse(entry.born))
        };
        let (stays, goes) = if rank(one) >= rank(other) { (one, other) } else { (other, one) };
        let gone = self.templates.remove(goes);
        for at in gone.patterns {
            let pattern = self.patterns.get_mut(at);
            pattern.template = stays;
            self.templates.rehome(pattern.canonical(), stays);
            self.templates.get_mut(stays).patterns.push(at);
        }
        let entry = self.templates.get_mut(stays);
        entry.count += gone.count;
        let into = entry.id;
        if unheard != Some(gone.id) {
            self.templates.redirect(gone.id, into);
        }
        stays
    }

    /// Makes room: patterns seen once go first, then those not seen for longest.
    fn forget(&mut self) {
        let mut ranked: Vec<(u64, u64, u64, u32)> = self
            .patterns
            .iter()
            .map(|(at, pattern)| (pattern.count.min(2), pattern.last_line, pattern.born, at))
            .collect();
        ranked.sort_unstable();
        ranked.truncate((self.config.max_patterns / 8).max(1));
        for (.., at) in ranked {
            let template = self.unsettle(at).template;
            if self.templates.get(template).patterns.is_empty() {
                self.templates.remove(template);
                self.forgotten += 1;
            }
        }
    }
}

/// What is considered of a message, and whether that is not all.
fn head(message: &str, limit_bytes: usize) -> (&str, bool) {
    if message.len() <= limit_bytes {
        return (message, false);
    }
    (&message[..message.floor_char_boundary(limit_bytes)], true)
}
