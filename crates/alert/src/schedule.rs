//! Times that come again every week.

use std::{collections::BTreeSet, fmt, str::FromStr};

use chrono::{DateTime, Datelike as _, Days, Timelike as _, Utc, Weekday};
use chrono_tz::Tz;
use schemars::JsonSchema;
use serde::Deserialize;

const DAY_MINUTES: u32 = 24 * 60;

/// A stretch of the day, on some days of the week: `{days: [sat, sun], from: "22:00", to: "06:00",
/// time_zone: Europe/Berlin}`.
///
/// A stretch whose end is not after its beginning ends on the next day, and belongs to the day it
/// began. Where clocks are put forward or back, what the clock on the wall shows decides.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeeklyWindow {
    /// Days on which it begins, `mon` to `sun`; every day when there are none.
    #[serde(default)]
    pub days: BTreeSet<Day>,
    /// When it begins.
    #[serde(default = "midnight")]
    pub from: TimeOfDay,
    /// When it ends.
    #[serde(default = "end_of_day")]
    pub to: TimeOfDay,
    /// The time zone of the clock on the wall, such as `Europe/Berlin`; UTC when none is named.
    #[serde(default)]
    pub time_zone: TimeZone,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// Minutes since midnight, written `HH:MM`; `24:00` is the end of the day.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct TimeOfDay(u32);

/// A time zone of the IANA database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct TimeZone(Tz);

fn midnight() -> TimeOfDay {
    TimeOfDay(0)
}

fn end_of_day() -> TimeOfDay {
    TimeOfDay(DAY_MINUTES)
}

impl WeeklyWindow {
    /// Whether `at` lies in it.
    pub fn contains(&self, at: DateTime<Utc>) -> bool {
        let local = at.with_timezone(&self.time_zone.0).naive_local();
        let minute = TimeOfDay(local.hour() * 60 + local.minute());
        let today = self.begins_on(local.weekday());
        if self.from < self.to {
            return today && (self.from..self.to).contains(&minute);
        }
        let yesterday = (local - Days::new(1)).weekday();
        (today && minute >= self.from) || (self.begins_on(yesterday) && minute < self.to)
    }

    fn begins_on(&self, day: Weekday) -> bool {
        self.days.is_empty() || self.days.contains(&Day::from(day))
    }
}

impl From<Weekday> for Day {
    fn from(day: Weekday) -> Self {
        match day {
            Weekday::Mon => Self::Mon,
            Weekday::Tue => Self::Tue,
            Weekday::Wed => Self::Wed,
            Weekday::Thu => Self::Thu,
            Weekday::Fri => Self::Fri,
            Weekday::Sat => Self::Sat,
            Weekday::Sun => Self::Sun,
        }
    }
}

impl TryFrom<String> for TimeOfDay {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let read = || {
            let (hours, minutes) = text.split_once(':')?;
            if (hours.len(), minutes.len()) != (2, 2) {
                return None;
            }
            let (hours, minutes): (u32, u32) = (hours.parse().ok()?, minutes.parse().ok()?);
            let total = hours * 60 + minutes;
            (minutes < 60 && total <= DAY_MINUTES).then_some(Self(total))
        };
        read().ok_or_else(|| format!("expected a time of day from 00:00 to 24:00, found `{text}`"))
    }
}

impl fmt::Debug for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl Default for TimeZone {
    fn default() -> Self {
        Self(Tz::UTC)
    }
}

impl TryFrom<String> for TimeZone {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Tz::from_str(&name).map(Self).map_err(|_| {
            format!("expected a time zone such as Europe/Berlin or UTC, found `{name}`")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(yaml: &str) -> Result<WeeklyWindow, String> {
        serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
    }

    fn contains(yaml: &str, at: &str) -> bool {
        window(yaml).unwrap().contains(at.parse().unwrap())
    }

    #[test]
    fn a_window_is_open_from_its_beginning_until_before_its_end() {
        // 2026-11-25 is a Wednesday.
        let office = "{days: [mon, tue, wed], from: '09:00', to: '17:30'}";
        for (at, expected) in [
            ("2026-11-25T08:59:59Z", false),
            ("2026-11-25T09:00:00Z", true),
            ("2026-11-25T17:29:59Z", true),
            ("2026-11-25T17:30:00Z", false),
            ("2026-11-26T10:00:00Z", false),
        ] {
            assert_eq!(contains(office, at), expected, "{at}");
        }
        assert!(contains("{}", "2026-11-26T23:59:59Z"), "always");
        assert!(contains("{days: [thu]}", "2026-11-26T23:59:59Z"));
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_it_began() {
        let night = "{days: [wed], from: '22:00', to: '06:00'}";
        for (at, expected) in [
            ("2026-11-25T05:00:00Z", false),
            ("2026-11-25T22:00:00Z", true),
            ("2026-11-26T05:59:00Z", true),
            ("2026-11-26T22:00:00Z", false),
        ] {
            assert_eq!(contains(night, at), expected, "{at}");
        }
    }

    #[test]
    fn the_clock_on_the_wall_decides_in_summer_and_winter() {
        let morning = "{from: '08:00', to: '09:00', time_zone: Europe/Berlin}";
        assert!(contains(morning, "2026-01-15T07:30:00Z"));
        assert!(contains(morning, "2026-07-15T06:30:00Z"));
        assert!(!contains(morning, "2026-07-15T07:30:00Z"));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for yaml in [
            "{from: '25:00'}",
            "{from: '24:01'}",
            "{from: '8:00'}",
            "{to: '09:60'}",
            "{time_zone: Berlin}",
            "{days: [monday]}",
        ] {
            assert!(window(yaml).unwrap_err().contains("expected"), "{yaml}");
        }
    }
}
