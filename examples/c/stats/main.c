#include <stdio.h>
#include <stdlib.h>

#include "stats.h"

int main(void) {
    struct stats stats = {0};
    double value;
    while (scanf("%lf", &value) == 1) {
        stats_add(&stats, value);
    }
    stats_print(&stats, stdout);

    FILE *file = fopen("summary.txt", "w");
    if (file == NULL) {
        perror("summary.txt");
        return EXIT_FAILURE;
    }
    stats_print(&stats, file);
    return fclose(file) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
