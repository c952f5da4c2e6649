package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"

	"example.com/numbers/stats"
)

func main() {
	var values []float64
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		value, err := strconv.ParseFloat(lines.Text(), 64)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		values = append(values, value)
	}
	summary := stats.Summarise(values)
	fmt.Print(summary)
	if err := os.WriteFile("summary.txt", []byte(summary.String()), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
