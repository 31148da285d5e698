// Problems drawn at random, for tests: every pattern, layout and pass, uneven everything.
#pragma once

#include <algorithm>
#include <vector>

#include "drivers/sharding/plan.h"
#include "kernels/random.h"

namespace longseq {

/// A pattern over so many tokens, whose parts are a few times shorter.
inline Pattern random_pattern(Random& random, std::int64_t seq_len) {
  const std::int64_t part = std::max<std::int64_t>(seq_len / 4, 1);
  Pattern pattern;
  pattern.kind = kPatterns[static_cast<std::size_t>(random.upto(0, 4))].kind;
  pattern.causal = random.upto(0, 1) == 1;
  pattern.seq_len = seq_len;
  pattern.window_left = random.upto(0, 2 * part);
  pattern.window_right = random.upto(0, 2 * part);
  pattern.global_tokens = random.upto(0, std::min(part + 5, seq_len));
  pattern.segment_length = random.upto(1, part + 5);
  pattern.memory_length = random.upto(0, 2 * part);
  pattern.document_starts = {0};
  for (std::int64_t at = random.upto(1, part + 5); at < seq_len; at += random.upto(1, part + 5))
    pattern.document_starts.push_back(at);
  return pattern;
}

inline Problem random_problem(Random& random) {
  Problem p;
  p.pattern = random_pattern(random, random.upto(1, 60));
  p.layout = {kLayouts[static_cast<std::size_t>(random.upto(0, 2))].kind, p.pattern.seq_len,
              static_cast<int>(random.upto(1, 9))};
  p.kv_heads = random.upto(1, 3);
  p.heads = p.kv_heads * random.upto(1, 3);
  p.head_dim = random.upto(1, 9);
  p.batch = random.upto(1, 2);
  p.pass = random.upto(0, 1) == 1 ? Pass::backward : Pass::forward;
  p.ulysses_degree = static_cast<int>(random.upto(0, 3));
  if (p.ulysses_degree > 0 && p.layout.ranks % p.ulysses_degree != 0) p.ulysses_degree = 0;
  return p;
}

/// Every position of a shard, one by one.
inline std::vector<std::int64_t> positions(ShardView shard) {
  std::vector<std::int64_t> list;
  for (const longseq::Run& run : shard) {
    for (std::int64_t t = 0; t < run.count; ++t) list.push_back(run.at(t));
  }
  return list;
}

}  // namespace longseq
