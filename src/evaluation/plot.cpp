#include "plot.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "epd/core/error.h"

namespace epd {
namespace {

/// Multiples of 1, 2 or 5 times a power of ten, `most` at most.
std::vector<double> even_ticks(double low, double high, double smallest_step, int most) {
  double step = smallest_step;
  for (int k = 1; (high - low) / step > most; ++k) step *= k % 3 == 2 ? 2.5 : 2;
  std::vector<double> ticks;
  for (double n = std::ceil(low / step); n * step <= high * (1 + 1e-9); ++n) ticks.push_back(n * step);
  return ticks;
}

/// `digits` times the powers of ten, every `every`-th of them.
std::vector<double> decade_ticks(double low, double high, const std::vector<double>& digits, int every) {
  std::vector<double> ticks;
  for (int power = static_cast<int>(std::floor(std::log10(low))); std::pow(10, power) <= high * (1 + 1e-9); ++power) {
    if (power % every != 0) continue;
    for (const double digit : digits) {
      const double value = digit * std::pow(10, power);
      if (value >= low * (1 - 1e-9) && value <= high * (1 + 1e-9)) ticks.push_back(value);
    }
  }
  return ticks;
}

std::string tick_text(double value) {
  const int power = value > 0 ? static_cast<int>(std::lround(std::log10(value))) : 0;
  if (value > 0 && (power < -3 || power > 4)) return text("10<tspan dy='-6' font-size='80%'>", power, "</tspan>");
  char digits[32];
  std::snprintf(digits, sizeof(digits), "%.4g", value);
  return digits;
}

std::string line(double x1, double y1, double x2, double y2) {
  return text("<line x1='", coordinate(x1), "' y1='", coordinate(y1), "' x2='", coordinate(x2), "' y2='",
              coordinate(y2), "'/>\n");
}

std::string label(double x, double y, const char* anchor, const std::string& what) {
  return text("<text x='", coordinate(x), "' y='", coordinate(y), "' text-anchor='", anchor, "'>", what, "</text>\n");
}

}  // namespace

std::string coordinate(double value) {
  char digits[32];
  std::snprintf(digits, sizeof(digits), "%.1f", value);
  return digits;
}

double Axis::share(double value) const {
  return logarithmic ? std::log(value / low) / std::log(high / low) : (value - low) / (high - low);
}

std::vector<double> Axis::ticks() const {
  if (!logarithmic) return even_ticks(low, high, 1, 12);
  const double decades = std::log10(high / low);
  if (decades < 1) return even_ticks(low, high, std::pow(10, std::floor(std::log10(high - low)) - 1), 6);
  if (decades < 3.2) return decade_ticks(low, high, {1, 2, 5}, 1);
  return decade_ticks(low, high, {1}, std::max(1, static_cast<int>(decades / 6)));
}

Plot::Point Plot::place(const Point& point) const {
  return {left_ + width_ * across_.share(point.first), top_ + height_ * (1 - up_.share(point.second))};
}

std::string Plot::axes() const {
  const double right = left_ + width_, bottom = top_ + height_, middle = top_ + height_ / 2;
  std::string svg;
  for (const double tick : across_.ticks()) {
    const double x = left_ + width_ * across_.share(tick);
    svg += line(x, top_, x, bottom) + label(x, bottom + 17, "middle", tick_text(tick));
  }
  for (const double tick : up_.ticks()) {
    const double y = top_ + height_ * (1 - up_.share(tick));
    svg += line(left_, y, right, y) + label(left_ - 7, y + 4, "end", tick_text(tick));
  }
  svg += label(left_ + width_ / 2, bottom + 36, "middle", across_.name);
  return svg + text("<text transform='translate(", coordinate(left_ - 46), " ", coordinate(middle),
                    ") rotate(-90)' text-anchor='middle'>", up_.name, "</text>\n<rect class='frame' x='",
                    coordinate(left_), "' y='", coordinate(top_), "' width='", coordinate(width_), "' height='",
                    coordinate(height_), "'/>\n");
}

std::string Plot::curve(const std::vector<Point>& points, const std::string& classes) const {
  std::string places;
  Point last{-1e9, -1e9};
  for (const auto& point : points) {
    const auto here = place(point);
    const bool near = std::hypot(here.first - last.first, here.second - last.second) < 0.5;
    if (near && &point != &points.back()) continue;
    last = here;
    places += coordinate(here.first) + "," + coordinate(here.second) + " ";
  }
  return text("<polyline class='", classes, "' points='", places, "'/>\n");
}

}  // namespace epd
