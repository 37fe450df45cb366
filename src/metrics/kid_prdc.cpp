#include "epd/metrics/kid_prdc.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "epd/core/error.h"
#include "epd/core/interrupt.h"
#include "epd/metrics/random_state.h"

namespace epd {
namespace {

constexpr std::int64_t kBlock = 1024;

at::Tensor kernel(const at::Tensor& x, const at::Tensor& y) {
  return (x.mm(y.t()) / static_cast<double>(x.size(1)) + 1).pow_(3);
}

/// Calls visit(first row, rows) for block after block of so many rows.
template <class Visit>
void for_each_block_of(std::int64_t rows, Visit visit) {
  for (std::int64_t begin = 0; begin < rows; begin += kBlock) {
    check_interrupt();
    visit(begin, std::min(kBlock, rows - begin));
  }
}

/// Rows of a set of features [N, F] in float64, and which of them each subset holds: in_subset [N, S], 0 or 1.
struct Subsets {
  at::Tensor features, in_subset;

  Subsets(const at::Tensor& rows, const std::vector<std::vector<std::int64_t>>& chosen)
      : features(rows.to(at::kDouble)),
        in_subset(at::zeros({rows.size(0), static_cast<std::int64_t>(chosen.size())}, features.options())) {
    for (std::size_t s = 0; s < chosen.size(); ++s) {
      in_subset.select(1, static_cast<std::int64_t>(s)).index_fill_(0, at::tensor(chosen[s]).to(rows.device()), 1);
    }
  }
  /// One subset, of all these rows.
  explicit Subsets(const at::Tensor& rows)
      : features(rows.to(at::kDouble)), in_subset(at::ones({rows.size(0), 1}, features.options())) {}

