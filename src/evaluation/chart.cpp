#include <algorithm>
#include <array>

#include "epd/core/error.h"
#include "epd/evaluation/compare.h"
#include "epd/images/html.h"
#include "plot.h"

namespace epd {
namespace {

constexpr int kPanelWidth = 330, kPanelHeight = 230, kLeft = 62, kTop = 16, kGapX = 70, kGapY = 58, kLegendLine = 21;
constexpr int kWidth = kLeft + 2 * kPanelWidth + kGapX + 14;

/// Colours that people with colour-blindness tell apart (Okabe and Ito 2008), lighter on dark pages.
constexpr int kColours = 7;
constexpr const char* kStyle = R"(
:root { --ink: #1b1f24; --line: #d8dee4; --back: #fff; --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #cc79a7;
  --c4: #e69f00; --c5: #56b4e9; --c6: #1b1f24; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --line: #30363d; --back: #0d1117; --c0: #4aa3df;
  --c1: #ff8a3d; --c2: #2fcc9f; --c3: #e39ac2; --c4: #f2bd45; --c5: #a5d8f7; --c6: #e6edf3; } }
text { fill: var(--ink); font: 12px system-ui, sans-serif; } line { stroke: var(--line); }
.page { fill: var(--back); } .frame { fill: none; stroke: var(--ink); stroke-opacity: .45; }
polyline { fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; }
.dashed { stroke-dasharray: 6 4; } .mark { fill: currentColor; stroke: currentColor; stroke-width: 1.5; }
.hollow { fill: var(--back); } .c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); }
.c3 { color: var(--c3); } .c4 { color: var(--c4); } .c5 { color: var(--c5); } .c6 { color: var(--c6); }
)";

constexpr std::array<const char*, 4> kMarks{"M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z", "M-3.6-3.6h7.2v7.2h-7.2z",
                                            "M0-4.8L4.6 3.6H-4.6z", "M0-5.2L5.2 0L0 5.2L-5.2 0z"};

using Number = double (*)(const CompareRow&);
struct Quantity {
  const char* name;
  Number of;
};
constexpr std::array<Quantity, 2> kCosts{
    {{"NFE (serial evaluations)", [](const CompareRow& r) { return double(r.nfe); }},
     {"total evaluations", [](const CompareRow& r) { return double(r.evaluations); }}}};
constexpr std::array<Quantity, 2> kErrors{{{"RMSE to the reference", [](const CompareRow& r) { return r.rmse; }},
                                           {"FD to the reference", [](const CompareRow& r) { return r.fd_exact; }}}};

struct Family {
  std::string name;
  std::vector<CompareRow> rows;
};

std::vector<Family> families_of(const std::vector<CompareRow>& rows) {
  std::vector<Family> families;
  for (const auto& row : rows) {
    if (!(row.rmse > 0 && row.fd_exact > 0)) continue;
    const std::string name = row.learned ? row.solver : row.solver + ", " + row.schedule;
    auto found = std::ranges::find(families, name, &Family::name);
    if (found == families.end()) found = families.insert(families.end(), {name, {}});
    found->rows.push_back(row);
  }
  return families;
}

/// How a family looks: after every colour was used once, lines are dashed and marks hollow. The shape of the marks
/// comes round at another pace than the colours.
struct Style {
  std::string line, mark;
  const char* shape;

  explicit Style(std::size_t family) : shape(kMarks[family % kMarks.size()]) {
    const bool second_round = family / kColours % 2 == 1;
    const auto colour = text("c", family % kColours);
    line = colour + (second_round ? " dashed" : "");
    mark = text("mark ", second_round ? "hollow " : "", colour);
  }
  std::string mark_at(const Plot::Point& place) const {
    return text("<path class='", mark, "' transform='translate(", coordinate(place.first), " ",
                coordinate(place.second), ")' d='", shape, "'/>\n");
  }
};

/// One pair of axes with a line for every family.
std::string panel(const std::vector<Family>& families, const Quantity& cost, const Quantity& error, int left, int top) {
  Axis across{cost.name, false, 1e300, 0}, up{error.name, true, 1e300, 0};
  for (const auto& family : families) {
    for (const auto& row : family.rows) {
      across.low = std::min(across.low, cost.of(row) - 0.5);
      across.high = std::max(across.high, cost.of(row) + 0.5);
      up.low = std::min(up.low, error.of(row) / 1.2);
      up.high = std::max(up.high, error.of(row) * 1.2);
    }
  }
  const Plot plot(left, top, kPanelWidth, kPanelHeight, across, up);
  std::string svg = plot.axes();
  for (std::size_t f = 0; f < families.size(); ++f) {
    std::vector<Plot::Point> points;
    for (const auto& row : families[f].rows) points.emplace_back(cost.of(row), error.of(row));
    std::ranges::stable_sort(points, {}, &Plot::Point::first);
    const Style style(f);
    svg += plot.curve(points, style.line);
    for (const auto& point : points) svg += style.mark_at(plot.place(point));
  }
  return svg;
}

/// As many columns as the longest name leaves.
int legend_columns(const std::vector<Family>& families) {
  std::size_t longest = 1;
  for (const auto& family : families) longest = std::max(longest, family.name.size());
  return std::clamp((kWidth - kLeft) / (48 + 7 * static_cast<int>(longest)), 1, 4);
}

std::string legend(const std::vector<Family>& families, int columns, int top) {
  std::string svg;
  for (int i = 0; i < static_cast<int>(families.size()); ++i) {
    const int x = kLeft + i % columns * ((kWidth - kLeft) / columns), y = top + i / columns * kLegendLine;
    const Style style(static_cast<std::size_t>(i));
    svg += text("<polyline class='legend ", style.line, "' points='", x, ",", y, " ", x + 34, ",", y, "'/>",
                style.mark_at({x + 17, y}), "<text x='", x + 42, "' y='", y + 4, "'>", html_text(families[i].name),
                "</text>\n");
  }
  return svg;
}

}  // namespace

std::string comparison_chart(const std::vector<CompareRow>& rows) {
  const auto families = families_of(rows);
  const int columns = legend_columns(families), legend_top = kTop + 2 * (kPanelHeight + kGapY) + 6;
  const int height = legend_top + (static_cast<int>(families.size()) + columns - 1) / columns * kLegendLine;
  std::string svg =
      text("<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 ", kWidth, " ", height, "' width='", kWidth,
           "' height='", height, "'>\n<style>", kStyle, "</style>\n<rect class='page' width='100%' height='100%'/>\n");
  for (std::size_t i = 0; i < kErrors.size() && !families.empty(); ++i) {
    for (std::size_t j = 0; j < kCosts.size(); ++j) {
      svg += panel(families, kCosts[j], kErrors[i], kLeft + static_cast<int>(j) * (kPanelWidth + kGapX),
                   kTop + static_cast<int>(i) * (kPanelHeight + kGapY));
    }
  }
  return svg + legend(families, columns, legend_top) + "</svg>\n";
}

}  // namespace epd
