#include <stdio.h>

#include "list.h"

int main(void)
{
    printf("two of %d\n", length());
    return 0;
}
