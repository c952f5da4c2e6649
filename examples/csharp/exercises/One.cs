class One
{
    static void Main()
    {
        System.Console.WriteLine("one");
    }
}
