using System.Collections.Generic;
using System.Globalization;
using System.Linq;

namespace Numbers
{
    public class Summary
    {
        private readonly IReadOnlyCollection<double> values;

        public Summary(IReadOnlyCollection<double> values) => this.values = values;

        public override string ToString() =>
            string.Format(CultureInfo.InvariantCulture, "count {0}\nsum {1}\nmean {2:F2}\n", values.Count, values.Sum(), values.Average());
    }
}
