// What is asked for ahead of its use: prefetches have no result, so a fault would only ever be slow.
#include "kernels/tiles/coming.h"

#include <gtest/gtest.h>

#include <set>
#include <utility>
#include <vector>

#include "kernels/tensor.h"

namespace longseq::detail {
namespace {

constexpr std::int64_t kQuarter = 16;

/// Where the quarters begin that are asked for until there are none, `most` of them at a time.
std::vector<const char*> asked(Coming& coming, std::int64_t most) {
  std::vector<const char*> all;
  for (;;) {
    const Coming::Stretch stretch = coming.next(most);
    if (stretch.at == reinterpret_cast<const char*>(&coming)) {
      EXPECT_EQ(stretch.quarters, most);
      return all;
    }
    EXPECT_GE(stretch.quarters, 1);
    EXPECT_LE(stretch.quarters, most);
    for (std::int64_t n = 0; n < stretch.quarters; ++n) all.push_back(stretch.at + n * kQuarter);
  }
}

/// Every byte of the rows, and nothing that begins in none of them.
void expect_rows(const std::vector<const char*>& quarters, const TensorView<const float>& view,
                 const std::vector<Interval>& ranges) {
  std::set<const char*> bytes, covered;
  for (const Interval& rows : ranges) {
    for (std::int64_t t = rows.begin; t < rows.end; ++t) {
      const char* const row = reinterpret_cast<const char*>(view.row(0, 0, t));
      for (std::int64_t b = 0; b < view.shape.head_dim * 4; ++b) bytes.insert(row + b);
    }
  }
  for (const char* quarter : quarters) {
    EXPECT_TRUE(bytes.contains(quarter));
    for (std::int64_t b = 0; b < kQuarter; ++b)
      if (bytes.contains(quarter + b)) covered.insert(quarter + b);
  }
  EXPECT_TRUE(covered == bytes) << covered.size() << " of " << bytes.size();
}

TEST(Coming, AsksForEveryByteOfTheRowsAndForNothingElse) {
  for (const std::int64_t head_dim : {1, 7, 16, 40, 256}) {
    for (const std::int64_t gap : {0, 24}) {
      Tensor<float> tensor({1, 1, 30, head_dim + gap});
      TensorView<const float> view = std::as_const(tensor).view();
      view.shape.head_dim = head_dim;
      const std::vector<Interval> ranges{{2, 3}, {5, 9}, {20, 30}};
      for (const std::int64_t most : {1, 3, 63, 255}) {
        Coming coming;
        for (const Interval& rows : ranges) coming.add(view, 0, 0, rows);
        expect_rows(asked(coming, most), view, ranges);
      }
    }
  }
}

TEST(Coming, GoesOnWhereItWasAfterMakingRoom) {
  const Tensor<float> tensor({1, 1, 8, 32});
  const TensorView<const float> view = tensor.view();
  Coming coming;
  coming.add(view, 0, 0, {0, 1});
  coming.add(view, 0, 0, {1, 3});
  const Coming::Stretch first = coming.next(8), second = coming.next(3);
  EXPECT_EQ(first.at, reinterpret_cast<const char*>(view.row(0, 0, 0)));
  EXPECT_EQ(second.at, reinterpret_cast<const char*>(view.row(0, 0, 1)));
  coming.tidy();
  coming.add(view, 0, 0, {5, 6});
  std::vector<const char*> rest = asked(coming, 5);
  ASSERT_EQ(rest.size(), 13u + 8u);
  EXPECT_EQ(rest[0], second.at + 3 * kQuarter);
  EXPECT_EQ(rest[13], reinterpret_cast<const char*>(view.row(0, 0, 5)));
  coming.add(view, 0, 0, {6, 7});
  coming.clear();
  EXPECT_TRUE(asked(coming, 5).empty());
}

TEST(Coming, ForgetsKeysAndKeepsTheRowsOfTiles) {
  const Tensor<float> tensor({1, 2, 20, 40});
  TensorView<const float> view = tensor.view();
  view.shape.head_dim = 32;  // rows that are not dense
  TensorView<const float> second = view;
  second.data = view.row(0, 1, 0);
  // Nothing, some of the first key, all of it, some of a tile's rows, and some of the keys after them.
  for (const std::int64_t taken : {0, 3, 8, 11, 16, 19, 24, 27, 32, 37}) {
    Coming coming;
    coming.add(view, 0, 0, {2, 3});
    coming.add(view, 0, FoldedRows{0, 1, {4, 6}});
    coming.add(view, 0, 0, {8, 12});
    coming.add(view, 0, FoldedRows{0, 2, {20, 24}});  // tokens 10 and 11 of both heads
    std::vector<const char*> before;
    while (static_cast<std::int64_t>(before.size()) < taken) {
      const Coming::Stretch stretch = coming.next(taken - static_cast<std::int64_t>(before.size()));
      for (std::int64_t n = 0; n < stretch.quarters; ++n) before.push_back(stretch.at + n * kQuarter);
    }
    coming.forget_keys();
    std::vector<const char*> all = asked(coming, 5);
    const std::int64_t before_keys = std::min<std::int64_t>(8, taken),
                       of_keys = std::min<std::int64_t>(24, taken);
    EXPECT_EQ(static_cast<std::int64_t>(all.size()), 8 * 6 - (of_keys - before_keys)) << taken;
    all.insert(all.end(), before.begin() + before_keys, before.begin() + of_keys);
    std::vector<const char*> first, other;
    for (const char* at : all)
      (at < reinterpret_cast<const char*>(second.data) ? first : other).push_back(at);
    expect_rows(first, view, {{4, 6}, {10, 12}});
    expect_rows(other, second, {{10, 12}});
  }
}

}  // namespace
}  // namespace longseq::detail
