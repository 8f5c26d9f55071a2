//! The dashboard.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Style, Stylize as _},
    text::{Line, Span},
    widgets::{Block, Row, Sparkline, Table},
};

use super::snapshot::{Alert, MINUTES, Service, Snapshot};

/// Bars of one character, from nothing to most.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Minutes of a service that are drawn in its row.
const ROW_MINUTES: usize = 20;

/// What services are sorted by.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) enum Sort {
    #[default]
    Events,
    ErrorRate,
    Latency,
}

/// What is on the screen.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) url: String,
    pub(super) snapshot: Snapshot,
    pub(super) error: Option<String>,
    pub(super) sort: Sort,
    pub(super) is_paused: bool,
}

impl Shown {
    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let alerts = (self.snapshot.alerts.len() as u16 + 3).min(frame.area().height / 3).max(4);
        let areas = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(6),
            Constraint::Min(4),
            Constraint::Length(alerts),
            Constraint::Length(1),
        ]);
        let [head, chart, services, alerts, foot] = areas.areas(frame.area());
        frame.render_widget(self.head(), head);
        self.chart(frame, chart);
        frame.render_widget(self.services(), services);
        frame.render_widget(self.alerts(), alerts);
        frame.render_widget(self.foot(), foot);
    }

    fn head(&self) -> Line<'_> {
        if let Some(error) = &self.error {
            return Line::from(error.as_str()).red().bold();
        }
        let total =
            |rate: fn(&Service) -> f64| -> f64 { self.snapshot.services.iter().map(rate).sum() };
        let events = total(|service| service.events_per_second);
        let errors = total(|service| service.errors_per_second);
        let firing = self.snapshot.alerts_that_are("firing");
        let mut parts = vec![
            Span::from(format!("thalweg {}", self.url)).bold(),
            format!("  {} events/s  ", number(events)).into(),
            share(errors, events),
            " errors  ".into(),
            Span::from(format!("{firing} firing")).style(if firing > 0 {
                Style::new().red().bold()
            } else {
                Style::new()
            }),
        ];
        if self.is_paused {
            parts.push("  paused".yellow());
        }
        Line::from(parts)
    }

    fn chart(&self, frame: &mut Frame<'_>, area: Rect) {
        let block = Block::bordered().title(" events by minute, the last hour ");
        // A minute is as many columns wide as fit.
        let width = usize::from(block.inner(area).width);
        let columns = (width / MINUTES).max(1);
        let events = self.snapshot.events();
        let newest = &events[events.len().saturating_sub(width / columns)..];
        let bars = newest.iter().flat_map(|events| std::iter::repeat_n(*events, columns));
        let chart = Sparkline::default().block(block).data(bars).style(Color::Blue);
        frame.render_widget(chart, area);
    }

    fn services(&self) -> Table<'_> {
        let mut services: Vec<&Service> = self.snapshot.services.iter().collect();
        let key = |service: &Service| match self.sort {
            Sort::Events => service.events_per_second,
            Sort::ErrorRate => service.errors_per_second / service.events_per_second.max(1e-9),
            Sort::Latency => service.latency_ms[2].unwrap_or(0.0),
        };
        services.sort_by(|a, b| key(b).total_cmp(&key(a)));
        let rows = services.into_iter().map(|service| {
            let [p50, p95, p99] = service.latency_ms.map(|ms| ms.map_or("–".into(), number));
            let newest = &service.events[MINUTES - ROW_MINUTES..];
            Row::new([
                Line::from(service.name.as_str()),
                Line::from(number(service.events_per_second)).right_aligned(),
                Line::from(share(service.errors_per_second, service.events_per_second))
                    .right_aligned(),
                Line::from(p50).right_aligned(),
                Line::from(p95).right_aligned(),
                Line::from(p99).right_aligned(),
                Line::from(bars(newest)).blue(),
            ])
        });
        let widths = [
            Constraint::Min(12),
            Constraint::Length(9),
            Constraint::Length(8),
            Constraint::Length(8),
            Constraint::Length(8),
            Constraint::Length(8),
            Constraint::Length(ROW_MINUTES as u16),
        ];
        let right = |text: &'static str| Line::from(text).right_aligned();
        let header = Row::new([
            Line::from("service"),
            right("events/s"),
            right("errors"),
            right("p50 ms"),
            right("p95 ms"),
            right("p99 ms"),
            Line::from("last 20 minutes"),
        ]);
        Table::new(rows, widths).header(header.bold()).block(Block::bordered().title(" services "))
    }

    fn alerts(&self) -> Table<'_> {
        let row = |alert: &'_ Alert| {
            let style = match alert.state.as_str() {
                "firing" => Style::new().red(),
                "pending" => Style::new().yellow(),
                _ => Style::new().dark_gray(),
            };
            let since = alert.starts_at.get(11..19).unwrap_or(&alert.starts_at).to_owned();
            Row::new([
                alert.state.clone(),
                alert.severity.clone(),
                alert.name.clone(),
                alert.service.clone().unwrap_or_default(),
                since,
                alert.summary.clone(),
            ])
            .style(style)
        };
        let widths = [
            Constraint::Length(8),
            Constraint::Length(8),
            Constraint::Max(24),
            Constraint::Max(20),
            Constraint::Length(8),
            Constraint::Min(20),
        ];
        let header = Row::new(["state", "severity", "alert", "service", "since", "summary"]);
        let title = format!(" alerts: {} ", self.snapshot.alerts_total);
        Table::new(self.snapshot.alerts.iter().map(row), widths)
            .header(header.bold())
            .block(Block::bordered().title(title))
    }

    fn foot(&self) -> Line<'static> {
        let sort = |key: &'static str, name: &'static str, sort| {
            let style = if self.sort == sort { Style::new().bold() } else { Style::new() };
            [Span::from(key).cyan(), Span::from(name).style(style)]
        };
        let mut parts = vec!["q".cyan(), " quit  ".into(), "p".cyan(), " pause  sort by: ".into()];
        parts.extend(sort("e", " events  ", Sort::Events));
        parts.extend(sort("r", " error rate  ", Sort::ErrorRate));
        parts.extend(sort("l", " latency", Sort::Latency));
        Line::from(parts)
    }
}

