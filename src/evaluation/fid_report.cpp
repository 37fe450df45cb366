#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "epd/core/error.h"
#include "epd/core/run_main.h"
#include "epd/evaluation/run_fid.h"
#include "epd/images/html.h"
#include "epd/images/image.h"
#include "epd/metrics/kid_prdc.h"
#include "epd/metrics/random_state.h"
#include "plot.h"

namespace epd {
namespace {

constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --line: #d1d9e0; --back: #fff; --card: #f6f8fa;
  --generated: #d1480b; --real: #0969da; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --line: #3d444d; --back: #0d1117;
  --card: #151b23; --generated: #ff8f4d; --real: #58a6ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 24px 20px 64px; background: var(--back); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.2rem; margin: 40px 0 8px; } h3 { font-size: 1rem; margin: 20px 0 8px; }
p { max-width: 46em; margin: 6px 0; } .soft, .absent, dt, figcaption { color: var(--soft); }
code { overflow-wrap: anywhere; }
.scores { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 12px; margin-top: 20px; }
.score { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; }
.score b { display: block; font-size: 1.9rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.score i { font-style: normal; font-size: .8rem; font-weight: 600; color: var(--real); }
.score p { font-size: .85rem; color: var(--soft); }
.grids { display: grid; grid-template-columns: repeat(auto-fit, minmax(290px, 1fr)); gap: 20px; }
figure { margin: 0; } .grid img { width: 100%; image-rendering: pixelated; border-radius: 6px; display: block; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(148px, 1fr)); gap: 14px 12px; }
.pairs figure { display: grid; grid-template-columns: 1fr 1fr; gap: 3px; }
.pairs img { width: 100%; image-rendering: pixelated; border-radius: 4px; }
.pairs figcaption { grid-column: 1 / 3; font-size: .85rem; text-align: center; font-variant-numeric: tabular-nums; }
svg { width: 100%; max-width: 640px; height: auto; display: block; } svg text { fill: var(--soft); font-size: 13px; }
svg line { stroke: var(--line); } .frame { fill: none; stroke: var(--soft); stroke-opacity: .6; }
polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
polyline.generated { stroke: var(--generated); } polyline.real { stroke: var(--real); }
.legend span { display: inline-block; width: 22px; height: 3px; margin: 0 7px 4px 0; vertical-align: middle; }
.legend span.generated { background: var(--generated); } .legend span.real { background: var(--real); margin-left: 20px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 18px; margin: 8px 0; }
dd { margin: 0; overflow-wrap: anywhere; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px; overflow-x: auto; font-size: 13px; }
@media (max-width: 560px) { .scores { grid-template-columns: 1fr 1fr; } .score { padding: 10px 12px; }
  .score b { font-size: 1.5rem; } svg text { font-size: 15px; } dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: 8px; } }
)";

constexpr int kThumbnail = 96;          // pixels; smaller images stay as they are
constexpr std::size_t kGridSide = 8;    // images
constexpr std::size_t kPairs = 12;      // of each kind
constexpr std::size_t kQueries = 2000;  // images whose neighbours are searched
constexpr std::uint32_t kSeed = 0;      // of every choice here

/// A number with 4 significant digits.
std::string short_number(double value) {
  char digits[32];
  std::snprintf(digits, sizeof(digits), "%.4g", value);
  return digits;
}

/// The image of that number in the set, at most a thumbnail's size.
Image thumbnail(const ImageSet& set, std::size_t number) {
  auto image = set.source->load(set.indices.at(number));
  const double scale = static_cast<double>(kThumbnail) / std::max(image.height, image.width);
  if (scale >= 1) return image;
  const auto scaled = [&](int side) { return std::max(1, static_cast<int>(std::lround(scale * side))); };
  return resize(image, scaled(image.height), scaled(image.width));
}

at::Tensor rows_of(const at::Tensor& features, const std::vector<std::size_t>& rows) {
  return features.index_select(0, at::tensor(std::vector<std::int64_t>(rows.begin(), rows.end()), at::kLong));
}

/// The typical distance from a real image to the nearest other one.
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

std::string image_tag(const ImageSet& set, std::size_t number) {
  return text("<img src=\"", data_address(thumbnail(set, number)), "\" alt=\"",
              html_text(set.source->name(set.indices[number])), "\" title=\"",
              html_text(set.source->name(set.indices[number])), "\">");
}

