using System;

class Two
{
    public static int Main(string[] args)
    {
        Console.WriteLine("two of " + new Cart().Count);
        return 0;
    }
}
