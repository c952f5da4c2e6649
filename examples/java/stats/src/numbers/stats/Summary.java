package numbers.stats;

import java.util.List;
import java.util.Locale;

public record Summary(int count, double sum) {
    public static Summary of(List<Double> values) {
        return new Summary(values.size(), values.stream().mapToDouble(Double::doubleValue).sum());
    }

    @Override
    public String toString() {
        return String.format(Locale.ROOT, "count %d%nsum %.0f%nmean %.2f%n", count, sum, sum / count);
    }
}
