#include "report_figures.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <utility>

#include "epd/images/html.h"
#include "epd/images/resize.h"
#include "epd/metrics/prdc.h"
#include "epd/metrics/random_state.h"

namespace epd {
namespace {

constexpr int kThumbnail = 96;          // pixels; smaller pictures stay as they are
constexpr std::size_t kGridSide = 8;    // pictures
constexpr std::size_t kPairs = 12;      // of each kind
constexpr std::size_t kQueries = 2000;  // pictures whose neighbours are searched
constexpr std::uint32_t kSeed = 0;      // of every choice here

/// The picture of that number in the set, at most a thumbnail's size.
Image thumbnail(const PictureSet& set, std::size_t number) {
  auto image = set.source->load(set.indices.at(number));
  const double scale = static_cast<double>(kThumbnail) / std::max(image.height, image.width);
  if (scale >= 1) return image;
  const auto scaled = [&](int side) { return std::max(1, static_cast<int>(std::lround(scale * side))); };
  return resize(image, scaled(image.height), scaled(image.width));
}

at::Tensor rows_of(const at::Tensor& features, const std::vector<std::size_t>& rows) {
  return features.index_select(0, at::tensor(std::vector<std::int64_t>(rows.begin(), rows.end()), at::kLong));
}

/// The typical distance from a real picture to the nearest other one.
double distance_between_real(const at::Tensor& real) {
  const auto queries = random_subset(static_cast<std::size_t>(real.size(0)), kQueries, kSeed);
  return nearest_others(real, queries).median().item<double>();
}

struct Pair {
  std::size_t generated = 0, real = 0;
  double distance = 0;
};

std::vector<Pair> nearest_pairs(const at::Tensor& generated, const at::Tensor& real) {
  const auto queries = random_subset(static_cast<std::size_t>(generated.size(0)), kQueries, kSeed);
  const auto nearest = nearest_neighbours(rows_of(generated, queries), real);
  std::vector<Pair> pairs;
  for (std::size_t i = 0; i < queries.size(); ++i) {
    const auto row = static_cast<std::int64_t>(i);
    pairs.push_back({queries[i], static_cast<std::size_t>(nearest.index[row].item<std::int64_t>()),
                     nearest.distance[row].item<double>()});
  }
  return pairs;
}

std::string picture(const PictureSet& set, std::size_t number) {
  return text("<img src=\"", data_address(thumbnail(set, number)), "\" alt=\"",
              html_text(set.source->name(set.indices[number])), "\" title=\"",
              html_text(set.source->name(set.indices[number])), "\">");
}

std::string pair_figures(const PictureSet& generated, const PictureSet& reference, const std::vector<Pair>& pairs,
                         double typical) {
  std::string html = "<div class=\"pairs\">\n";
  for (const auto& pair : pairs) {
    html += text("<figure>", picture(generated, pair.generated), picture(reference, pair.real), "<figcaption>",
                 short_number(pair.distance / typical), "</figcaption></figure>\n");
  }
  return html + "</div>\n";
}

/// Eigenvalues from the largest down to where rounding begins.
std::vector<double> spectrum(const Statistics& statistics) {
  const auto values = at::linalg_eigvalsh(statistics.sigma).flip(0);
  const double* const begin = values.data_ptr<double>();
  const auto end = std::find_if(begin, begin + values.numel(), [&](double v) { return v <= 1e-12 * begin[0]; });
  return {begin, end};
}

/// Logarithmic axes of a plot, in its units.
class Axes {
 public:
  static constexpr double kWidth = 720, kHeight = 340, kLeft = 62, kRight = 14, kTop = 12, kBottom = 44;

  Axes(double x_max, double y_min, double y_max)
      : x_max_(std::log10(std::max(x_max, 10.0))), y_min_(std::floor(y_min)), y_max_(std::ceil(y_max)) {
    if (y_max_ - y_min_ < 1) y_max_ = y_min_ + 1;
  }
  double x(double log_x) const { return kLeft + log_x / x_max_ * (kWidth - kLeft - kRight); }
  double y(double log_y) const { return kTop + (y_max_ - log_y) / (y_max_ - y_min_) * (kHeight - kTop - kBottom); }

