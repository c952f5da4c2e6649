// Multiplies two square matrices and checks the trace against the one that is given.
//
//     main [EXPECTED_TRACE]
//
// Exits with 3 when the trace differs.
#include <stdio.h>
#include <stdlib.h>

#include "matrix.h"
#include "print.h"

enum { TRACE_DIFFERS = 3 };

int main(int argc, char **argv) {
    struct matrix a = matrix_filled(3, 1.0);
    struct matrix b = matrix_identity(3);
    matrix_scale(&b, 2.5);

    struct matrix product = matrix_multiply(&a, &b);
    print_matrix(&product);
    double trace = matrix_trace(&product);
    printf("trace %.1f\n", trace);

    if (argc > 1 && strtod(argv[1], NULL) != trace) {
        fprintf(stderr, "the trace is not %s\n", argv[1]);
        return TRACE_DIFFERS;
    }
    return EXIT_SUCCESS;
}
