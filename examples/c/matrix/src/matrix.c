#include "matrix.h"

struct matrix matrix_filled(size_t size, double first) {
    struct matrix matrix = {.size = size};
    for (size_t row = 0; row < size; row++) {
        for (size_t column = 0; column < size; column++) {
            matrix.cell[row][column] = first++;
        }
    }
    return matrix;
}

struct matrix matrix_identity(size_t size) {
    struct matrix matrix = {.size = size};
    for (size_t at = 0; at < size; at++) {
        matrix.cell[at][at] = 1.0;
    }
    return matrix;
}

struct matrix matrix_multiply(const struct matrix *a, const struct matrix *b) {
    struct matrix product = {.size = a->size};
    for (size_t row = 0; row < a->size; row++) {
        for (size_t column = 0; column < a->size; column++) {
            for (size_t at = 0; at < a->size; at++) {
                product.cell[row][column] += a->cell[row][at] * b->cell[at][column];
            }
        }
    }
    return product;
}

void matrix_scale(struct matrix *matrix, double factor) {
    for (size_t row = 0; row < matrix->size; row++) {
        for (size_t column = 0; column < matrix->size; column++) {
            matrix->cell[row][column] *= factor;
        }
    }
}

double matrix_trace(const struct matrix *matrix) {
    double trace = 0.0;
    for (size_t at = 0; at < matrix->size; at++) {
        trace += matrix->cell[at][at];
    }
    return trace;
}
