import std.algorithm, std.array, std.conv, std.stdio;
import stats;

void main()
{
    auto values = stdin.byLineCopy.map!(to!double).array;
    write(summarise(values));
}
