package replay

import (
	"sync"
)

// Difference is how the answer to a call that was made again differs from the recorded one, at first.
type Difference struct {
	Call     string `json:"call" yaml:"call"`
	Method   string `json:"method" yaml:"method"`
	What     string `json:"what" yaml:"what"` // code, message #0, messages or trailer NAME
	Recorded string `json:"recorded" yaml:"recorded"`
	Now      string `json:"now" yaml:"now"`
}

// Report sums up a run.
type Report struct {
	Calls       int            `json:"calls" yaml:"calls"`           // that were made
	Unfinished  int            `json:"unfinished" yaml:"unfinished"` // of which the recording has no end: they were not made, or cut off
	Lossy       int            `json:"lossy" yaml:"lossy"`           // of which messages were not recorded: not compared
	Codes       map[string]int `json:"codes" yaml:"codes"`           // recorded -> now
	Same        int            `json:"same" yaml:"same"`
	Different   int            `json:"different" yaml:"different"`
	Differences []Difference   `json:"differences" yaml:"differences"`       // the first ones
	Torn        []string       `json:"torn,omitempty" yaml:"torn,omitempty"` // files that end within an entry
}

// maxDifferences is how many differences a report has.
const maxDifferences = 1000

// results collects what calls come to.
type results struct {
	mu     sync.Mutex // guards report
	report Report
	tell   func(Difference) // is told of each difference; may be nil
}

// add adds a call, with how it differs, if it does.
func (r *results) add(recorded, now string, lossy bool, d *Difference) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Calls++
	r.report.Codes[recorded+" -> "+now]++
	switch {
	case lossy:
		r.report.Lossy++
	case d == nil:
		r.report.Same++
	default:
		r.report.Different++
		if len(r.report.Differences) < maxDifferences {
			r.report.Differences = append(r.report.Differences, *d)
		}
		if r.tell != nil {
			r.tell(*d)
		}
	}
}
