#include "suite/verdict.h"

#include <gtest/gtest.h>

namespace longseq {
namespace {

TEST(Verdict, HoldsOnAllThreeAxesOnly) {
  EXPECT_FALSE(holds({}));
  EXPECT_TRUE(holds({true, true, true, {}}));
  EXPECT_FALSE(holds({false, true, true, {}}));
  EXPECT_FALSE(holds({true, false, true, {}}));
  EXPECT_FALSE(holds({true, true, false, {}}));
}

TEST(Verdict, IsPrintedAxisByAxis) {
  EXPECT_EQ(axes({true, true, true, {}}), "VALID CONVERGED CLEAN");
  EXPECT_EQ(axes({true, false, false, {"too slow", "too loud"}}), "VALID NOT CONVERGED NOT CLEAN");
}

}  // namespace
}  // namespace longseq
