import std.stdio;
import list;

void main()
{
    writeln("two of ", length());
}
