#include "epd/evaluation/chart.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <sstream>

#include "epd/core/error.h"
#include "epd/images/html.h"

namespace epd {
namespace {

constexpr int kPanelWidth = 330, kPanelHeight = 230, kLeft = 62, kTop = 16, kGapX = 62, kGapY = 52, kLegendLine = 19;

/// Colours that people with colour-blindness tell apart (Okabe and Ito 2008).
constexpr std::array<const char*, 7> kColours{"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                              "#e69f00", "#56b4e9", "#000000"};

using Number = double (*)(const CompareRow&);
struct Axis {
  const char* name;
  Number of;
};
constexpr std::array<Axis, 2> kCosts{
    {{"NFE (serial evaluations)", [](const CompareRow& r) { return double(r.nfe); }},
     {"evaluations in all", [](const CompareRow& r) { return double(r.evaluations); }}}};
constexpr std::array<Axis, 2> kErrors{{{"RMSE to the exact end state", [](const CompareRow& r) { return r.rmse; }},
                                       {"FD to the exact images", [](const CompareRow& r) { return r.fd_exact; }}}};

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

/// How a family looks: after every colour was used once, lines are dashed and marks hollow.
struct Style {
  const char* colour;
  bool second_round;

  explicit Style(std::size_t family)
      : colour(kColours[family % kColours.size()]), second_round(family / kColours.size() % 2 == 1) {}
  std::string line() const {
    return text("stroke='", colour, "' stroke-width='2'", second_round ? " stroke-dasharray='5 3'" : "");
  }
  std::string mark(double x, double y) const {
    return text("<circle cx='", x, "' cy='", y, "' r='3.5' stroke='", colour, "' stroke-width='1.5' fill='",
                second_round ? "white" : colour, "'/>\n");
  }
};

/// The numbers 1, 2 and 5 times a power of ten within [low, high].
std::vector<double> round_numbers(double low, double high) {
  std::vector<double> result;
  for (int exponent = static_cast<int>(std::floor(std::log10(low))); std::pow(10, exponent) <= high; ++exponent) {
    for (const int digit : {1, 2, 5}) {
      const double value = digit * std::pow(10, exponent);
      if (value >= low && value <= high) result.push_back(value);
    }
  }
  return result;
}

/// One pair of axes with a line for every family.
class Panel {
 public:
  Panel(const std::vector<Family>& families, const Axis& cost, const Axis& error, int x, int y)
      : cost_(cost), error_(error), x_(x), y_(y) {
    for (const auto& family : families) {
      for (const auto& row : family.rows) {
        lowest_cost_ = std::min(lowest_cost_, cost.of(row));
        highest_cost_ = std::max(highest_cost_, cost.of(row));
        lowest_ = std::min(lowest_, error.of(row) / 1.2);
        highest_ = std::max(highest_, error.of(row) * 1.2);
      }
    }
    lowest_cost_ -= 0.5;
    highest_cost_ += 0.5;
  }

  void draw_axes(std::ostream& out) const {
    out << "<rect x='" << x_ << "' y='" << y_ << "' width='" << kPanelWidth << "' height='" << kPanelHeight
        << "' fill='none' stroke='#888'/>\n";
    const double step = std::max(1.0, std::ceil((highest_cost_ - lowest_cost_) / 12));
    for (double cost = std::ceil(lowest_cost_); cost <= highest_cost_; cost += step) {
      out << "<text x='" << across(cost) << "' y='" << y_ + kPanelHeight + 15 << "' text-anchor='middle'>" << cost
          << "</text>\n";
    }
    for (const double value : round_numbers(lowest_, highest_)) {
      out << "<path d='M" << x_ << " " << down(value) << "h" << kPanelWidth << "' stroke='#ddd'/><text x='" << x_ - 6
          << "' y='" << down(value) + 4 << "' text-anchor='end'>" << value << "</text>\n";
    }
    const int middle = y_ + kPanelHeight / 2;
    out << "<text x='" << x_ + kPanelWidth / 2 << "' y='" << y_ + kPanelHeight + 32 << "' text-anchor='middle'>"
        << cost_.name << "</text>\n<text transform='rotate(-90 " << x_ - 46 << " " << middle << ")' x='" << x_ - 46
        << "' y='" << middle << "' text-anchor='middle'>" << error_.name << "</text>\n";
  }

  void draw_line(std::ostream& out, Family family, const Style& style) const {
    std::ranges::stable_sort(family.rows, {}, cost_.of);
    out << "<polyline fill='none' " << style.line() << " points='";
    for (const auto& row : family.rows) out << across(cost_.of(row)) << "," << down(error_.of(row)) << " ";
    out << "'/>\n";
    for (const auto& row : family.rows) out << style.mark(across(cost_.of(row)), down(error_.of(row)));
  }

 private:
  double across(double cost) const { return x_ + kPanelWidth * (cost - lowest_cost_) / (highest_cost_ - lowest_cost_); }
  double down(double value) const {
    return y_ + kPanelHeight * std::log(highest_ / value) / std::log(highest_ / lowest_);
  }

  const Axis &cost_, &error_;
  int x_, y_;
  double lowest_cost_ = 1e300, highest_cost_ = 0, lowest_ = 1e300, highest_ = 0;
};

void draw_legend(std::ostream& out, const std::vector<Family>& families, int top) {
  for (std::size_t i = 0; i < families.size(); ++i) {
    const int y = top + static_cast<int>(i / 3) * kLegendLine, x = kLeft + static_cast<int>(i % 3) * 250;
    const Style style(i);
    out << "<path d='M" << x << " " << y - 4 << "h26' " << style.line() << "/>" << style.mark(x + 13, y - 4)
        << "<text x='" << x + 32 << "' y='" << y << "'>" << html_text(families[i].name) << "</text>\n";
  }
}

}  // namespace

std::string comparison_chart(const std::vector<CompareRow>& rows) {
  const auto families = families_of(rows);
  const int legend = kTop + 2 * (kPanelHeight + kGapY) + 8;
  const int width = kLeft + 2 * kPanelWidth + kGapX + 12;
  const int height = legend + static_cast<int>((families.size() + 2) / 3) * kLegendLine;
  std::ostringstream out;
  out << "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 " << width << " " << height << "' width='" << width
      << "' height='" << height << "' font-family='sans-serif' font-size='12'>\n"
      << "<rect width='100%' height='100%' fill='white'/>\n";
  for (std::size_t i = 0; i < kErrors.size() && !families.empty(); ++i) {
    for (std::size_t j = 0; j < kCosts.size(); ++j) {
      const Panel panel(families, kCosts[j], kErrors[i], kLeft + static_cast<int>(j) * (kPanelWidth + kGapX),
                        kTop + static_cast<int>(i) * (kPanelHeight + kGapY));
      panel.draw_axes(out);
      for (std::size_t f = 0; f < families.size(); ++f) {
        panel.draw_line(out, families[f], Style(f));
      }
    }
  }
  draw_legend(out, families, legend + 4);
  out << "</svg>\n";
  return out.str();
}

}  // namespace epd
