// Package stats says what a list of numbers is like.
package stats

import "fmt"

// Summary of some numbers.
type Summary struct {
	Count int
	Sum   float64
}

// Summarise adds them up.
func Summarise(values []float64) Summary {
	summary := Summary{Count: len(values)}
	for _, value := range values {
		summary.Sum += value
	}
	return summary
}

func (s Summary) String() string {
	return fmt.Sprintf("count %d\nsum %g\nmean %.2f\n", s.Count, s.Sum, s.Sum/float64(s.Count))
}