/// Three significant digits or so, with k and M.
fn number(value: f64) -> String {
    match value {
        0.0 => "0".into(),
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        ..10_000.0 => format!("{value:.0}"),
        ..10_000_000.0 => format!("{:.0}k", value / 1e3),
        _ => format!("{:.0}M", value / 1e6),
    }
}

/// Part of a whole, coloured by how bad it is.
fn share(part: f64, whole: f64) -> Span<'static> {
    let share = if whole > 0.0 { part / whole } else { 0.0 };
    let text = format!("{:.1} %", share * 100.0);
    match share {
        ..0.01 => text.into(),
        ..0.05 => text.yellow(),
        _ => text.red(),
    }
}

/// Values as bars, the largest the highest.
fn bars(values: &[u64]) -> String {
    let most = values.iter().copied().max().unwrap_or(0).max(1);
    values.iter().map(|value| BARS[(value * 8).div_ceil(most) as usize]).collect()
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::{super::snapshot::tests::shop, *};

    fn lines(shown: &Shown) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(100, 24)).unwrap();
        let frame = terminal.draw(|frame| shown.draw(frame)).unwrap();
        let cells = frame.buffer.content.chunks(100);
        cells.map(|row| row.iter().map(|cell| cell.symbol()).collect()).collect()
    }

    fn place(lines: &[String], text: &str) -> usize {
        let found = lines.iter().position(|line| line.contains(text));
        found.unwrap_or_else(|| panic!("no {text} in\n{}", lines.join("\n")))
    }

    #[test]
    fn services_and_alerts_are_drawn() {
        let mut shown = Shown { url: "http://x".into(), snapshot: shop(), ..Shown::default() };
        let drawn = lines(&shown);
        assert!(
            drawn[0].contains("http://x  20.0 events/s  5.5 % errors  1 firing"),
            "{}",
            drawn[0]
        );
        let payment = &drawn[place(&drawn, "│payment")];
        assert!(payment.contains("10.0"), "{payment}");
        assert!(payment.contains("10.0 %") && payment.contains("12.5") && payment.contains('–'));
        assert!(place(&drawn, "│firing") < place(&drawn, "│resolved"));
        shown.sort = Sort::ErrorRate;
        let drawn = lines(&shown);
        assert!(place(&drawn, "│payment") < place(&drawn, "│web"));
    }

    #[test]
    fn an_error_is_shown_above_what_was_known() {
        let error = Some("no server answers".into());
        let drawn = lines(&Shown { error, snapshot: shop(), ..Shown::default() });
        assert!(drawn[0].starts_with("no server answers"), "{}", drawn[0]);
        place(&drawn, "│payment");
    }

    #[test]
    fn the_smallest_terminal_does_not_fail() {
        let shown = Shown { snapshot: shop(), ..Shown::default() };
        for (width, height) in [(1, 1), (20, 3), (40, 8)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            terminal.draw(|frame| shown.draw(frame)).unwrap();
        }
    }

    #[test]
    fn bars_are_as_high_as_their_values() {
        assert_eq!(bars(&[0, 1, 4, 8]), " ▁▄█");
        assert_eq!(bars(&[0, 0]), "  ");
    }
}
