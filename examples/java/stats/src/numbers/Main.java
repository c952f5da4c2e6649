package numbers;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;

import numbers.stats.Summary;

public class Main {
    public static void main(String[] args) throws IOException {
        try (var lines = new BufferedReader(new InputStreamReader(System.in))) {
            System.out.print(Summary.of(lines.lines().map(Double::valueOf).toList()));
        }
    }
}
