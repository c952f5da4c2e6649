#include "stats.h"

void stats_add(struct stats *stats, double value) {
    stats->count++;
    stats->sum += value;
}

void stats_print(const struct stats *stats, FILE *to) {
    fprintf(to, "count %d\nsum %.0f\nmean %.2f\n", stats->count, stats->sum, stats->sum / stats->count);
}
