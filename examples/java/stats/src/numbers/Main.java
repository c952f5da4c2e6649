package numbers;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.file.Files;
import java.nio.file.Path;

import numbers.stats.Summary;

public class Main {
    public static void main(String[] args) throws IOException {
        try (var lines = new BufferedReader(new InputStreamReader(System.in))) {
            var summary = Summary.of(lines.lines().map(Double::valueOf).toList()).toString();
            System.out.print(summary);
            Files.writeString(Path.of("summary.txt"), summary);
        }
    }
}
