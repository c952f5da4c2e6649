import std.conv : to;
import std.stdio : stdin, write;

import stats;

void main()
{
    double[] values;
    foreach (line; stdin.byLine)
        values ~= line.to!double;
    write(summarise(values));
}