  /// The sum of the kernel over the pairs of two different rows of a subset, for each: [S]. The kernel is symmetric, so
  /// a block of rows meets itself once and those behind it twice.
  at::Tensor sums_within() const {
    auto sums = at::zeros({in_subset.size(1)}, features.options());
    const std::int64_t num_rows = features.size(0);
    for_each_block_of(num_rows, [&](std::int64_t begin, std::int64_t count) {
      const auto k = kernel(features.narrow(0, begin, count), features.narrow(0, begin, num_rows - begin));
      k.diagonal().zero_();
      auto counted = 2 * in_subset.narrow(0, begin, num_rows - begin);
      counted.narrow(0, 0, count).div_(2);
      sums += (in_subset.narrow(0, begin, count) * k.mm(counted)).sum(0);
    });
    return sums;
  }
  /// The sum of the kernel over the pairs of a row of a subset with one of the other set's subset, for each: [S].
  at::Tensor sums_with(const Subsets& other) const {
    auto sums = at::zeros({in_subset.size(1)}, features.options());
    for_each_block_of(features.size(0), [&](std::int64_t begin, std::int64_t count) {
      const auto k = kernel(features.narrow(0, begin, count), other.features);
      sums += (in_subset.narrow(0, begin, count) * k.mm(other.in_subset)).sum(0);
    });
    return sums;
  }
};

/// Equation (4) of the paper for each subset of m rows of x and m of y: [S]. Pairs of a row with itself are left out.
at::Tensor squared_discrepancies(const Subsets& x, const Subsets& y, double m) {
  return (x.sums_within() + y.sums_within()) / (m * (m - 1)) - 2 * x.sums_with(y) / (m * m);
}

at::Tensor rows_of(const at::Tensor& features, const std::vector<std::int64_t>& rows) {
  return features.index_select(0, at::tensor(rows).to(features.device()));
}

}  // namespace

Kid kernel_distance(const at::Tensor& generated, const at::Tensor& real, const KidOptions& options) {
  EPD_REQUIRE(generated.dim() == 2 && real.dim() == 2 && generated.size(1) == real.size(1),
              "KID needs two sets of equal features, got ", generated.sizes(), " and ", real.sizes());
  const auto size = std::min({options.subset_size, generated.size(0), real.size(0)});
  EPD_REQUIRE(size >= 2, "KID needs at least 2 images in each set");
  RandomState random(options.seed);
  const auto draw = [&](const at::Tensor& features) {
    const auto rows = random.choice(static_cast<std::size_t>(features.size(0)), static_cast<std::size_t>(size));
    return std::vector<std::int64_t>(rows.begin(), rows.end());
  };
  std::vector<std::vector<std::int64_t>> of_generated, of_real;
  for (std::int64_t i = 0; i < options.subsets; ++i) {
    of_generated.push_back(draw(generated));
    of_real.push_back(draw(real));
  }
  // All subsets share the kernel of whole sets that are small beside them; of large sets each takes its own rows.
  const auto pairs = [](auto n, auto m) { return (n * n + m * m) / 2 + n * m; };
  std::vector<at::Tensor> values;
  if (pairs(generated.size(0), real.size(0)) <= options.subsets * pairs(size, size)) {
    values.push_back(squared_discrepancies({generated, of_generated}, {real, of_real}, static_cast<double>(size)));
  } else {
    for (std::size_t i = 0; i < of_real.size(); ++i) {
      values.push_back(squared_discrepancies(Subsets(rows_of(generated, of_generated[i])),
                                             Subsets(rows_of(real, of_real[i])), static_cast<double>(size)));
    }
  }
  const auto all = at::cat(values);
  return {.mean = all.mean().item<double>(),
          .deviation = all.std(/*unbiased=*/false).item<double>(),
          .subsets = options.subsets,
          .subset_size = size,
          .seed = options.seed};
}

namespace {

/// Squared distances [n, m] between rows.
at::Tensor squared_distances(const at::Tensor& x, const at::Tensor& y) {
  const auto squares = x.square().sum(1).unsqueeze(1) + y.square().sum(1).unsqueeze(0);
  return (squares - 2 * x.mm(y.t())).clamp_min_(0);
}

/// Calls visit(first row, distances [n, M]) for block after block of the rows of x.
template <class Visit>
void for_each_block(const at::Tensor& x, const at::Tensor& y, Visit visit) {
  for_each_block_of(x.size(0), [&](std::int64_t begin, std::int64_t count) {
    visit(begin, squared_distances(x.narrow(0, begin, count), y));
  });
}

/// Squared distances [N, most] to the 1st, 2nd, ... neighbour of the same set.
at::Tensor neighbour_distances(const at::Tensor& x, std::int64_t most) {
  std::vector<at::Tensor> parts;
  for_each_block(x, x, [&](std::int64_t begin, at::Tensor distances) {
    distances.diagonal(begin).zero_();  // the image itself comes first, whatever rounding says
    const auto smallest = std::get<0>(distances.topk(most + 1, 1, /*largest=*/false, /*sorted=*/true));
    parts.push_back(smallest.narrow(1, 1, most));
  });
  return at::cat(parts);
}

at::Tensor bounded(const at::Tensor& features, const PrdcOptions& options) {
  const auto rows = random_subset(static_cast<std::size_t>(features.size(0)),
                                  static_cast<std::size_t>(options.max_pictures), options.seed);
  const std::vector<std::int64_t> index(rows.begin(), rows.end());
  return features.index_select(0, at::tensor(index, at::kLong).to(features.device())).to(at::kDouble);
}

double mean_of(const at::Tensor& flags) { return flags.to(at::kDouble).mean().item<double>(); }

}  // namespace

Prdc prdc(const at::Tensor& generated, const at::Tensor& real, const PrdcOptions& options) {
  EPD_REQUIRE(generated.dim() == 2 && real.dim() == 2 && generated.size(1) == real.size(1),
              "PRDC needs two sets of equal features, got ", generated.sizes(), " and ", real.sizes());
  const auto fakes = bounded(generated, options), reals = bounded(real, options);
  const auto most = std::max(options.manifold_k, options.density_k);
  EPD_REQUIRE(fakes.size(0) > most && reals.size(0) > most, "PRDC needs more than ", most,
              " images in each set, there are ", fakes.size(0), " and ", reals.size(0));
  const auto real_radii = neighbour_distances(reals, most);
  const auto fake_radii = neighbour_distances(fakes, most).select(1, options.manifold_k - 1);
  auto in_real_ball = at::zeros({fakes.size(0)}, fakes.options().dtype(at::kBool));
  auto num_balls = at::zeros({fakes.size(0)}, fakes.options());
  std::vector<at::Tensor> in_fake_ball, covered;
  for_each_block(reals, fakes, [&](std::int64_t begin, const at::Tensor& distances) {
    const auto radii = real_radii.narrow(0, begin, distances.size(0));
    const auto manifold_radius = radii.select(1, options.manifold_k - 1).unsqueeze(1);
    const auto density_radius = radii.select(1, options.density_k - 1).unsqueeze(1);
    in_real_ball |= (distances < manifold_radius).any(0);
    in_fake_ball.push_back((distances < fake_radii).any(1));
    num_balls += (distances < density_radius).sum(0);
    covered.push_back((distances < density_radius).any(1));
  });
  return {.precision = mean_of(in_real_ball),
          .recall = mean_of(at::cat(in_fake_ball)),
          .density = mean_of(num_balls) / static_cast<double>(options.density_k),
          .coverage = mean_of(at::cat(covered)),
          .manifold_k = options.manifold_k,
          .density_k = options.density_k,
          .num_generated = fakes.size(0),
          .num_real = reals.size(0)};
}

Nearest nearest_neighbours(const at::Tensor& queries, const at::Tensor& points) {
  std::vector<at::Tensor> distances, indices;
  const auto targets = points.to(at::kDouble);
  for_each_block(queries.to(at::kDouble), targets, [&](std::int64_t, const at::Tensor& block) {
    const auto [smallest, index] = block.min(1);
    distances.push_back(smallest.sqrt());
    indices.push_back(index);
  });
  return {at::cat(distances), at::cat(indices)};
}

at::Tensor nearest_others(const at::Tensor& points, const std::vector<std::size_t>& queries) {
  const auto targets = points.to(at::kDouble);
  const auto rows = at::tensor(std::vector<std::int64_t>(queries.begin(), queries.end()), at::kLong);
  std::vector<at::Tensor> distances;
  for_each_block(targets.index_select(0, rows), targets, [&](std::int64_t begin, at::Tensor block) {
    const auto own = rows.narrow(0, begin, block.size(0)).unsqueeze(1);
    block.scatter_(1, own, std::numeric_limits<double>::infinity());
    distances.push_back(std::get<0>(block.min(1)).sqrt());
  });
  return at::cat(distances);
}

}  // namespace epd
