#include <check.h>
#include "../list.h"

START_TEST(has_a_length)
{
    ck_assert_int_eq(length(), 3);
}
END_TEST
