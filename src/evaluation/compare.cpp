#include "epd/evaluation/compare.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>

#include "epd/assets/paths.h"
#include "epd/core/error.h"
#include "epd/core/log.h"
#include "epd/core/progress.h"
#include "epd/denoiser/memory.h"
#include "epd/distributed/shard.h"
#include "epd/images/image_source.h"
#include "epd/metrics/detector.h"
#include "epd/metrics/frechet.h"
#include "epd/metrics/scorer.h"
#include "epd/metrics/tensor_images.h"
#include "epd/runtime/linear.h"
#include "epd/sampling/sampler.h"

namespace epd {
namespace {

Contender with_nfe(const std::string& text, ScheduleKind schedule) {
  const auto mark = text.find('#');
  EPD_REQUIRE_USAGE(mark != std::string::npos && mark + 1 < text.size() &&
                        text.find_first_not_of("0123456789", mark + 1) == std::string::npos && text.size() - mark < 6,
                    "'", text, "': expected solver:order@schedule#nfe, such as dpmpp:3@logsnr#40");
  return read_contender(text.substr(0, mark), std::stoi(text.substr(mark + 1)), schedule);
}

/// The rows in the order of the table, where the zoo is not ranked.
std::vector<Contender> contenders(const CompareOptions& o, const ModelFacts& facts) {
  std::vector<Contender> all;
  for (const auto& predictor : o.predictors) all.push_back(predictor_contender(predictor));
  for (const auto& plan : o.plans) all.push_back(plan_contender(plan));
  if (o.zoo) std::ranges::move(zoo_contenders(facts), std::back_inserter(all));
  for (const auto& sigmas : o.sigmas) {
    for (const auto& solver : o.solvers) {
      if (solver.find('@') == std::string::npos) all.push_back(listed_contender(solver, sigmas));
    }
  }
  auto schedules = o.schedules;
  if (schedules.empty() && std::holds_alternative<FlowNoise>(facts.noise)) schedules = {ScheduleKind::kFlowMatch};
  if (schedules.empty()) schedules = {ScheduleKind::kTimeUniform, ScheduleKind::kPolynomial, ScheduleKind::kLogSnr};
  for (const int nfe : o.nfe) {
    for (const auto& solver : o.solvers) {
      if (solver.find('@') != std::string::npos) {
        all.push_back(read_contender(solver, nfe, ScheduleKind::kPolynomial));
        continue;
      }
      for (const auto schedule : schedules) all.push_back(read_contender(solver, nfe, schedule));
    }
  }
  for (const auto& row : o.extra) all.push_back(with_nfe(row, ScheduleKind::kPolynomial));
  return all;
}

/// What all rows share.
struct Setting {
  CompareOptions options;  // with the default chunk filled in
  ProcessGroup& group;
  OpenedModel model;
  std::shared_ptr<const Conditions> conditions;
  std::shared_ptr<const Detector> detector;
  std::vector<std::uint64_t> seeds;  // of this process
};

/// What one method made of the seeds.
struct MethodSamples {
  CompareRow row;                                 // who drew them and how fast; no scores yet
  Statistics statistics;                          // of all processes' images
  std::vector<at::Tensor> states;                 // of this process, at the end of the trajectory, by batch
  std::vector<std::vector<std::uint64_t>> seeds;  // of the states
  std::vector<Image> images;                      // of the first seeds, on the root
};

/// What the samples are scored against.
struct Reference {
  MethodSamples fine;  // by many small steps
  std::optional<Statistics> data;
};

Setting open_setting(CompareOptions o, ProcessGroup& group, at::Device device) {
  constexpr std::int64_t kPoints = 2;  // of the predictors that are usual
  ModelOptions model;
  model.path = find_model(o.dataset_name, o.model_path);
  model.device = device;
  model.precision = o.precision;
  model.engine = o.engine;
  model.offload = o.offload;
  model.guidance = {o.guidance_type, o.guidance_rate, false};
  model.chunks.chunk = o.chunk;
  o.chunk = model.chunks.chunk = chunk_that_fits(model, {.num_points = kPoints});
  model.size = o.condition.size;
  o.condition.cfg = o.guidance_type == GuidanceKind::kClassifierFree;
  auto opened = open_model(model);
  auto conditions = make_conditions(opened.model, model.path, o.condition);
  return {o,
          group,
          std::move(opened),
          std::move(conditions),
          open_scoring_detector(o.dataset_name, o.detector, device),
          share_of(o.seeds, group.rank(), group.size())};
}

Method method_of(const Setting& setting, const Contender& contender) {
  MethodOptions method = contender.method;
  if (method.solver && method.sigmas.empty()) method.range = setting.options.range;
  if (!method.predictor_path.empty()) method.force_predictor = setting.options.force_predictor;
  if (setting.options.guidance_type != GuidanceKind::kNone) {
    method.guidance_type = setting.options.guidance_type;
    method.guidance_rate = setting.options.guidance_rate;
  }
  return make_method(method, find_method_predictor(method), setting.model.facts());
}

std::optional<Statistics> data_statistics(const Setting& setting) {
  const auto& data = setting.options.data;
  if (data.empty()) return std::nullopt;
  if (is_statistics_file(data)) return read_statistics(data);
  const auto source = open_image_source(data);
  std::vector<std::size_t> all(source->size());
  std::iota(all.begin(), all.end(), std::size_t{0});
  return score_images(*source, all, setting.detector, {}, setting.group, data).statistics;
}

/// The time of the slowest process counts.
double slowest(ProcessGroup& group, double seconds) {
  auto times = at::zeros({group.size()}, at::kDouble);
  times[group.rank()] = seconds;
  group.all_reduce_sum(times, "times");
  return times.max().item<double>();
}

/// Adds to `images` those of the first seeds; a black one for an image that is left out.
void add_images(const Setting& setting, const Samples& drawn, std::vector<Image>& images) {
  const auto pixels = to_pixels(drawn.images).cpu();
  const auto count = drawn.seeds.size() + drawn.bad.size();
  const auto wanted = static_cast<std::size_t>(setting.options.picture_images);
  for (std::size_t i = 0; i < count && images.size() < wanted; ++i) {
    const auto row = std::ranges::find(drawn.seeds, setting.seeds[images.size()]) - drawn.seeds.begin();
    const bool is_there = row < static_cast<std::ptrdiff_t>(drawn.seeds.size());
    images.push_back(is_there ? image_of(pixels, row)
                              : Image(static_cast<int>(pixels.size(1)), static_cast<int>(pixels.size(2)),
                                      static_cast<int>(pixels.size(3))));
  }
}

MethodSamples draw(const Setting& setting, const Method& method, const std::string& name, Progress& progress) {
  const auto& o = setting.options;
  MethodSamples samples;
  const auto keep = [&](const Samples& drawn) {
    samples.states.push_back(drawn.end);
    samples.seeds.push_back(drawn.seeds);
    if (setting.group.is_root()) add_images(setting, drawn, samples.images);
    for (const auto& image : drawn.bad) log::warning(name, ": ", image.message(), "; it is left out");
    progress.advance(method.evaluations() * static_cast<std::int64_t>(drawn.seeds.size() + drawn.bad.size()));
  };
  progress.note(name);
  const Sampler sampler(setting.model, setting.conditions, method.plan, method.times[0], {.on_bad = o.on_bad});
  const auto at_once = images_at_once(o.batch, setting.group.size(), o.chunk);
  auto drawn = draw_statistics(sampler, setting.seeds, at_once, setting.detector, setting.group, name, keep);
  samples.statistics = std::move(drawn.statistics);
  const auto finite = static_cast<std::int64_t>(samples.statistics.count);
  samples.row.missing = static_cast<std::int64_t>(o.seeds.size()) - finite;
  EPD_REQUIRE(finite >= 2, name, ": only ", finite, " of ", o.seeds.size(), " images are finite, too few to score");
  samples.row.solver = name;
  samples.row.schedule = schedule_text(method);
  samples.row.learned = method.predictor.has_value() || !method.plan_sha256.empty();
  samples.row.nfe = method.nfe();
  samples.row.evaluations = method.evaluations();
  samples.row.images_per_second = static_cast<double>(o.seeds.size()) / slowest(setting.group, drawn.seconds);
  return samples;
}

/// Rows of `states`, which are of the seeds `of`, whose seeds are among `wanted` too.
at::Tensor rows_among(const at::Tensor& states, const std::vector<std::uint64_t>& of,
                      const std::vector<std::uint64_t>& wanted) {
  if (of == wanted) return states;
  std::vector<std::int64_t> rows;
  for (std::size_t i = 0; i < of.size(); ++i) {
    if (std::ranges::find(wanted, of[i]) != wanted.end()) rows.push_back(static_cast<std::int64_t>(i));
  }
  return states.index_select(0, at::tensor(rows, at::kLong).to(states.device()));
}

/// RMSE over all values of all processes' states that both have.
double rmse(const MethodSamples& samples, const MethodSamples& fine, ProcessGroup& group) {
  double square = 0, values = 0;
  for (std::size_t batch = 0; batch < fine.states.size(); ++batch) {
    const auto gap = rows_among(samples.states[batch], samples.seeds[batch], fine.seeds[batch]) -
                     rows_among(fine.states[batch], fine.seeds[batch], samples.seeds[batch]);
    square += inner_products(gap, gap).sum().item<double>();
    values += static_cast<double>(gap.numel());
  }
  auto sums = at::tensor({square, values}, at::kDouble);
  group.all_reduce_sum(sums, "squared errors");
  return std::sqrt(sums[0].item<double>() / sums[1].item<double>());
}

/// Called by all processes.
CompareRow score(const MethodSamples& samples, const Reference& reference, ProcessGroup& group) {
  const auto distance = [&](const Statistics& other) {
    return std::max(0.0, frechet_distance(samples.statistics, other));
  };
  CompareRow row = samples.row;
  row.rmse = rmse(samples, reference.fine, group);
  row.fd_exact = &samples == &reference.fine ? 0 : distance(reference.fine.statistics);
  row.fd_data = reference.data ? distance(*reference.data) : std::numeric_limits<double>::quiet_NaN();
  return row;
}

}  // namespace

const CompareOptions& CompareOptions::validated() const {
  CompareOptions copy = *this;
  options_of(copy).check();
  EPD_REQUIRE_USAGE(seeds.size() >= 2, "seeds: a comparison needs at least 2 images, got ", seeds.size());
  EPD_REQUIRE_USAGE(!solvers.empty() || !predictors.empty() || !plans.empty() || zoo || !extra.empty(),
                    "nothing to compare: give --solvers, --predictors, --plans, --zoo or --extra");
  return *this;
}

Comparison compare(const CompareOptions& options, ProcessGroup& group, at::Device device) {
  CompareOptions o = options.validated();
  if (o.seeds.random) {
    static_cast<std::vector<std::uint64_t>&>(o.seeds) =
        parse_seeds(group.broadcast_bytes(seeds_text(o.seeds), "random seeds"));
    if (group.is_root()) log::info("seeds: ", seeds_text(o.seeds));
  }
  const Setting setting = open_setting(o, group, device);
  const auto lost = group.is_root() ? setting.conditions->cut_off(o.seeds) : "";
  if (!lost.empty()) log::warning(lost);
  const auto all = contenders(options, setting.model.facts());
  std::vector<Method> methods;
  for (const auto& contender : all) methods.push_back(method_of(setting, contender));
  const auto exact = with_nfe(options.exact, ScheduleKind::kLogSnr);
  const auto fine = method_of(setting, exact);
  auto data = data_statistics(setting);

  std::int64_t evaluations = fine.evaluations();
  for (const auto& method : methods) evaluations += method.evaluations();
  Progress progress("comparing", evaluations * static_cast<std::int64_t>(setting.seeds.size()), "evaluations",
                    group.is_root());
  Reference reference{draw(setting, fine, reference_name(exact.name, fine.nfe()), progress), std::move(data)};
  std::vector<std::pair<CompareRow, std::vector<Image>>> scored;
  for (std::size_t i = 0; i < all.size(); ++i) {
    auto samples = draw(setting, methods[i], all[i].name.empty() ? methods[i].solver : all[i].name, progress);
    scored.emplace_back(score(samples, reference, group), std::move(samples.images));
  }
  if (o.zoo) {  // many rows, of which the best at each price is sought
    std::ranges::stable_sort(scored, {}, [](const auto& one) { return std::pair(one.first.nfe, one.first.rmse); });
  }
  scored.emplace_back(score(reference.fine, reference, group), std::move(reference.fine.images));
  Comparison result;
  for (auto& [row, images] : scored) {
    result.rows.push_back(std::move(row));
    result.images.push_back(std::move(images));
  }
  return result;
}

}  // namespace epd
