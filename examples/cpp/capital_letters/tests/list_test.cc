#include <gtest/gtest.h>

TEST(List, HasALength) {}
