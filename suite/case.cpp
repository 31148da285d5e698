#include "suite/case.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace longseq {
namespace {

bool is_windowed(const Case& c) {
  return c.pattern == "local" || c.pattern == "global";
}

PatternKind kind_of(const std::string& name) {
  const auto row =
      std::find_if(kPatterns.begin(), kPatterns.end(), [&](const PatternRow& r) { return r.name == name; });
  if (row == kPatterns.end()) throw std::invalid_argument(fmt::format("pattern {}: no such pattern", name));
  return row->kind;
}

/// What tells the case's pattern from others of its kind: " w512+0", " T512 M256".
std::string pattern_numbers(const Case& c) {
  std::string text;
  if (is_windowed(c)) text += fmt::format(" w{}+{}", c.window_left, c.window_right);
  if (c.pattern == "global") text += fmt::format(" g{}", c.global_tokens);
  if (c.pattern == "segment") text += fmt::format(" T{} M{}", c.segment_length, c.memory_length);
  if (c.pattern == "document") text += fmt::format(" ~{}", c.document_length);
  return text;
}

}  // namespace

void resolve(Case& c) {
  if (c.kv_heads == 0) c.kv_heads = c.heads;
  if (c.pattern == "segment") c.causal = true;
  if (!is_windowed(c)) c.window_left = 0;
  if (!is_windowed(c) || c.causal) c.window_right = 0;
  if (c.pattern != "global") c.global_tokens = 0;
  if (c.pattern != "segment") c.segment_length = c.memory_length = 0;
  if (c.pattern != "document") c.document_length = 0;
  if (c.strategy != "usp" && c.strategy != "auto" && c.strategy != "all") c.ulysses_degree = 0;
}

void check_case(const Case& c) {
  const std::int64_t kv_heads = c.kv_heads == 0 ? c.heads : c.kv_heads;
  if (c.heads < 1 || kv_heads < 1 || c.heads % kv_heads != 0) {
    throw std::invalid_argument(fmt::format(
        "heads {} is no multiple of kv-heads {}: expected every key head to serve equally many query heads; "
        "hint: kv-heads 0 gives each query head its own",
        c.heads, kv_heads));
  }
  if (c.head_dim < 1 || c.head_dim > 256) {
    throw std::invalid_argument(fmt::format("head-dim {}: expected 1 to 256", c.head_dim));
  }
  if (c.position == "rotary" && c.head_dim % 2 != 0) {
    throw std::invalid_argument(
        fmt::format("head-dim {} with position rotary: expected an even number, as pairs are rotated; hint: "
                    "use head-dim {}",
                    c.head_dim, c.head_dim + 1));
  }
  if (c.batch < 1)
    throw std::invalid_argument(fmt::format("batch {}: expected 1 or more sequences", c.batch));
  const double numbers = static_cast<double>(c.batch) * static_cast<double>(c.heads) *
                         static_cast<double>(c.seq_len) * static_cast<double>(c.head_dim);
  constexpr std::int64_t kMostForTable = 1 << 30;  // (heads, 2·seq_len) is indexed with 32 bits
  if ((c.position == "alibi" || c.position == "elan") && c.seq_len > kMostForTable / c.heads) {
    throw std::invalid_argument(
        fmt::format("seq-len is {} with {} positions and {} heads: expected at most {}", c.seq_len,
                    c.position, c.heads, kMostForTable / c.heads));
  }
  constexpr double kMostNumbers = 72057594037927936.0;  // 2^56: the bytes of all tensors still fit 63 bits
  if (numbers >= kMostNumbers) {
    throw std::invalid_argument(
        fmt::format("batch {} · heads {} · seq-len {} · head-dim {} = {:.2g} numbers in one tensor: expected "
                    "fewer than 2^56",
                    c.batch, c.heads, c.seq_len, c.head_dim, numbers));
  }
  constexpr double kMostPairs =
      9223372036854775808.0;  // 2^63: visible pairs of all heads are counted exactly
  if (static_cast<double>(c.seq_len) * static_cast<double>(c.seq_len) * static_cast<double>(c.heads) >=
      kMostPairs) {
    throw std::invalid_argument(fmt::format(
        "heads {} · seq-len {}²: expected fewer than 2^63 pairs of queries and keys", c.heads, c.seq_len));
  }
  make_pattern(c, {0}).check();
}

Pattern make_pattern(const Case& c, std::vector<std::int64_t> document_starts) {
  Pattern pattern;
  pattern.kind = kind_of(c.pattern);
  pattern.causal = c.causal;
  pattern.seq_len = c.seq_len;
  pattern.window_left = c.window_left;
  pattern.window_right = c.window_right;
  pattern.global_tokens = c.global_tokens;
  pattern.segment_length = c.segment_length;
  pattern.memory_length = c.memory_length;
  if (pattern.kind == PatternKind::document) pattern.document_starts = std::move(document_starts);
  return pattern;
}

std::string label(const Case& c) {
  const std::string heads = c.kv_heads == 0 || c.kv_heads == c.heads
                                ? fmt::format("{}", c.heads)
                                : fmt::format("{}/{}", c.heads, c.kv_heads);
  std::string text = fmt::format("{}{}{} {}/{} S={}", c.pattern, pattern_numbers(c),
                                 c.causal ? " causal" : "", c.strategy, c.layout, c.seq_len);
  if (c.batch != 1) text += fmt::format(" B={}", c.batch);
  text += fmt::format(" H={} D={} {}", heads, c.head_dim, c.dtype);
  if (c.pass != "forward") text += " " + c.pass;
  if (c.position != "none") text += " " + c.position;
  if (c.dataset != "synthetic") text += " " + c.dataset;
  if (!c.overlap) text += " no-overlap";
  return text;
}

}  // namespace longseq
