// Results that waves give themselves, element by element: each row gets its own from the last wave that adds
// to it, or is left.
#include "drivers/execution/waves.h"

#include <gtest/gtest.h>

#include <vector>

#include "kernels/random.h"

namespace longseq {
namespace {

constexpr std::int64_t kRows = 12, kHeads = 4;
constexpr int kBuffers = 2;

TEST(Waves, GiveTheResultsOfRowsThatNoLaterWaveAddsTo) {
  std::vector<float> memory(static_cast<std::size_t>(kRows * kHeads));
  Random random(3);
  const auto interval = [&](std::int64_t end) {
    const std::int64_t begin = random.upto(0, end - 1);
    return Interval{begin, random.upto(begin + 1, end)};
  };
  const auto view = [&](Interval heads) {
    return dense_view(memory.data(), {1, kHeads, kRows, 1}).heads(heads);
  };
  const ResultOf<float> result_of = [&](int buffer, Interval heads) {
    return buffer == 0 ? AttentionResult<float>{view(heads), view(heads)} : AttentionResult<float>{};
  };
  for (int trial = 0; trial < 500; ++trial) {
    std::vector<ForwardWave<float>> waves(static_cast<std::size_t>(random.upto(1, 5)));
    int last[kBuffers][kHeads][kRows] = {};  // the wave, from 1 on
    for (std::size_t w = 0; w < waves.size(); ++w) {
      waves[w].heads = interval(kHeads);
      for (int buffer = 0; buffer < kBuffers; ++buffer) {
        const Interval rows = interval(kRows);
        const TensorView<float> own = view(waves[w].heads).tokens(rows);
        waves[w].places.push_back({buffer, rows});
        waves[w].blocks.push_back({own, {rows.begin, 1, rows.size()}, {own, own, own}, {}});
        for (std::int64_t h = waves[w].heads.begin; h < waves[w].heads.end; ++h) {
          for (std::int64_t row = rows.begin; row < rows.end; ++row)
            last[buffer][h][row] = static_cast<int>(w) + 1;
        }
      }
    }
    std::map<int, Areas> later;
    for (std::size_t w = waves.size(); w-- > 0;) {
      const std::vector<Place> places = waves[w].places;
      int given[kHeads][kRows] = {};
      for (const auto& [buffer, rows] : give_results<float>(waves[w], later, result_of)) {
        ASSERT_EQ(buffer, 0);
        ASSERT_EQ(rows.heads, waves[w].heads);
        for (std::int64_t h = rows.heads.begin; h < rows.heads.end; ++h) {
          for (std::int64_t row = rows.rows.begin; row < rows.rows.end; ++row) ++given[h][row];
        }
      }
      std::vector<std::int64_t> rows_of_blocks(kBuffers);
      for (std::size_t n = 0; n < waves[w].blocks.size(); ++n) {
        const QueryBlock<float>& block = waves[w].blocks[n];
        const auto [buffer, rows] = waves[w].places[n];
        EXPECT_EQ(block.positions, (longseq::Run{rows.begin, 1, rows.size()}));
        EXPECT_EQ(block.q.data, view(waves[w].heads).tokens(rows).data);
        EXPECT_EQ(block.state.sum.data, block.q.data);
        EXPECT_EQ(block.result.lse.data, block.result.wanted() ? block.q.data : nullptr);
        rows_of_blocks[static_cast<std::size_t>(buffer)] += rows.size();
        for (std::int64_t row = rows.begin; row < rows.end; ++row) {
          bool all_last = buffer == 0;
          for (std::int64_t h = waves[w].heads.begin; h < waves[w].heads.end; ++h) {
            EXPECT_EQ(buffer == 0 ? given[h][row] : 0, block.result.wanted() ? 1 : 0);
            all_last = all_last && last[0][h][row] == static_cast<int>(w) + 1;
          }
          EXPECT_EQ(block.result.wanted(), all_last) << "trial " << trial << " wave " << w << " row " << row;
        }
      }
      for (const Place& place : places)
        EXPECT_EQ(rows_of_blocks[static_cast<std::size_t>(place.buffer)], place.rows.size());
    }
  }
}

}  // namespace
}  // namespace longseq
