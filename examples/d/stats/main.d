import std.conv : to;
import std.file : writeFile = write;
import std.stdio : stdin, write;

import stats;

void main()
{
    double[] values;
    foreach (line; stdin.byLine)
        values ~= line.to!double;
    const summary = summarise(values);
    write(summary);
    writeFile("summary.txt", summary);
}
