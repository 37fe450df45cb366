#include "epd/distill/run_files.h"

#include <sys/resource.h>

#include <limits>
#include <sstream>
#include <vector>

#include "epd/core/error.h"
#include "epd/documents/predictor_json.h"
#include "epd/files/atomic_file.h"
#include "epd/files/json_reader.h"
#include "epd/files/json_writer.h"
#include "epd/images/png.h"
#include "epd/sampling/pixels.h"

namespace epd {
namespace {

/// One group of coefficients, a list per step.
std::string coefficients(const std::vector<EpdCoefficients<double>>& table,
                         std::vector<double> EpdCoefficients<double>::*group) {
  std::string rows = "[";
  for (std::size_t n = 0; n < table.size(); ++n) rows += (n > 0 ? ", " : "") + json_numbers(table[n].*group);
  return rows + "]";
}

std::vector<Image> pictures(const at::Tensor& images) {
  const auto pixels = to_pixels(images).to(at::kCPU);
  std::vector<Image> result;
  for (std::int64_t i = 0; i < pixels.size(0); ++i) result.push_back(picture(pixels, i));
  return result;
}

}  // namespace

std::string stats_line(const TickStats& stats, const PredictorSpec& predictor) {
  JsonObject line;
  line.add("tick", stats.tick).add("kimg", stats.kimg).add("iteration", stats.iteration);
  line.raw("loss", json_numbers(stats.last.loss)).add("lr", stats.last.learning_rate);
  if (stats.last.validation) line.add("validation", *stats.last.validation);
  line.add("nonfinite_gradients", stats.last.nonfinite_gradients);
  if (stats.frechet_distance) line.add("frechet_distance", *stats.frechet_distance);
  line.add("sec_per_kimg", stats.seconds_per_kimg).add("seconds", stats.seconds);
  line.add("peak_memory_gib", peak_memory_gib());
  if (predictor.kind == StudentKind::kNs) return line.raw("plan", plan_text(predictor.plan)).line();
  const auto table = epd_table(predictor, predictor.parameters);
  line.raw("r", coefficients(table, &EpdCoefficients<double>::r));
  line.raw("weight", coefficients(table, &EpdCoefficients<double>::weight));
  line.raw("scale_dir", coefficients(table, &EpdCoefficients<double>::scale_dir));
  line.raw("scale_time", coefficients(table, &EpdCoefficients<double>::scale_time));
  return line.line();
}

void trim_stats(const std::filesystem::path& path, std::int64_t iteration) {
  if (!std::filesystem::exists(path)) return;
  std::istringstream lines(read_file(path));
  std::string kept, line;
  while (std::getline(lines, line)) {
    try {
      auto json = JsonReader::parse(line, path.string());
      if (json.integer("iteration", 0, std::numeric_limits<std::int64_t>::max()) <= iteration) kept += line + "\n";
    } catch (const Error&) {
      // A line that a kill cut short.
    }
  }
  write_file(path, kept);
}

void write_preview(const std::filesystem::path& path, const at::Tensor& student, const at::Tensor& teacher) {
  auto images = pictures(student);
  for (auto& image : pictures(teacher)) images.push_back(std::move(image));
  write_file(path, encode_png(image_grid(images, static_cast<int>(student.size(0)))));
}

double peak_memory_gib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / (1 << 20);
}

}  // namespace epd
