module stats;

import std.format : format;

string summarise(const double[] values)
{
    double sum = 0;
    foreach (value; values)
        sum += value;
    return format("count %d\nsum %g\nmean %.2f\n", values.length, sum, sum / values.length);
}
