// Streams of seeded_normal(): one for each set of a layer's parameters.
#pragma once

#include <cstdint>

namespace longseq {

enum Stream : std::uint32_t {
  kEmbedding,
  kQueryWeights,
  kKeyWeights,
  kValueWeights,
  kBiasTable,
  kDigitWeights,
  kRelativeWeights,
  kContentBias,
  kPositionBias
};

}  // namespace longseq
