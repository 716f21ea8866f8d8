package load

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/framegate/framegate/resolver/plain"
)

// WriteJSON writes r as one JSON object on one line.
func (r *Result) WriteJSON(w io.Writer) error { return json.NewEncoder(plain.JSONLines(w)).Encode(r) }

// WriteText writes r as a table for people: a column for each side and one for the ratio.
func (r *Result) WriteText(w io.Writer) error {
	var table bytes.Buffer
	t := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, r.heading())

	columns := []Measured{r.Target}
	head := "\ttarget"
	if r.Baseline != nil {
		columns = append(columns, *r.Baseline)
		head += "\tbaseline\ttarget/baseline"
	}
	fmt.Fprintln(t, head)
	ratio := &Ratio{}
	if r.Ratio != nil {
		ratio = r.Ratio
	}
	// row prints one line; a ratio of 0 leaves its cell empty.
	row := func(name string, ratio float64, value func(Measured) string) {
		cells := []string{name}
		for _, m := range columns {
			cells = append(cells, value(m))
		}
		if ratio != 0 {
			cells = append(cells, fmt.Sprintf("%.2f", ratio))
		} else {
			cells = append(cells, "") // tabwriter aligns a column only over lines that have it
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	latency := func(name string, ratio float64, value func(LatencyUS) float64) {
		row("latency "+name, ratio, func(m Measured) string {
			if m.Calls == 0 {
				return "-"
			}
			return microseconds(value(m.LatencyUS))
		})
	}

	row("address", 0, func(m Measured) string { return m.Address })
	row("calls", 0, func(m Measured) string { return fmt.Sprint(m.Calls) })
	row("calls/s", ratio.Throughput, func(m Measured) string { return perSecond(m.Throughput.CallsPerSecond) })
	row("sent MB/s", 0, func(m Measured) string { return fmt.Sprintf("%.2f", m.Throughput.SentMBPerSecond) })
	row("received MB/s", 0, func(m Measured) string { return fmt.Sprintf("%.2f", m.Throughput.ReceivedMBPerSecond) })
	latency("mean", 0, func(l LatencyUS) float64 { return l.Mean })
	latency("p50", ratio.P50, func(l LatencyUS) float64 { return l.P50 })
	latency("p90", 0, func(l LatencyUS) float64 { return l.P90 })
	latency("p99", ratio.P99, func(l LatencyUS) float64 { return l.P99 })
	latency("p99.9", 0, func(l LatencyUS) float64 { return l.P999 })
	latency("max", 0, func(l LatencyUS) float64 { return l.Max })
	row("errors", 0, errorsCell)
	if r.RatePerSecond > 0 {
		row("unsent calls", 0, func(m Measured) string { return fmt.Sprint(m.UnsentCalls) })
	}
	for _, m := range columns {
		if m.FirstError != "" {
			fmt.Fprintf(t, "first error of %s: %s\n", plain.Text(m.Address), plain.Line(m.FirstError))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(table.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

func (r *Result) heading() string {
	pace := "as fast as they return"
	if r.RatePerSecond > 0 {
		pace = fmt.Sprintf("%d calls/s", r.RatePerSecond)
	}
	messages := ""
	if r.MessagesPerCall > 1 {
		messages = fmt.Sprintf(" × %d per call", r.MessagesPerCall)
	}
	early := ""
	if r.Interrupted {
		early = " (interrupted)"
	}
	return fmt.Sprintf("%s calls, %s; %d connections, %d in flight, %d bytes%s; %v per side%s", r.Mode, pace, r.Connections,
		r.Concurrency, r.SizeBytes, messages, time.Duration(r.DurationSeconds*float64(time.Second)), early)
}

// errorsCell returns "0", or errors by code, such as "12 (INTERNAL 2, UNAVAILABLE 10)".
func errorsCell(m Measured) string {
	if m.ErrorCount == 0 {
		return "0"
	}
	var parts []string
	for _, code := range slices.Sorted(maps.Keys(m.Errors)) {
		parts = append(parts, fmt.Sprintf("%s %d", code, m.Errors[code]))
	}
	return fmt.Sprintf("%d (%s)", m.ErrorCount, strings.Join(parts, ", "))
}

// perSecond writes a rate as a whole number, a small one with two decimals.
func perSecond(rate float64) string {
	if rate < 100 {
		return fmt.Sprintf("%.2f", rate)
	}
	return fmt.Sprintf("%.0f", rate)
}

// microseconds writes a latency with the unit that suits it, to about three figures.
func microseconds(us float64) string {
	switch {
	case us < 1e3:
		return fmt.Sprintf("%.0f µs", us)
	case us < 1e6:
		return fmt.Sprintf("%.2f ms", us/1e3)
	default:
		return fmt.Sprintf("%.2f s", us/1e6)
	}
}
