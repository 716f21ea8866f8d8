// Command testsummary reads the output of "go test -json" on standard input. It prints a line for each package, the output of
// each failed or skipped test, the reports of the race detector (which may be in the output of any test), and a closing line
// with the counts. With -count it prints only the closing line. It exits 1 if anything failed or no test passed.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
)

type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64
}

func main() {
	countOnly := flag.Bool("count", false, "print the closing line alone")
	flag.Parse()
	var passed, failed, skipped int
	failedPackages := 0
	output := map[string]*strings.Builder{}
	races := map[string]*raceReports{}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<20), 64<<20)
	say := func(format string, args ...any) {
		if !*countOnly {
			fmt.Printf(format, args...)
		}
	}
	for in.Scan() {
		var e event
		if err := json.Unmarshal(in.Bytes(), &e); err != nil {
			say("%s\n", in.Text()) // a line that is not JSON, such as a build error
			continue
		}
		key := e.Package + " " + e.Test
		switch e.Action {
		case "output", "build-output":
			if output[key] == nil {
				output[key] = &strings.Builder{}
			}
			output[key].WriteString(e.Output)
			if races[e.Package] == nil {
				races[e.Package] = &raceReports{}
			}
			races[e.Package].add(e.Output)
		case "pass", "fail", "skip":
			if e.Test == "" {
				if e.Action == "fail" {
					failedPackages++
					say("%s%s", races[e.Package], text(output[key]))
				}
				say("%-5s %-70s %6.1fs\n", e.Action, e.Package, e.Elapsed)
				continue
			}
			switch e.Action {
			case "pass":
				passed++
			case "fail":
				failed++
				say("%s", text(output[key]))
			case "skip":
				skipped++
				say("%s", text(output[key]))
			}
			delete(output, key)
		case "build-fail":
			say("%s", text(output[" "]))
		}
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped)
	if failed > 0 || failedPackages > 0 || passed == 0 {
		os.Exit(1)
	}
}

// raceReports collects the reports of the race detector from the output of a package.
type raceReports struct {
	all  strings.Builder
	open bool // the current line is inside a report
}

// add takes the next line of the output, and keeps it if it belongs to a report.
func (r *raceReports) add(line string) {
	r.open = r.open || strings.HasPrefix(line, "WARNING: DATA RACE")
	if r.open {
		r.all.WriteString(line)
	}
	if strings.HasPrefix(line, "==================") {
		r.open = false
	}
}

// String returns the reports; "" for nil.
func (r *raceReports) String() string {
	if r == nil {
		return ""
	}
	return r.all.String()
}

func text(b *strings.Builder) string {
	if b == nil {
		return ""
	}
	return b.String()
}
