import std.stdio;

void main()
{
    writeln("one");
}
