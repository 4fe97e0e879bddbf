//! Bars, drawn as SVG.
//!
//! One picture a bench: a bar for each contender with its figure, a thin line from its least to its
//! greatest sample, and a dashed line where the aim lies. Colours hold on light and dark pages, and
//! nothing is told by colour alone: names and figures stand beside each bar.

use std::fmt::Write as _;

use crate::harness::amount;

/// The contenders of a bench, side by side.
#[derive(Debug, Clone)]
pub struct Chart {
    /// What was measured.
    pub title: String,
    /// What the bars count.
    pub unit: &'static str,
    /// From top to bottom.
    pub bars: Vec<Bar>,
    /// Where ours should end.
    pub aim: Option<f64>,
}

/// One contender.
#[derive(Debug, Clone)]
pub struct Bar {
    /// Who.
    pub name: String,
    /// Its least sample.
    pub low: f64,
    /// The median of its samples.
    pub figure: f64,
    /// Its greatest sample.
    pub high: f64,
    /// Whether it is raybolt's.
    pub ours: bool,
}

impl Bar {
    /// A bar of one sample.
    pub fn plain(name: impl Into<String>, figure: f64, ours: bool) -> Bar {
        Bar { name: name.into(), low: figure, figure, high: figure, ours }
    }
}

const WIDTH: f64 = 760.0;
const LEFT: f64 = 250.0;
const RIGHT: f64 = 110.0;
const TOP: f64 = 40.0;
const STEP: f64 = 28.0;
const THICK: f64 = 16.0;

impl Chart {
    /// Draws the aim, a figure in the chart's unit.
    pub fn with_aim(mut self, aim: f64) -> Chart {
        self.aim = Some(aim);
        self
    }

    /// The picture.
    pub fn svg(&self) -> String {
        let most =
            self.bars.iter().map(|bar| bar.high).chain(self.aim).fold(f64::MIN_POSITIVE, f64::max);
        let x = |value: f64| LEFT + value / most * (WIDTH - LEFT - RIGHT);
        let height = TOP + STEP * self.bars.len() as f64 + 26.0;
        let mut svg = String::new();
        let _ = writeln!(
            svg,
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="system-ui, sans-serif" font-size="13" role="img">
<title>{title}</title>
<rect width="{WIDTH}" height="{height}" rx="6" fill="#ffffff"/>
<text x="12" y="22" font-size="15" font-weight="600" fill="#1b1f24">{title}</text>
<text x="{end}" y="22" text-anchor="end" fill="#57606a">{unit}</text>"##,
            title = escape(&self.title),
            unit = escape(self.unit),
            end = WIDTH - 12.0,
        );
        for (index, bar) in self.bars.iter().enumerate() {
            let y = TOP + STEP * index as f64;
            let middle = y + THICK / 2.0;
            let _ = writeln!(
                svg,
                r##"<text x="{name_x}" y="{text_y}" text-anchor="end" fill="#1b1f24">{name}</text>
<rect x="{LEFT}" y="{y}" width="{width:.1}" height="{THICK}" rx="2" fill="{fill}"/>
<line x1="{low:.1}" x2="{high:.1}" y1="{middle}" y2="{middle}" stroke="#1b1f24" stroke-width="1.2"/>
<text x="{figure_x:.1}" y="{text_y}" fill="#1b1f24">{figure}</text>"##,
                name_x = LEFT - 8.0,
                text_y = middle + 4.5,
                name = escape(&bar.name),
                width = x(bar.figure) - LEFT,
                fill = if bar.ours { "#d9730d" } else { "#8c959f" },
                low = x(bar.low),
                high = x(bar.high),
                figure_x = x(bar.high.max(bar.figure)) + 6.0,
                figure = amount(bar.figure),
            );
        }
        if let Some(aim) = self.aim {
            let _ = writeln!(
                svg,
                r##"<line x1="{at:.1}" x2="{at:.1}" y1="{TOP}" y2="{bottom}" stroke="#1a7f37" stroke-width="1.5" stroke-dasharray="4 3"/>
<text x="{at:.1}" y="{label_y}" text-anchor="middle" font-size="11" fill="#1a7f37">aim {label}</text>"##,
                at = x(aim),
                bottom = height - 24.0,
                label_y = height - 9.0,
                label = amount(aim),
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_names_every_bar_and_escapes() {
        let bars = vec![Bar::plain("a<b", 1.0, true), Bar::plain("c", 4.0, false)];
        let chart = Chart { title: "x & y".into(), unit: "us", bars, aim: None }.with_aim(2.0);
        let svg = chart.svg();
        assert!(svg.contains("a&lt;b") && svg.contains("x &amp; y") && svg.contains("aim 2"));
        assert_eq!(svg.matches("<rect").count(), 3);
        // The longest bar ends where the figures begin.
        assert!(svg.contains(r#"width="400.0""#) && svg.contains(r#"width="100.0""#));
    }
}
