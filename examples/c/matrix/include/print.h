#ifndef PRINT_H
#define PRINT_H

#include "matrix.h"

void print_matrix(const struct matrix *matrix);

#endif
