module stats;

import std.algorithm.iteration : sum;
import std.format : format;

string summarise(const double[] values)
{
    const total = values.sum;
    return format("count %d\nsum %g\nmean %.2f\n", values.length, total, total / values.length);
}
