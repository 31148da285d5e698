// Seeded document boundaries for packed sequences.
#pragma once

#include <cstdint>
#include <vector>

namespace longseq {

/// Where documents start in a sequence of seq_len tokens: ascending, the first is 0, all < seq_len. Lengths
/// are independent and geometric on {1, 2, ...} with mean `mean_length`, P(length > n) = (1 -
/// 1/mean_length)^n; the last is cut at seq_len. The k-th length depends on (seed, mean_length, k) alone, so
/// a longer sequence keeps the boundaries of a shorter one. One number per document, whatever seq_len. Throws
/// std::invalid_argument if seq_len < 1 or mean_length is not a finite number >= 1.
std::vector<std::int64_t> document_starts(std::int64_t seq_len, double mean_length, std::uint64_t seed);

}  // namespace longseq
