using System;
using System.Collections.Generic;
using System.Globalization;
using Numbers;

class Program
{
    static void Main()
    {
        var values = new List<double>();
        for (string line = Console.ReadLine(); line != null; line = Console.ReadLine())
        {
            values.Add(double.Parse(line, CultureInfo.InvariantCulture));
        }
        Console.Write(new Summary(values));
    }
}
