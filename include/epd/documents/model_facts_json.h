#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "epd/core/model_facts.h"

namespace epd {

/// The facts from their JSON, contract version 1; `where` names it in messages. Throws Error, one line with the field,
/// for another contract version and for whatever is missing, unknown or impossible.
///   contract_version 1, dataset_name, resolution, channels, label_dim, sigma_min, sigma_max
///   condition "none" | "label" | "text", label_format "onehot" | "index" (with condition label)
///   precision "float32" | "float16" | "bfloat16", clamp, classifier
///   noise null | {kind "vp", beta_d, beta_min} | {kind "table", alphas_cumprod}
///   latent null | {image_resolution, image_channels}, text null | {tokens, width, [rows], [unconditional]}
///   source {file name: sha256}; [guided_channels], [guide], [sizes {multiple}]
ModelFacts parse_model_facts(std::string_view json, const std::string& where);

/// The JSON of the facts: the same bytes for the same facts, and numbers that read back unchanged.
std::string model_facts_text(const ModelFacts& facts);

/// The facts in a denoiser.ts, without its weights and without Torch: the entry */extra/facts.json of the zip archive
/// that TorchScript writes. Throws Error naming the file when it is missing, cut short, no archive, or holds no facts.
ModelFacts read_model_facts(const std::filesystem::path& path);
/// The same for images of a size that the user chose. Throws UsageError for one that the model cannot make.
ModelFacts read_model_facts(const std::filesystem::path& path, ImageSize size);

}  // namespace epd
