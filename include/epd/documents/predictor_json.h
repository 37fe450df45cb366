#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "epd/files/json.h"
#include "epd/solver/predictor_spec.h"

namespace epd {

/// Reads a predictor.json: everything that sampling with a distilled solver needs, as one JSON object.
///   format "epd-predictor", version 1, kind "epd" | "ipndm" | "ns"
///   dataset_name, resolution, channels, label_dim    the state that the model denoises
///   num_steps N, num_points K
///   schedule {type, rho, sigma_min, sigma_max, t_steps?}    t_steps: N explicit times, which rule
///   afs true | false | "mean"
///   guidance_type "cg" | "cfg" | "uncond" (or null), guidance_rate (or null)
///   of epd and ipndm:
///     fcn, max_order (or null), scale_dir, scale_time
///     parameters {r, weight, scale_dir, scale_time}    raw, each N-1 lists of K
///   of ns, with x = start x(t_0) + sum_i weights[i] D_i over the images denoised in the stages before
///   (with afs "mean": over the mean of the data, then those):
///     plan {t_0, points [{stage, sigma, start, weights}], end {sigma, start, weights}}
///     The points of a stage run in parallel; stages count from 0.
///   source    where the numbers come from
///   sha256?   of the text before this field, whose layout must then be as it was written
/// A field that is not in this list is refused: it would change the images and be passed over in silence.
/// Throws Error, one line with the file and the field, for whatever does not fit.
PredictorSpec read_predictor(const std::filesystem::path& path);

/// The same from the file's text; `where` names it in messages.
PredictorSpec parse_predictor(std::string_view text, const std::string& where);

/// The text of a predictor.json: the same bytes for the same predictor, and numbers that read back unchanged.
std::string predictor_text(const PredictorSpec& predictor);

/// The plan of a predictor of kind ns, as it stands there.
Json json_of(const NsPlan<double>& plan);

}  // namespace epd
