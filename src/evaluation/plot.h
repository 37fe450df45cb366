#pragma once

#include <string>
#include <utility>
#include <vector>

namespace epd {

/// Values of a plot from `low` to `high`; above 0 where it is logarithmic.
struct Axis {
  std::string name;
  bool logarithmic = false;
  double low = 0, high = 1;

  /// Where the value lies on the axis: 0 for low, 1 for high.
  double share(double value) const;
  /// Round numbers on it, 3 to 12 of them where its range allows.
  std::vector<double> ticks() const;
};

/// A pair of axes in SVG. Colours and strokes are the page's: rect.frame, line (the grid), text, polyline, and the
/// classes that the curves name.
class Plot {
 public:
  using Point = std::pair<double, double>;

  /// The frame's place in the page's units; the ticks and names stand left of it and below.
  Plot(double left, double top, double width, double height, Axis across, Axis up)
      : left_(left), top_(top), width_(width), height_(height), across_(std::move(across)), up_(std::move(up)) {}

  std::string axes() const;
  /// A line through the points; those that nobody can tell from the one before are left out.
  std::string curve(const std::vector<Point>& points, const std::string& classes) const;

  /// Where a point lies on the page.
  Point place(const Point& point) const;

 private:
  double left_, top_, width_, height_;
  Axis across_, up_;
};

/// A number with a decimal of a unit of the page, as coordinates need it.
std::string coordinate(double value);

}  // namespace epd
