// Philox4x32-10: a counter-based random generator. Block n of a stream is a function of n alone, so any rank
// can make any element of a tensor without making those before it. Source: Salmon et al., "Parallel random
// numbers: as easy as 1, 2, 3" (SC'11), section 4.3 and Random123 1.x.
#pragma once

#include <array>
#include <cstdint>

namespace longseq {

using PhiloxCounter = std::array<std::uint32_t, 4>;
using PhiloxKey = std::array<std::uint32_t, 2>;

/// The four 32-bit words at `counter` of the stream `key`.
constexpr PhiloxCounter philox4x32(PhiloxCounter counter, PhiloxKey key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t even = std::uint64_t{0xD2511F53} * counter[0];
    const std::uint64_t odd = std::uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<std::uint32_t>(odd >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(odd),
               static_cast<std::uint32_t>(even >> 32) ^ counter[3] ^ key[1],
               static_cast<std::uint32_t>(even)};
    key[0] += 0x9E3779B9;  // the golden ratio
    key[1] += 0xBB67AE85;  // sqrt(3) - 1
  }
  return counter;
}

/// The key of stream `stream` of `seed`: Philox itself separates the streams.
constexpr PhiloxKey philox_key(std::uint64_t seed, std::uint64_t stream) {
  const PhiloxCounter block =
      philox4x32({static_cast<std::uint32_t>(stream), static_cast<std::uint32_t>(stream >> 32), 0, 0},
                 {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
  return {block[0], block[1]};
}

}  // namespace longseq
