#include <algorithm>
#include <array>
#include <cmath>
#include <iomanip>
#include <iterator>
#include <numeric>
#include <utility>

#include "epd/core/error.h"
#include "epd/evaluation/compare.h"
#include "epd/files/json.h"
#include "epd/images/image.h"

namespace epd {
namespace {

std::string fixed(double value, int digits) {
  return std::isnan(value) ? "-" : text(std::fixed, std::setprecision(digits), value);
}

using Cells = std::array<std::string, 8>;

Cells cells_of(const CompareRow& row) {
  return {row.solver,         row.schedule,           std::to_string(row.nfe), std::to_string(row.evaluations),
          fixed(row.rmse, 4), fixed(row.fd_exact, 2), fixed(row.fd_data, 1),   fixed(row.images_per_second, 1)};
}

// Of comparison_image, in pixels. Text is legible where a page shows the image at four fifths of its width.
constexpr int kTitle = 19, kNumbers = 16, kLineGap = 4, kMargin = 10, kRowGap = 6, kImageGap = 3, kSmallest = 64;
constexpr Colour kInk{27, 31, 36}, kSoft{89, 99, 110}, kLearned{0, 114, 178};

std::string numbers_of(const CompareRow& row, bool reference) {
  if (reference) return "the exact trajectory";
  const std::string cost = row.evaluations == row.nfe ? "" : text(" (", row.evaluations, " in total)");
  return text("NFE ", row.nfe, cost, ", RMSE ", fixed(row.rmse, 3));
}

/// The image enlarged `factor` times, pixel by pixel.
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

Image strip_of(std::vector<Image> images) {
  const int factor = (kSmallest + images[0].height - 1) / images[0].height;
  for (auto& image : images) image = enlarged(to_rgb(std::move(image)), factor);
  return image_grid(images, static_cast<int>(images.size()), kImageGap);
}

/// `count` of them, evenly spread, the first and the last among them.
std::vector<std::size_t> spread(const std::vector<std::size_t>& items, std::size_t count) {
  if (count >= items.size()) return items;
  std::vector<std::size_t> result;
  for (std::size_t i = 0; i < count; ++i) {
    result.push_back(items[count == 1 ? 0 : (2 * i * (items.size() - 1) + count - 1) / (2 * (count - 1))]);
  }
  return result;
}

/// The numbers of the rows in comparison_image, in its order.
std::vector<std::size_t> rows_shown(const std::vector<CompareRow>& rows, int max_rows) {
  const std::size_t reference = rows.size() - 1;
  std::vector<std::size_t> order(reference), learned, classical;
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto rmse = [&](std::size_t i) { return rows[i].rmse; };
  std::ranges::stable_sort(order, {}, rmse);
  if (max_rows > 0) {
    for (const auto i : order) (rows[i].learned ? learned : classical).push_back(i);
    const auto room = static_cast<std::size_t>(max_rows - 1);
    order = spread(learned, room);
    std::ranges::copy(spread(classical, room - order.size()), std::back_inserter(order));
    std::ranges::stable_sort(order, {}, rmse);
  }
  order.insert(order.begin(), reference);
  return order;
}

}  // namespace

std::string comparison_table(const std::vector<CompareRow>& rows) {
  std::vector<Cells> lines{
      {"solver", "schedule", "NFE", "total evaluations", "RMSE", "FD to reference", "FD to data", "images/s"}};
  for (const auto& row : rows) lines.push_back(cells_of(row));
  std::array<std::size_t, 8> widths{};
  for (const auto& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  }
  std::string out;
  const auto write = [&](const Cells& line) {
    for (std::size_t i = 0; i < line.size(); ++i) {
      out += text("| ", i < 2 ? std::left : std::right, std::setw(static_cast<int>(widths[i])), line[i], " ");
    }
    out += "|\n";
  };
  write(lines[0]);
  for (std::size_t i = 0; i < widths.size(); ++i) {
    out += text("|", std::string(widths[i] + 1, '-'), i < 2 ? "-" : ":");
  }
  out += "|\n";
  for (std::size_t i = 1; i < lines.size(); ++i) write(lines[i]);
  return out;
}

std::string comparison_json(const std::vector<CompareRow>& rows) {
  auto objects = Json::array();
  for (const auto& row : rows) {
    objects.push_back({{"solver", row.solver},
                       {"schedule", row.schedule},
                       {"nfe", row.nfe},
                       {"evaluations", row.evaluations},
                       {"rmse", row.rmse},
                       {"fd_exact", row.fd_exact},
                       {"fd_data", std::isnan(row.fd_data) ? Json() : Json(row.fd_data)},
                       {"images_per_second", row.images_per_second}});
    if (row.missing > 0) objects.back()["missing"] = row.missing;
  }
  return json_text({{"rows", objects}}) + "\n";
}

Image comparison_image(const Comparison& comparison, int max_rows) {
  const auto order = rows_shown(comparison.rows, max_rows);
  std::vector<std::string> numbers;
  std::vector<Image> strips;
  int label_width = 0;
  for (const auto i : order) {
    const auto& row = comparison.rows[i];
    numbers.push_back(numbers_of(row, i + 1 == comparison.rows.size()));
    strips.push_back(strip_of(comparison.images[i]));
    label_width = std::max({label_width, text_width(row.solver, kTitle), text_width(numbers.back(), kNumbers)});
  }
  const int left = label_width + 2 * kMargin, step = strips[0].height + kRowGap;
  Image image(static_cast<int>(order.size()) * step - kRowGap + 2 * kMargin, left + strips[0].width + kMargin, 3, 255);
  for (std::size_t i = 0; i < order.size(); ++i) {
    const auto& row = comparison.rows[order[i]];
    const int top = kMargin + static_cast<int>(i) * step;
    const int text_top = top + (strips[i].height - kTitle - kLineGap - kNumbers) / 2;
    draw_text(row.solver, kTitle, text_top, kMargin, row.learned ? kLearned : kInk, image);
    draw_text(numbers[i], kNumbers, text_top + kTitle + kLineGap, kMargin, kSoft, image);
    paste(strips[i], top, left, image);
  }
  return image;
}

}  // namespace epd