  std::string svg() const {
    std::string svg;
    for (int decade = 0; decade <= static_cast<int>(x_max_); ++decade) {
      svg += line(x(decade), kTop, x(decade), kHeight - kBottom) +
             label(x(decade), kHeight - kBottom + 18, "middle", power(decade));
    }
    const int step = std::max(1, static_cast<int>((y_max_ - y_min_) / 6));
    for (int decade = static_cast<int>(y_min_); decade <= static_cast<int>(y_max_); decade += step) {
      svg += line(kLeft, y(decade), kWidth - kRight, y(decade)) + label(kLeft - 8, y(decade) + 4, "end", power(decade));
    }
    svg += label((kLeft + kWidth) / 2, kHeight - 6, "middle", "number of the eigenvalue");
    return svg + text("<text transform=\"translate(14 ", (kHeight - kBottom) / 2,
                      ") rotate(-90)\" text-anchor=\"middle\">eigenvalue</text>\n");
  }
  std::string curve(const std::vector<double>& values, const char* kind) const {
    std::string points;
    double last = -10;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double at = x(std::log10(static_cast<double>(i + 1)));
      if (at - last < 0.5 && i + 1 < values.size()) continue;  // nobody sees half a unit
      last = at;
      char point[64];
      std::snprintf(point, sizeof(point), "%.1f,%.1f ", at, y(std::log10(values[i])));
      points += point;
    }
    return text("<polyline class=\"", kind, "\" points=\"", points, "\"/>\n");
  }

 private:
  static std::string power(int decade) { return text("10<tspan dy=\"-6\" font-size=\"10\">", decade, "</tspan>"); }
  static std::string line(double x1, double y1, double x2, double y2) {
    return text("<line x1=\"", x1, "\" y1=\"", y1, "\" x2=\"", x2, "\" y2=\"", y2, "\"/>\n");
  }
  static std::string label(double x, double y, const char* anchor, const std::string& what) {
    return text("<text x=\"", x, "\" y=\"", y, "\" text-anchor=\"", anchor, "\">", what, "</text>\n");
  }

  double x_max_, y_min_, y_max_;
};

}  // namespace

std::string short_number(double value) {
  char digits[32];
  std::snprintf(digits, sizeof(digits), "%.4g", value);
  return digits;
}

std::string grid_figure(const PictureSet& set, const std::string& title) {
  const std::string caption = text("<figcaption>", title, "</figcaption>");
  if (!set.source) {
    return text("<figure class=\"grid\">", caption,
                "<p class=\"absent\">Only statistics are known of these: no pictures to show.</p></figure>\n");
  }
  std::vector<Image> images;
  for (const auto number : random_subset(set.indices.size(), kGridSide * kGridSide, kSeed)) {
    auto image = thumbnail(set, number);
    const auto& first = images.empty() ? image : images.front();
    images.push_back(resize(image, first.height, first.width));
  }
  const auto columns = std::min(kGridSide, static_cast<std::size_t>(std::ceil(std::sqrt(images.size()))));
  const auto grid = image_grid(images, static_cast<int>(columns));
  return text("<figure class=\"grid\">", caption, "<img src=\"", data_address(grid), "\" alt=\"", images.size(),
              " random pictures\"></figure>\n");
}

std::string neighbour_figures(const PictureSet& generated, const PictureSet& reference) {
  if (!generated.data.features.defined() || !reference.data.features.defined() || !reference.source) {
    return "<p class=\"absent\">The reference is statistics alone. Give its pictures as --ref to see neighbours.</p>\n";
  }
  const auto pairs = nearest_pairs(generated.data.features, reference.data.features);
  const double between = distance_between_real(reference.data.features);
  const double typical = between > 0 ? between : 1;
  std::vector<Pair> closest = pairs, random;
  std::ranges::stable_sort(closest, {}, &Pair::distance);
  const double median = closest[closest.size() / 2].distance;
  closest.resize(std::min(kPairs, closest.size()));
  for (const auto i : random_subset(pairs.size(), kPairs, kSeed + 1)) random.push_back(pairs[i]);
  return text(
      "<p>Left a generated picture, right the real one nearest to it in feature space. The number is their "
      "distance over the typical one from a real picture to the next real one (",
      short_number(typical),
      "): near 0 is a copy of the data, about 1 is as alike as real pictures are to each "
      "other. The median of ",
      pairs.size(), " generated pictures is ", short_number(median / typical), ".</p>\n<h3>The closest of them</h3>\n",
      pair_figures(generated, reference, closest, typical), "<h3>Random ones</h3>\n",
      pair_figures(generated, reference, random, typical));
}

std::string spectrum_figure(const Statistics& generated, const Statistics& reference) {
  const auto ours = spectrum(generated), theirs = spectrum(reference);
  if (ours.empty() || theirs.empty()) return "<p class=\"absent\">A covariance is zero: there is no spectrum.</p>\n";
  const Axes axes(static_cast<double>(std::max(ours.size(), theirs.size())),
                  std::log10(std::min(ours.back(), theirs.back())), std::log10(std::max(ours.front(), theirs.front())));
  return text("<p class=\"legend\"><span class=\"generated\"></span>generated (rank ", ours.size(),
              ")<span class=\"real\"></span>reference (rank ", theirs.size(), ")</p>\n<svg viewBox=\"0 0 ",
              Axes::kWidth, ' ', Axes::kHeight, "\" role=\"img\" aria-label=\"eigenvalues of both covariances\">\n",
              axes.svg(), axes.curve(theirs, "real"), axes.curve(ours, "generated"), "</svg>\n");
}

}  // namespace epd
