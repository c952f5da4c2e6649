using Xunit;

public class TwoTests
{
    [Fact]
    public void Counts() {}
}
