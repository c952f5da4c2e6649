#ifndef STATS_H
#define STATS_H

#include <stdio.h>

struct stats {
    int count;
    double sum;
};

void stats_add(struct stats *stats, double value);
void stats_print(const struct stats *stats, FILE *to);

#endif
