#ifndef MATRIX_H
#define MATRIX_H

#include <stddef.h>

enum { MATRIX_MAX = 8 };

struct matrix {
    size_t size;
    double cell[MATRIX_MAX][MATRIX_MAX];
};

/// Counts up from `first`, row by row.
struct matrix matrix_filled(size_t size, double first);
struct matrix matrix_identity(size_t size);
struct matrix matrix_multiply(const struct matrix *a, const struct matrix *b);
void matrix_scale(struct matrix *matrix, double factor);
double matrix_trace(const struct matrix *matrix);

#endif
