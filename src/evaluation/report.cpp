#include "epd/evaluation/report.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iomanip>
#include <sstream>

#include "epd/files/json_writer.h"
#include "epd/images/label.h"

namespace epd {
namespace {

std::string fixed(double value, int digits) {
  if (std::isnan(value)) return "-";
  std::ostringstream out;
  out << std::fixed << std::setprecision(digits) << value;
  return out.str();
}

using Cells = std::array<std::string, 8>;

Cells cells_of(const CompareRow& row) {
  return {row.solver,         row.schedule,           std::to_string(row.nfe), std::to_string(row.evaluations),
          fixed(row.rmse, 4), fixed(row.fd_exact, 2), fixed(row.fd_data, 1),   fixed(row.images_per_second, 1)};
}

/// The picture enlarged `factor` times, pixel by pixel.
Image enlarged(const Image& image, int factor) {
  Image result(image.height * factor, image.width * factor, image.channels);
  for (int y = 0; y < result.height; ++y) {
    for (int x = 0; x < result.width; ++x) {
      std::copy_n(image.row(y / factor) + (x / factor) * image.channels, image.channels,
                  result.row(y) + x * image.channels);
    }
  }
  return result;
}

}  // namespace

std::string comparison_table(const std::vector<CompareRow>& rows) {
  std::vector<Cells> lines{
      {"solver", "schedule", "NFE", "evaluations", "RMSE", "FD to exact", "FD to data", "images/s"}};
  for (const auto& row : rows) lines.push_back(cells_of(row));
  std::array<std::size_t, 8> widths{};
  for (const auto& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  }
  std::ostringstream out;
  const auto write = [&](const Cells& line) {
    for (std::size_t i = 0; i < line.size(); ++i) {
      out << "| " << (i < 2 ? std::left : std::right) << std::setw(static_cast<int>(widths[i])) << line[i] << " ";
    }
    out << "|\n";
  };
  write(lines[0]);
  for (std::size_t i = 0; i < widths.size(); ++i) {
    out << "|" << std::string(widths[i] + 1, '-') << (i < 2 ? "-" : ":");
  }
  out << "|\n";
  for (std::size_t i = 1; i < lines.size(); ++i) write(lines[i]);
  return out.str();
}

std::string comparison_json(const std::vector<CompareRow>& rows) {
  std::vector<JsonObject> objects;
  for (const auto& row : rows) {
    JsonObject object;
    object.add("solver", row.solver).add("schedule", row.schedule).add("nfe", row.nfe);
    object.add("evaluations", row.evaluations).add("rmse", row.rmse).add("fd_exact", row.fd_exact);
    if (std::isnan(row.fd_data)) {
      object.null("fd_data");
    } else {
      object.add("fd_data", row.fd_data);
    }
    objects.push_back(object.add("images_per_second", row.images_per_second));
  }
  return JsonObject().raw("rows", json_lines(objects)).pretty() + "\n";
}

Image comparison_picture(const Comparison& comparison) {
  constexpr int kLabelWidth = 250, kSmall = 64, kGap = 2;
  std::vector<Image> rows;
  for (std::size_t i = 0; i < comparison.rows.size(); ++i) {
    const auto& row = comparison.rows[i];
    auto images = comparison.pictures[i];
    const int factor = std::max(1, kSmall / images[0].height);
    for (auto& image : images) image = enlarged(to_rgb(std::move(image)), factor);
    const Image strip = image_grid(images, static_cast<int>(images.size()), kGap);
    const std::string numbers = "NFE " + std::to_string(row.nfe) + ", " + std::to_string(row.evaluations) +
                                " evaluations, RMSE " + fixed(row.rmse, 3);
    const Image name = text_image(row.solver + ", " + row.schedule, strip.height / 2, kLabelWidth);
    const Image detail = text_image(numbers, strip.height - strip.height / 2, kLabelWidth);
    rows.push_back(beside(above(name, detail), strip));
  }
  return image_grid(rows, 1, kGap);
}

}  // namespace epd
