using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
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
        var summary = new Summary(values).ToString();
        Console.Write(summary);
        File.WriteAllText("summary.txt", summary);
    }
}
