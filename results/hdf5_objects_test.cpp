#include "results/hdf5_objects.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace longseq::hdf5 {
namespace {

TEST(Text, WellFormedUtf8Stays) {
  for (const char* text : {"", "plain", "é ≤ 𝛼 \xF4\x8F\xBF\xBF", "\xED\x9F\xBF\xEE\x80\x80"}) {
    EXPECT_EQ(well_formed_utf8(text), text);
  }
}

TEST(Text, OtherBytesBecomeQuestionMarks) {
  EXPECT_EQ(well_formed_utf8("caf\xE9"), "caf?");                   // Latin-1
  EXPECT_EQ(well_formed_utf8("\xE2\x89"), "??");                    // cut short
  EXPECT_EQ(well_formed_utf8("\xC0\xAF"), "??");                    // overlong
  EXPECT_EQ(well_formed_utf8("\xE0\x9F\xBF"), "???");               // overlong
  EXPECT_EQ(well_formed_utf8("\xED\xA0\x80"), "???");               // a surrogate
  EXPECT_EQ(well_formed_utf8("\xF4\x90\x80\x80"), "????");          // beyond U+10FFFF
  EXPECT_EQ(well_formed_utf8(std::string_view("a\0b", 3)), "a?b");  // would end a fixed-length text
}

TEST(Text, WidthIsInWordsAndNeverOne) {
  EXPECT_EQ(text_width({}), 8u);
  EXPECT_EQ(text_width({"a"}), 8u);
  EXPECT_EQ(text_width({"a", "12345678"}), 8u);
  EXPECT_EQ(text_width({"a", "123456789"}), 16u);
}

TEST(Handle, SaysWhatCouldNotBeDoneAndWhy) {
  silence_errors();
  try {
    const Handle file(H5Fopen("/no/such/file", H5F_ACC_RDONLY, H5P_DEFAULT), "open '/no/such/file'");
    FAIL() << "nothing was thrown";
  } catch (const std::runtime_error& error) {
    const std::string message = error.what();
    EXPECT_EQ(message.rfind("HDF5 could not open '/no/such/file': ", 0), 0u) << message;
    EXPECT_NE(message.find("No such file"), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace longseq::hdf5
