package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// title prints the title of a table.
func title(format string, args ...any) { fmt.Printf("\n### "+format+"\n\n", args...) }

// row prints a row of a table.
func row(cells ...string) { fmt.Println("| " + strings.Join(cells, " | ") + " |") }

// header prints the first row of a table.
func header(cells ...string) {
	row(cells...)
	row(slices.Repeat([]string{"---"}, len(cells))...)
}

// median returns the middle of values; of two in the middle, the lower one.
func median(values []float64) float64 {
	return slices.Sorted(slices.Values(values))[(len(values)-1)/2]
}

// spreadOf prints the median of values, and the lowest and the highest.
func spreadOf(format string, values []float64) string {
	if len(values) == 0 {
		return "none"
	}
	return fmt.Sprintf(format+" ("+format+"–"+format+")", median(values), slices.Min(values), slices.Max(values))
}

// meanOf prints the mean of a value of the samples. CPU time is counted in steps that are too coarse for one round.
func meanOf(samples []sample, value func(sample) float64) string {
	var sum float64
	for _, one := range samples {
		sum += value(one)
	}
	return fmt.Sprintf("%.2f", sum/float64(len(samples)))
}

// percentile returns the p-th percentile by the nearest-rank method, in milliseconds.
func percentile(times []time.Duration, p int) float64 {
	if len(times) == 0 {
		return 0
	}
	return millis(slices.Sorted(slices.Values(times))[max(0, (len(times)*p+99)/100-1)])
}

func millis(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

// column returns a value of each sample.
func column[S any](samples []S, value func(S) float64) (values []float64) {
	for _, sample := range samples {
		values = append(values, value(sample))
	}
	return values
}
