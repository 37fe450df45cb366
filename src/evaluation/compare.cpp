#include "epd/evaluation/compare.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "epd/assets/paths.h"
#include "epd/core/error.h"
#include "epd/core/interrupt.h"
#include "epd/core/progress.h"
#include "epd/denoiser/open_model.h"
#include "epd/distributed/shard.h"
#include "epd/images/image_source.h"
#include "epd/metrics/detector.h"
#include "epd/metrics/frechet.h"
#include "epd/metrics/run_fid.h"
#include "epd/metrics/scorer.h"
#include "epd/runtime/linear.h"
#include "epd/sampling/pixels.h"
#include "epd/sampling/sampler.h"

namespace epd {
namespace {

using Clock = std::chrono::steady_clock;

Contender with_nfe(const std::string& text, ScheduleKind schedule) {
  const auto mark = text.find('#');
  EPD_REQUIRE_USAGE(mark != std::string::npos && mark + 1 < text.size() &&
                        text.find_first_not_of("0123456789", mark + 1) == std::string::npos && text.size() - mark < 6,
                    "'", text, "': expected solver:order@schedule#nfe, such as dpmpp:3@logsnr#40");
  return read_contender(text.substr(0, mark), std::stoi(text.substr(mark + 1)), schedule);
}

/// The rows in the order of the table.
std::vector<Contender> contenders(const CompareOptions& o) {
  std::vector<Contender> all;
  for (const auto& predictor : o.predictors) all.push_back(predictor_contender(predictor));
  for (const int nfe : o.nfe) {
    for (const auto& solver : o.solvers) {
      if (solver.find('@') != std::string::npos) {
        all.push_back(read_contender(solver, nfe, ScheduleKind::kPolynomial));
        continue;
      }
      for (const auto schedule : o.schedules) all.push_back(read_contender(solver, nfe, schedule));
    }
  }
  for (const auto& row : o.extra) all.push_back(with_nfe(row, ScheduleKind::kPolynomial));
  return all;
}

/// One row's images of this process, beside the exact ones.
class Row {
 public:
  Row(std::shared_ptr<const Detector> detector, int picture_images)
      : scorer_(std::move(detector), false), picture_images_(picture_images) {}

  void add(const Drawn& drawn, const at::Tensor& exact_state, bool first_seeds) {
    const auto gap = drawn.end - exact_state;
    square_ += inner_products(gap, gap).sum().item<double>();
    values_ += static_cast<double>(gap.numel());
    const auto pixels = to_pixels(drawn.images);
    scorer_.add(pixels.permute({0, 3, 1, 2}));
    const auto on_cpu = pixels.to(at::kCPU);
    for (std::int64_t i = 0; first_seeds && i < on_cpu.size(0); ++i) {
      if (static_cast<int>(pictures_.size()) < picture_images_) pictures_.push_back(picture(on_cpu, i));
    }
  }
  void spent(Clock::duration time) { seconds_ += std::chrono::duration<double>(time).count(); }

  /// The row's numbers over all processes; the slowest one's time counts.
  CompareRow collect(ProcessGroup& group, const std::string& name, const Statistics* exact, const Statistics* data,
                     double num_seeds, Statistics* own) {
    auto sums = at::tensor({square_, values_}, at::kDouble);
    group.all_reduce_sum(sums, "squared errors");
    auto times = at::zeros({group.size()}, at::kDouble);
    times[group.rank()] = seconds_;
    group.all_reduce_sum(times, "times");
    const auto statistics = scorer_.collect(group, name).statistics;
    CompareRow row;
    row.rmse = std::sqrt(sums[0].item<double>() / sums[1].item<double>());
    row.fd_exact = exact ? std::max(0.0, frechet_distance(statistics, *exact)) : 0;
    row.fd_data = data ? std::max(0.0, frechet_distance(statistics, *data)) : std::numeric_limits<double>::quiet_NaN();
    row.images_per_second = num_seeds / times.max().item<double>();
    if (own) *own = statistics;
    return row;
  }
  std::vector<Image> take_pictures() { return std::move(pictures_); }

 private:
  Scorer scorer_;
  int picture_images_;
  double square_ = 0, values_ = 0, seconds_ = 0;
  std::vector<Image> pictures_;
};

/// The work of one process.
class Arena {
 public:
  Arena(const CompareOptions& options, ProcessGroup& group, at::Device device)
      : options_(options), group_(group), device_(device), model_(open()) {
    conditions_ =
        make_conditions(model_.model, find_model(options.dataset_name, options.model_path), options.condition);
    detector_ = open_scoring_detector(options.dataset_name, options.detector, device);
    mine_ = share_of(options.seeds, group.rank(), group.size());
    const auto per_batch = std::max<std::int64_t>(1, options.batch / group.size());
    passes_ = passes_of({0, static_cast<std::int64_t>(mine_.size())}, per_batch);
  }

