// The table of fields, and how it prints and stores a case.
#include <fmt/format.h>

#include <algorithm>

#include "suite/case.h"

namespace longseq {
namespace {

std::vector<std::string> pattern_names() {
  std::vector<std::string> names;
  for (const PatternRow& row : kPatterns) names.emplace_back(row.name);
  return names;
}

constexpr double kMostTokens = 2147483647.0;       // 2^31 - 1: row numbers fit 32 bits, visible pairs 63
constexpr double kMostHeads = 65535;               // as many streams of random numbers
constexpr double kMostSeeds = 4503599627370496.0;  // 2^52: exact as a double

std::vector<Field> make_fields() {
  const std::string_view pattern = "Pattern (who sees whom)", shape = "Shape and kind", content = "Content",
                         spread = "Spread over ranks", timing = "Timing";
  std::vector<Field> f;
  f.push_back({"pattern", pattern, &Case::pattern, "which keys a query sees"});
  f.back().choices = pattern_names();
  f.push_back({"causal", pattern, &Case::causal, "no query sees a later key (segment always so)"});
  f.back().is_flag = true;
  f.push_back({"window_left", pattern, &Case::window_left, "local, global: keys seen before the query", 0,
               kMostTokens});
  f.push_back({"window_right", pattern, &Case::window_right,
               "local, global: keys seen after the query; none if causal", 0, kMostTokens});
  f.push_back({"global_tokens", pattern, &Case::global_tokens,
               "global: the first tokens that see and are seen by all", 0, kMostTokens});
  f.push_back(
      {"segment_length", pattern, &Case::segment_length, "segment: tokens per segment", 1, kMostTokens});
  f.push_back({"memory_length", pattern, &Case::memory_length, "segment: tokens seen before the segment", 0,
               kMostTokens});
  f.push_back({"document_length", pattern, &Case::document_length,
               "document: mean of a seeded geometric distribution of lengths", 1, kMostTokens});
  f.push_back({"seq_len", shape, &Case::seq_len, "tokens in the sequence, over all ranks", 1, kMostTokens});
  f.push_back({"batch", shape, &Case::batch, "sequences", 1, kMostTokens});
  f.push_back({"heads", shape, &Case::heads, "query heads", 1, kMostHeads});
  f.push_back(
      {"kv_heads", shape, &Case::kv_heads, "key and value heads; 0: as many as heads", 0, kMostHeads});
  f.push_back({"head_dim", shape, &Case::head_dim, "numbers per head", 1, 256});
  f.push_back({"dtype", shape, &Case::dtype, "type of the stored numbers"});
  f.back().choices = {"f32", "bf16", "f64"};
  f.push_back(
      {"pass", shape, &Case::pass, "what is computed: outputs, gradients, or both one after the other"});
  f.back().choices = {"forward", "backward", "both"};
  f.push_back({"position", shape, &Case::position, "position term of the scores"});
  f.back().choices = {"none", "rotary", "alibi", "learned", "elan", "relative"};
  f.push_back(
      {"dataset", content, &Case::dataset, "synthetic, a corpus (longseq data list) or a file's path"});
  f.push_back({"seed", content, &Case::seed, "of everything that is random", 0, kMostSeeds});
  f.push_back({"strategy", spread, &Case::strategy, "how queries meet keys of other ranks"});
  f.back().planned = {"ring", "allgather", "ulysses", "usp", "halo", "auto", "all"};
  f.push_back({"ulysses_degree", spread, &Case::ulysses_degree, "usp: ranks that share heads; 0: chosen", 0,
               kMostHeads});
  f.back().needs_strategy = "usp";
  f.push_back({"layout", spread, &Case::layout, "which rank owns which positions"});
  f.push_back({"overlap", spread, &Case::overlap, "communicate while computing (off: the control)"});
  f.push_back(
      {"threads", spread, &Case::threads, "per rank; 0: the cores free divided by the ranks there", 0, 4096});
  f.push_back({"repetitions", timing, &Case::repetitions, "at least so many", 1, 1e6});
  f.push_back({"confidence", timing, &Case::confidence, "of the median's interval", 0.5, 0.9999});
  f.push_back({"max_time", timing, &Case::max_time, "seconds per case, at most", 0.001, 1e6});
  return f;
}

}  // namespace

std::span<const Field> case_fields() {
  static const std::vector<Field> all = make_fields();
  return all;
}

std::string dashed(std::string_view field_name) {
  std::string name(field_name);
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

const Field* find_field(std::string_view name) {
  const auto all = case_fields();
  const auto found = std::find_if(all.begin(), all.end(), [&](const Field& field) {
    return field.name == name || dashed(field.name) == name;
  });
  return found == all.end() ? nullptr : &*found;
}

std::vector<std::string> choices_of(const Field& field, const Choices& choices) {
  if (field.name == "strategy") return choices.strategies;
  if (field.name == "layout") return choices.layouts;
  return field.choices;
}

std::string field_text(const Case& c, const Field& field) {
  return std::visit(
      [&](auto member) -> std::string {
        const auto& value = c.*member;
        if constexpr (std::is_same_v<std::remove_cvref_t<decltype(value)>, bool>)
          return value ? "on" : "off";
        else
          return fmt::format("{}", value);
      },
      field.member);
}

std::vector<std::pair<std::string, Scalar>> fields(const Case& c) {
  std::vector<std::pair<std::string, Scalar>> all;
  for (const Field& field : case_fields()) {
    all.emplace_back(field.name, std::visit([&](auto member) { return Scalar(c.*member); }, field.member));
  }
  return all;
}

std::string canonical_text(const Case& c) {
  std::string text;
  for (const Field& field : case_fields()) {
    fmt::format_to(std::back_inserter(text), "{}{}={}", text.empty() ? "" : " ", field.name,
                   field_text(c, field));
  }
  return text;
}

}  // namespace longseq
