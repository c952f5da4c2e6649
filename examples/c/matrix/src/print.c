#include "print.h"

#include <stdio.h>

void print_matrix(const struct matrix *matrix) {
    for (size_t row = 0; row < matrix->size; row++) {
        for (size_t column = 0; column < matrix->size; column++) {
            printf("%s%5.1f", column == 0 ? "" : " ", matrix->cell[row][column]);
        }
        printf("\n");
    }
}