  Comparison run() {
    auto all = contenders(options_);
    const auto exact = with_nfe(options_.exact, ScheduleKind::kLogSnr);
    std::vector<Method> methods;
    for (const auto& contender : all) methods.push_back(method_of(contender));
    const auto fine = method_of(exact);
    if (!options_.data.empty()) data_ = data_statistics();

    Progress progress("comparing", total_evaluations(methods, fine), "evaluations", group_.is_root());
    Comparison result;
    CompareRow floor = draw(fine, nullptr, nullptr, result, progress, exact.name);
    floor.rmse = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
      const auto& name = all[i].name.empty() ? methods[i].solver : all[i].name;
      result.rows.push_back(draw(methods[i], &exact_states_, &exact_statistics_, result, progress, name));
    }
    floor.solver = "exact ODE, by " + exact.name;
    result.rows.push_back(floor);
    std::rotate(result.pictures.begin(), result.pictures.begin() + 1, result.pictures.end());
    return result;
  }

 private:
  OpenedModel open() const {
    ModelOptions model;
    model.path = find_model(options_.dataset_name, options_.model_path);
    model.device = device_;
    model.precision = options_.precision;
    model.guidance = {options_.guidance_type, options_.guidance_rate, false};
    model.chunks.chunk = chunk_or_default(options_.chunk, device_);
    return open_model(model);
  }

  Method method_of(const Contender& contender) const {
    MethodOptions method = contender.method;
    if (options_.guidance_type != GuidanceKind::kNone) {
      method.guidance_type = options_.guidance_type;
      method.guidance_rate = options_.guidance_rate;
    }
    return make_method(method, find_method_predictor(method), model_.facts());
  }

  std::int64_t total_evaluations(const std::vector<Method>& methods, const Method& fine) const {
    std::int64_t each = fine.evaluations();
    for (const auto& method : methods) each += method.evaluations();
    return each * static_cast<std::int64_t>(mine_.size());
  }

  Statistics data_statistics() const {
    if (is_statistics_file(options_.data)) return read_statistics(options_.data);
    const auto source = open_image_source(options_.data);
    std::vector<std::size_t> all(source->size());
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
    return score_images(*source, all, detector_, {}, group_, options_.data).statistics;
  }

  /// Draws one row. Without exact states it is the exact row itself, which keeps its states and statistics.
  CompareRow draw(const Method& method, const std::vector<at::Tensor>* exact, const Statistics* exact_statistics,
                  Comparison& result, Progress& progress, const std::string& name) {
    const Sampler sampler(model_, conditions_, method.plan, method.times[0], {});
    progress.note(name);
    Row row(detector_, options_.picture_images);
    for (std::size_t batch = 0; batch < passes_.size(); ++batch) {
      check_interrupt();
      const auto begin = Clock::now();
      auto drawn = sampler.draw(part_of(mine_, passes_[batch]));
      row.spent(Clock::now() - begin);
      if (!exact) exact_states_.push_back(drawn.end);
      row.add(drawn, exact ? (*exact)[batch] : drawn.end, group_.is_root());
      progress.advance(method.evaluations() * passes_[batch].size());
    }
    auto numbers = row.collect(group_, name, exact_statistics, data_ ? &*data_ : nullptr,
                               static_cast<double>(options_.seeds.size()), exact ? nullptr : &exact_statistics_);
    numbers.solver = name;
    numbers.schedule = schedule_text(method);
    numbers.learned = method.predictor.has_value();
    numbers.nfe = method.nfe();
    numbers.evaluations = method.evaluations();
    result.pictures.push_back(row.take_pictures());
    return numbers;
  }

  const CompareOptions& options_;
  ProcessGroup& group_;
  at::Device device_;
  OpenedModel model_;
  std::shared_ptr<const Conditions> conditions_;
  std::shared_ptr<const Detector> detector_;
  std::vector<std::uint64_t> mine_;
  std::vector<Shard> passes_;  // over them, a batch each
  std::optional<Statistics> data_;
  std::vector<at::Tensor> exact_states_;  // by batch
  Statistics exact_statistics_;
};

}  // namespace

const CompareOptions& CompareOptions::validated() const {
  EPD_REQUIRE_USAGE(seeds.size() >= 2, "seeds: a comparison needs at least 2 images, got ", seeds.size());
  EPD_REQUIRE_USAGE(!solvers.empty() || !predictors.empty() || !extra.empty(),
                    "nothing to compare: give --solvers, --predictors or --extra");
  EPD_REQUIRE_USAGE(batch >= 1, "batch: expected at least 1, got ", batch);
  EPD_REQUIRE_USAGE(picture_images >= 1, "picture_images: expected at least 1, got ", picture_images);
  return *this;
}

Comparison compare(const CompareOptions& options, ProcessGroup& group, at::Device device) {
  return Arena(options.validated(), group, device).run();
}

}  // namespace epd