/// The distance over the typical one; what only rounding tells from 0 is 0.
std::string times_typical(double distance, double typical) {
  return short_number(std::round(1000 * distance / typical) / 1000);
}

std::string pair_figures(const ImageSet& generated, const ImageSet& reference, const std::vector<Pair>& pairs,
                         double typical) {
  std::string html = "<div class=\"pairs\">\n";
  for (const auto& pair : pairs) {
    html += text("<figure>", image_tag(generated, pair.generated), image_tag(reference, pair.real), "<figcaption>",
                 times_typical(pair.distance, typical), "</figcaption></figure>\n");
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

std::string grid_figure(const ImageSet& set, const std::string& title) {
  const std::string caption = text("<figcaption>", title, "</figcaption>");
  if (!set.source) {
    return text("<figure class=\"grid\">", caption,
                "<p class=\"absent\">Only statistics are known of these: no images to show.</p></figure>\n");
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
              " random images\"></figure>\n");
}

std::string neighbour_figures(const ImageSet& generated, const ImageSet& reference) {
  if (!generated.data.features.defined() || !reference.data.features.defined() || !reference.source) {
    return "<p class=\"absent\">The reference is statistics alone. Give its images as --ref to see neighbours.</p>\n";
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
      "<p>Left a generated image, right the real one nearest to it in feature space. The number is their "
      "distance over the typical one from a real image to the next real one (",
      short_number(typical),
      "): near 0 is a memorised training image, about 1 is as alike as real images are to each "
      "other. The median of ",
      pairs.size(), " generated images is ", times_typical(median, typical), ".</p>\n<h3>The closest of them</h3>\n",
      pair_figures(generated, reference, closest, typical), "<h3>Random ones</h3>\n",
      pair_figures(generated, reference, random, typical));
}

std::string spectrum_figure(const Statistics& generated, const Statistics& reference) {
  const auto ours = spectrum(generated), theirs = spectrum(reference);
  if (ours.empty() || theirs.empty()) return "<p class=\"absent\">A covariance is zero: there is no spectrum.</p>\n";
  constexpr double kWidth = 540, kHeight = 310, kLeft = 66, kRight = 14, kTop = 12, kBottom = 50;
  const auto decade = [](double value, auto round) { return std::pow(10, round(std::log10(value))); };
  const double low = decade(std::min(ours.back(), theirs.back()), [](double x) { return std::floor(x); });
  const double high = decade(std::max(ours.front(), theirs.front()), [](double x) { return std::ceil(x); });
  const auto longest = static_cast<double>(std::max({ours.size(), theirs.size(), std::size_t{10}}));
  const Plot plot(kLeft, kTop, kWidth - kLeft - kRight, kHeight - kTop - kBottom,
                  {"index of the eigenvalue", true, 1, longest}, {"eigenvalue", true, low, std::max(high, 10 * low)});
  const auto curve = [&](const std::vector<double>& values, const char* kind) {
    std::vector<Plot::Point> points;
    for (const double value : values) points.emplace_back(static_cast<double>(points.size() + 1), value);
    return plot.curve(points, kind);
  };
  return text("<p class=\"legend\"><span class=\"generated\"></span>generated&nbsp;(rank&nbsp;", ours.size(),
              ") <span class=\"real\"></span>reference&nbsp;(rank&nbsp;", theirs.size(), ")</p>\n<svg viewBox=\"0 0 ",
              kWidth, ' ', kHeight, "\" role=\"img\" aria-label=\"eigenvalues of both covariances\">\n", plot.axes(),
              curve(theirs, "real"), curve(ours, "generated"), "</svg>\n");
}

std::string score(const char* name, double value, const char* better, const std::string& meaning) {
  return text("<div class=\"score\">", name, "<b>", short_number(value), "</b><i>", better, "</i><p>", meaning,
              "</p></div>\n");
}

constexpr const char* kLower = "&darr; lower is better";
constexpr const char* kHigher = "&uarr; higher is better";

std::string frechet_score(const Scores& scores) {
  const auto& terms = *scores.frechet;
  const double covariances = terms.trace_a + terms.trace_b - 2 * terms.cross;
  return score(
      "Frechet distance", scores.fid(), kLower,
      text("Between the normal distributions with the features' means and covariances; 0 where they are equal. ",
           short_number(terms.mean_gap), " of it comes from the means, ", short_number(covariances),
           " from the covariances."));
}

std::string kid_score(const Kid& kid) {
  return score(
      "KID", kid.mean, kLower,
      text("Kernel distance, unbiased: about 0 for equal distributions, sometimes below. Mean of ", kid.subsets,
           " subsets of ", kid.subset_size, " images, deviation ", short_number(kid.deviation), '.'));
}

std::string prdc_scores(const Prdc& prdc) {
  const auto near_real = text("a real one's ", prdc.manifold_k, " nearest");
  return score("Precision", prdc.precision, kHigher,
               text("Fidelity: share of generated images that lie among ", near_real, ".")) +
         score(
             "Recall", prdc.recall, kHigher,
             text("Diversity: share of real images that lie among a generated one's ", prdc.manifold_k, " nearest.")) +
         score("Density", prdc.density, kHigher,
               text("Fidelity: in how many real neighbourhoods of ", prdc.density_k,
                    " a generated image lies, over that number; may exceed 1.")) +
         score("Coverage", prdc.coverage, kHigher,
               text("Diversity: share of real neighbourhoods of ", prdc.density_k, " that hold a generated image."));
}

std::string score_cards(const Scores& scores) {
  std::string html = "<div class=\"scores\">\n";
  if (scores.frechet) html += frechet_score(scores);
  if (scores.kid) html += kid_score(*scores.kid);
  if (scores.prdc) html += prdc_scores(*scores.prdc);
  return html + "</div>\n";
}

std::string setting(const char* name, const std::string& value) {
  return text("<dt>", name, "</dt><dd>", html_text(value), "</dd>\n");
}

std::string count_text(const Statistics& statistics) {
  return statistics.count > 0 ? text(statistics.count, " images, ") : std::string("number of images unknown, ");
}

std::string settings(const ImageSet& generated, const ImageSet& reference, const Json& record) {
  const auto& ours = generated.data.statistics;
  const auto& theirs = reference.data.statistics;
  return text(
      "<dl>\n", setting("generated", count_text(ours) + ours.source),
      setting("reference", count_text(theirs) + theirs.source),
      setting("detector", text(ours.detector, ", ", ours.num_features(), " features, SHA-256 ", ours.detector_sha256)),
      setting("its limits", limits_of_detector(ours.detector)), setting("date", record.value("date", "not known")),
      setting("program", text("epd ", version())), "</dl>\n<details><summary>Everything, as JSON</summary><pre>",
      html_text(json_text(record)), "</pre></details>\n");
}

/// What a reader should know before trusting the number.
std::string caution(const ImageSet& generated, const ImageSet& reference) {
  const auto features = generated.data.statistics.num_features();
  const auto few = [&](const Statistics& s) { return s.count > 0 && s.count < features; };
  if (!few(generated.data.statistics) && !few(reference.data.statistics)) return "";
  return text("<p><strong>Fewer images than the ", features,
              " features:</strong> the Frechet distance then has a large bias and compares with nothing but runs of as "
              "many images.</p>\n");
}

}  // namespace

std::string report_page(const Scores& scores, const ImageSet& generated, const ImageSet& reference,
                        const Json& record) {
  const auto& ours = generated.data.statistics;
  return text(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
      "content=\"width=device-width, initial-scale=1\">\n<title>Scores of ",
      html_text(ours.source), "</title>\n<style>", kStyle,
      "</style>\n</head>\n<body>\n<h1>How good are the images?</h1>\n", "<p class=\"soft\"><code>",
      html_text(ours.source), "</code> compared with <code>", html_text(reference.data.statistics.source),
      "</code>, features of <code>", html_text(ours.detector), "</code></p>\n", score_cards(scores),
      caution(generated, reference), "<h2>Random images</h2>\n<div class=\"grids\">\n",
      grid_figure(generated, "generated"), grid_figure(reference, "reference"), "</div>\n<h2>Nearest neighbours</h2>\n",
      neighbour_figures(generated, reference),
      "<h2>Spectra of the covariances</h2>\n<p>How far the features vary along their main "
      "directions. A curve that falls below the reference's lacks variety, one above it holds what real images do "
      "not "
      "vary in.</p>\n",
      spectrum_figure(ours, reference.data.statistics), "<h2>Settings</h2>\n", settings(generated, reference, record),
      "</body>\n</html>\n");
}

}  // namespace epd
