#include "list.h"

int length(void)
{
    return 3;
}

#ifdef TRY_LIST
int main(void)
{
    return length() == 3 ? 0 : 1;
}
#endif
